"""SalUn-soft: random labels, and after every step a soft threshold that draws each weight back to
its original value and puts most of them there.

Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-Based Weight Saliency" (arXiv
2310.12508), the variant without a mask: the loss of `random_label` with beta |theta - theta_o|_1,
whose proximal step is, with Delta = theta - theta_o after the optimiser's step,

    theta <- theta_o + sign(Delta) max(|Delta| - tau, 0),   tau = the r-quantile of |Delta|,
                                                            r = mask_ratio (1 - step / max_steps)

so that a share r of the weights is as in the original to the bit, all of them in the beginning if
mask_ratio is 1, hardly any in the end. tau by a quantile is the released classification code's. Two
defects of that code are left out: theta_o there is the model at the beginning of each epoch, so
that the anchor moves along and nothing holds the model to the original; and the key `mask_ratio`
can not be typed, as its parser lacks it. There r changes from epoch to epoch, here in each step.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.method import Method
from unrelearn.objectives import random_labels
from unrelearn.ranges import Probability, Weight

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class SalUnSoft(Method):
    retain_weight: Weight  # of the retain loss, both terms being means over elements
    mask_ratio: Probability  # share of the weights that is put back after the first step

    passes = (2, 1)

    def prepare(self, t: "Classifying") -> None:
        moving = [p for p in t.network.parameters() if p.requires_grad]
        self.anchors = [(p, p.detach().clone()) for p in moving]

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        return random_labels(t, self.retain_weight)

    def after_step(self, t: "Classifying") -> None:
        changes = [p - start for p, start in self.anchors]
        threshold = quantile(changes, self.mask_ratio * (1 - t.step / self.max_steps))
        for (p, start), change in zip(self.anchors, changes, strict=True):
            shrunk = start + change.sign() * (change.abs() - threshold)
            p.copy_(torch.where(change.abs() > threshold, shrunk, start))


def quantile(changes: list[Tensor], share: float) -> Tensor:
    """The size () that at least so many of all entries do not exceed: int(share * P) of P, share in
    [0, 1]; 0 where these are none.
    """
    sizes = torch.cat([change.abs().flatten() for change in changes])
    count = int(share * len(sizes))
    return sizes.kthvalue(count).values if count else sizes.new_zeros(())
