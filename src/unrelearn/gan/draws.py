"""Random numbers of an ensemble: each replica's are a function of its own seed and of the step."""

from collections.abc import Callable

import torch
from torch import Tensor

from unrelearn.randomness import generator_for

BLOCK = 16  # steps that are drawn at once: a generator costs as much as what it draws


class Draws:
    """What a replica draws does not depend on how many others there are.

    Args:
        seeds: of the replicas.
        device: where the numbers are.
    """

    def __init__(self, seeds: list[int], device: torch.device | str = "cpu"):
        self.seeds, self.device = seeds, device
        self._blocks: dict[str, tuple[tuple, Tensor]] = {}

    def normal(self, name: str, step: int, *shape: int) -> Tensor:
        """(R, *shape) of N(0, 1)."""
        return self._of_step(name, step, shape, torch.randn)

    def uniform(self, name: str, step: int, *shape: int) -> Tensor:
        """(R, *shape) in [0, 1)."""
        return self._of_step(name, step, shape, torch.rand)

    def batch(self, step: int, rows: int, size: int) -> Tensor:
        """Rows (R, size) of shuffled epochs; the last part of an epoch that is no batch is left."""
        each = rows // size
        epoch, place = divmod(step, each)
        order = self._kept(
            "epoch", (epoch, rows), lambda g: torch.randperm(rows, generator=g, device=self.device)
        )
        return order[:, place * size : (place + 1) * size]

    def _of_step(
        self, name: str, step: int, shape: tuple[int, ...], draw: Callable[..., Tensor]
    ) -> Tensor:
        block, place = divmod(step, BLOCK)
        drawn = self._kept(
            name, (block, *shape), lambda g: draw(BLOCK, *shape, generator=g, device=self.device)
        )
        return drawn[:, place]

    def _kept(self, name: str, which: tuple, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        known = self._blocks.get(name)
        if known is None or known[0] != which:
            generators = [
                generator_for(seed, name, which[0], device=self.device) for seed in self.seeds
            ]
            known = (which, torch.stack([draw(g) for g in generators]))
            self._blocks[name] = known
        return known[1]
