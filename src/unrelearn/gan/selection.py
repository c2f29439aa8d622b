"""Generators of the step whose rows were nearest to the training rows, as the released code keeps
them. It looks at the training rows, so that no guarantee of privacy survives it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unrelearn.gan.federation import Federation

LOOKS = 10  # over a training
RECORDS = 1000  # that are published to look at


class BestGenerators:
    """
    Args:
        distance: of a table (records, places), all parties' columns side by side, to the real one.
    """

    def __init__(self, federation: Federation, distance: Callable[[Tensor], float]):
        self.federation, self.distance = federation, distance
        self.every = max(1, federation.settings.max_steps // LOOKS)
        self.state: dict[str, Tensor] = {}

    def look(self, step: int) -> None:
        """Keep, of each replica, what is nearer than all before."""
        if step % self.every:
            return
        tables = torch.cat(self.federation.publish(RECORDS), -1)
        distances = torch.tensor([self.distance(table.cpu()) for table in tables])
        known = self.state.get("distances", torch.full_like(distances, torch.inf))
        nearer = distances < known
        now = {
            name: value
            for name, value in self.federation.state().items()
            if ("generator/" in name and name.count("/") == 1) or "running/" in name
        }
        for name, value in now.items():
            kept = self.state.get(name, value)
            chosen = nearer.to(value.device).view(-1, *[1] * (value.ndim - 1))
            self.state[name] = torch.where(chosen, value, kept)
        self.state["distances"] = torch.where(nearer, distances, known)
