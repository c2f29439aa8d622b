"""SalUn: random labels on the salient weights only; all others stay as they are, to the bit.

Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-Based Weight Saliency" (arXiv 2310.12508). Loss and
mask are in `objectives`, with what is taken from the released code.
"""

from torch import Tensor

from unrelearn.module import DiffusionModule, Task
from unrelearn.objectives import random_label_losses, saliency_mask


class SalUn(DiffusionModule):
    """Args:
    retain_weight: weight of the retain loss, both terms being means over elements.
    saliency_fraction: share of all trainable weights that may move, in (0, 1].
    saliency_guidance_scale: guidance of the prediction whose gradient ranks the weights.
    """

    passes = (2, 1)

    def __init__(self, task: Task, *, retain_weight: float, saliency_fraction: float, saliency_guidance_scale: float,
                 **arguments):
        super().__init__(task, **arguments)
        self.retain_weight = retain_weight
        self.saliency_fraction = saliency_fraction
        self.saliency_guidance_scale = saliency_guidance_scale

    def prepare(self) -> None:
        self.gradient_mask = saliency_mask(self, self.saliency_fraction, self.saliency_guidance_scale)

    def losses(self) -> dict[str, Tensor]:
        return random_label_losses(self, self.retain_weight)
