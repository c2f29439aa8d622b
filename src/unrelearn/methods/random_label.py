"""Random labels: under c_f, answer as under another class. The loss is in
`objectives.random_labels`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Method
from unrelearn.objectives import random_labels
from unrelearn.ranges import Weight

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class RandomLabel(Method):
    retain_weight: Weight  # of the retain loss, both terms being means over elements

    passes = (2, 1)

    def losses(self, t: "Training") -> dict[str, Tensor]:
        return random_labels(t, self.retain_weight)
