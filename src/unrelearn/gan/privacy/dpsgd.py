"""DP-SGD (Abadi et al. 2016, 1607.00133) of all critics: the generators are post-processing.

A record is clipped with its generated partner and its penalty as one, as noising the real term
alone diverges.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unrelearn.gan.accounting import LEAST, POISSON, Gaussian, noise_multiplier
from unrelearn.gan.draws import Draws
from unrelearn.gan.privacy.none import AccountedTraining, Privacy, RowBatch
from unrelearn.ranges import Delta, Positive


@dataclass(kw_only=True)
class DPSGD(Privacy):
    """sum over records of g_j min(1, C / ||g_j||) + sigma C n, over the expected batch.

    ||g_j|| is of the weights of all critics, the server's too; where there is no server, each
    party clips its own, and the sensitivities of a record's parts add in squares.

    Args:
        epsilon, delta: of a record, in all parties; or
        noise_multiplier: deviation of the noise over the sensitivity.
        clip: C.
    """

    per_record: ClassVar[bool] = True
    guaranteed: ClassVar[bool] = True
    least_noise: ClassVar[float] = LEAST
    epsilon: Positive | None
    delta: Delta | None
    noise_multiplier: Positive | None
    clip: Positive
    parts: int = 1  # that clip by themselves, which the training tells

    def prepared(self, training: AccountedTraining) -> Privacy:
        super().prepared(training)
        self.parts = 1 if training.joined else training.parties
        if self.noise_multiplier is None:
            assert self.epsilon is not None and self.delta is not None
            self.noise_multiplier = noise_multiplier(mechanism(training), self.epsilon, self.delta)
        return self

    @property
    def noise_std(self) -> float:  # type: ignore[override]
        assert self.noise_multiplier is not None
        return self.noise_multiplier * self.clip * self.parts**0.5

    def batch(self, draws: Draws, step: int, size: int) -> RowBatch:
        """Each record with probability size / N, in every replica by itself; the largest batch
        says how many places there are, of which others leave some empty.
        """
        drawn = draws.uniform("drawn", step, self.records) < size / self.records
        counts = drawn.sum(1)
        places = max(1, int(counts.max()))
        order = torch.argsort(drawn.to(torch.int8), dim=1, descending=True, stable=True)
        present = torch.arange(places, device=drawn.device) < counts[:, None]
        # as many latents whatever was drawn, as BatchNorm would tell
        latents = min(self.records, size + 10 * int(size**0.5) + 10)
        assert places <= latents, "a batch beyond ten standard deviations"
        return RowBatch(order[:, :places], present.float(), latents)

    def factors(self, squares: Tensor) -> Tensor:
        return (self.clip / squares.clamp(min=1e-24).sqrt()).clamp(max=1)

    def account(self, training: AccountedTraining) -> dict[str, Any]:
        repeated, sigma = mechanism(training), self.noise_multiplier
        assert sigma is not None
        epsilon = None if self.delta is None else repeated.epsilon(sigma, self.delta)
        return {
            "mechanism": f"Gaussian, each record's gradient by all critics' weights{training.also}",
            "sampling": repeated.sampling,
            "adjacency": repeated.adjacency,
            "noise_multiplier": sigma,
            "epsilon_claimed": epsilon,
            "epsilon_record": epsilon,
            "delta": self.delta,
            "no_guarantee": "" if epsilon is not None else "no delta was named",
        }


def mechanism(training: AccountedTraining) -> Gaussian:
    size, steps = training.batch_size, training.steps
    return Gaussian(POISSON, training.records, size, steps, training.released)
