"""l1-sparse: fine-tuning on the retain set, with a penalty on the size of every weight.

Jia et al. 2023, "Model Sparsity Can Simplify Machine Unlearning" (arXiv 2304.04934). In step k of K

    L = loss(D_r) + gamma_k sum_i |theta_i|,   gamma_k = gamma (1 - k / K)   if decay is "linear"
                                                         gamma               if it is "constant"

over all weights that are trained, those of BatchNorm and biases among them. Both decays are
released: the linear one in Unlearn-Saliency, from epoch to epoch, the constant one for CIFAR in
Unlearn-Sparse. The penalty is a sum and the loss a mean, so that gamma pulls at each weight alike
in networks of any size; how far it pulls grows with gamma * learning_rate * K.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unrelearn.method import Method
from unrelearn.ranges import Weight

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class L1Sparse(Method):
    penalty_weight: Weight  # gamma, in units of a loss that is a mean
    decay: Literal["linear", "constant"] = "linear"  # of gamma, over the steps

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        losses = t.losses(retain=t.draw("retain", t.task.retain))
        trained = [p.abs().sum() for p in t.network.parameters() if p.requires_grad]
        left = 1 - t.step / self.max_steps if self.decay == "linear" else 1.0
        gamma = t.loss_scale * self.penalty_weight * left
        return {"retain": losses["retain"], "penalty": gamma * torch.stack(trained).sum()}
