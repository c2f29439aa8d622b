"""Weight distortion: noise on every weight, and then fine-tuning on the retain set.

    theta <- theta + sigma n,  n ~ N(0, 1),  before the first step

Siddiqui et al. 2025, "From Dormant to Deleted: Tamper-Resistant Unlearning Through Weight-Space
Regularization" (arXiv 2505.22310), where it is among those that relearning undoes least. As
released, the noise is the same for all weights, those of BatchNorm and biases among them, and
whatever their size; there 100 epochs of Adam at 1e-5 follow.
Weights that may not move (`blocks`, masks) get no noise.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.method import Method
from unrelearn.randomness import generator_for
from unrelearn.ranges import Weight

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class WeightDistortion(Method):
    sigma: Weight  # standard deviation of the noise, in units of the weights

    @torch.no_grad()
    def prepare(self, t: "Classifying") -> None:
        g = generator_for(t.task.seed, self.stage, "weight_distortion")
        for name, p in t.network.named_parameters():
            noise = self.sigma * torch.randn(p.shape, generator=g).to(p.device)
            if p.requires_grad:
                p.add_(noise if t.mask is None else noise * t.mask[name])

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        return t.losses(retain=t.draw("retain", t.task.retain))
