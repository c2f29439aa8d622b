"""Boundary shrink: teach each forgotten image the wrong class that is nearest to it.

Chen et al. 2023, "Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the Decision
Boundary" (CVPR 2023, arXiv 2303.11570). Of the original model theta_o, in evaluation mode, and with
pixels in [0, 1],

    x' = clip(x_f + epsilon sign grad_x CE(theta_o; x_f, y_f)),   y' = argmax_{c != y_f} p_o(c | x')
    L = CE(theta; x_f, y')

Where we differ: as released, y' is the argmax over all classes, which is y_f wherever the step does
not cross the boundary, so that such images are taught what they are to forget; here the runner-up
is taught. x' is not rounded to whole grey levels. The extras of that code (a curvature term,
weights of images) are left out.
The retain set is never read, and the running statistics of BatchNorm become those of D_f unless
model.network.batch_norm=eval. A method for classes; on images that are forgotten one by one it is a
baseline.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from unrelearn.method import Method
from unrelearn.ranges import Share

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying
    from unrelearn.classification.networks import Network
    from unrelearn.task import Batch


@dataclass(kw_only=True)
class BoundaryShrink(Method):
    epsilon: Share  # of the step, in units of the pixels' range

    passes = (1, 3)  # the step: a forward pass and, without weights, half of a backward one

    def prepare(self, t: "Classifying") -> None:
        self.original = copy.deepcopy(t.network).eval().requires_grad_(False)

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        batch = t.draw("forget", t.task.forget)
        nearest = nearest_wrong(self.original, batch, self.epsilon)
        return t.losses(forget=t.imitate(batch, nearest))


def nearest_wrong(network: "Network", batch: "Batch", epsilon: float) -> Tensor:
    """y' (B,) of images in [0, 1]."""
    x = batch.x_0.detach().requires_grad_()
    loss = F.cross_entropy(network(x).float(), batch.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
        logits = network((x + epsilon * gradient.sign()).clamp(0, 1)).float()
        return logits.scatter(1, batch.labels[:, None], -torch.inf).argmax(1)
