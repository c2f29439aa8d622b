"""SFR-on: in turns, climb the forget set's loss on the weights that matter for it, and denoise the
retain set on all weights.

Huang et al. 2024, "Unified Gradient-Based Machine Unlearning with Remain Geometry Enhancement"
(NeurIPS 2024, arXiv 2409.19732), as released for class-conditional DDPMs. Of K pairs of steps, pair
k is, with l_i the loss of image i,

    forget step   -alpha_k sum_i w_i l_i   on the weights with F_f / F_r > fisher_ratio,
                  w_i = l_i^-loss_power / sum_j l_j^-loss_power,   alpha_k = forget_weight (1 +
                                                                   cos(pi k / K)) / 2
    retain step   |eps(x_r, t; c_r) - eps|^2   on all weights

so that images already forgotten pull less. Both losses are sums over an image there and means here,
or sums in both where `model.pretrain.loss_reduction=sum`: forget_weight compares like with like,
and w_i has no units. In sums the gradients are C*H*W times as long, so that clipping, which is to
norm 1 in both, evens out alpha_k there for longer than it does here.
Where we differ: the mask (`masks.fisher_ratio`), a true Fisher ratio; and weights outside it do not
move in a forget step, to the bit, where Adam's momentum from the retain steps moves them in the
released code.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.masks import Mask
from unrelearn.method import Combine, Method
from unrelearn.ranges import Weight

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class SFRon(Method):
    forget_weight: Weight  # alpha, in units of the retain loss; it decays to 0
    loss_power: Weight  # how much less an image counts the larger its loss is, 0: not at all
    combine: Combine = "alternation"

    passes = (1, 1)  # one of the two losses is only looked at
    whole_steps = True  # w_i needs the losses of all images
    clips_masked = True  # as released

    def moving(self, t: "Training") -> Mask | None:
        forgetting = self.combine != "alternation" or t.step % 2 == 0
        return t.mask if forgetting else None

    def losses(self, t: "Training") -> dict[str, Tensor]:
        each = t.loss(t.draw("forget", t.task.forget))
        weights = each.detach().clamp(min=1e-8) ** -self.loss_power
        alpha = self.forget_weight * (1 + math.cos(math.pi * t.step / self.max_steps)) / 2
        forget = -alpha * (weights * each).mean() / t.mean(weights)
        return {"forget": forget, **t.losses(retain=t.draw("retain", t.task.retain))}
