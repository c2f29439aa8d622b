"""Random labels: under c_f, answer as under another class. The loss is in
`objectives.random_label_losses`.
"""

from torch import Tensor

from unrelearn.diffusion.objectives import random_label_losses
from unrelearn.module import DiffusionModule, Task


class RandomLabel(DiffusionModule):
    """Args: retain_weight: weight of the retain loss, both terms being means over elements."""

    passes = (2, 1)

    def __init__(self, task: Task, *, retain_weight: float, **arguments):
        super().__init__(task, **arguments)
        self.retain_weight = retain_weight

    def losses(self) -> dict[str, Tensor]:
        return random_label_losses(self, self.retain_weight)
