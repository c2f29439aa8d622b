"""SalUn: random labels on the salient weights only; all others stay as they are, to the bit.

Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-Based Weight Saliency" (arXiv
2310.12508). The loss is in `objectives`, the mask in `masks`, with what is taken from the released
code.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Method
from unrelearn.objectives import random_labels
from unrelearn.ranges import Share, Weight

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class SalUn(Method):
    retain_weight: Weight  # of the retain loss, both terms being means over elements
    saliency_fraction: Share = field()  # of all trainable weights those that may move

    passes = (2, 1)

    def losses(self, t: "Training") -> dict[str, Tensor]:
        return random_labels(t, self.retain_weight)
