"""SalUn: random labels on the salient weights only; all others stay as they are, to the bit.

Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-Based Weight Saliency" (arXiv
2310.12508). The loss is in `objectives`, the mask in `masks`, with what is taken from the released
code.
"""

from torch import Tensor

from unrelearn.diffusion.objectives import random_label_losses
from unrelearn.module import DiffusionModule, Task


class SalUn(DiffusionModule):
    """Args:
    retain_weight: weight of the retain loss, both terms being means over elements.
    saliency_fraction: share of all trainable weights that may move, in (0, 1].
    """

    passes = (2, 1)

    def __init__(self, task: Task, *, retain_weight: float, saliency_fraction: float, **arguments):
        super().__init__(task, saliency_fraction=saliency_fraction, **arguments)
        self.retain_weight = retain_weight

    def losses(self) -> dict[str, Tensor]:
        return random_label_losses(self, self.retain_weight)
