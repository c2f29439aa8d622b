"""Influence unlearning: one step on all weights, by what the forget set has changed in them. No
step of an optimiser is taken.

Koh & Liang 2017 (arXiv 1703.04730), as it stands in the code of Jia et al. 2023, "Model Sparsity
Can Simplify Machine Unlearning" (arXiv 2304.04934), and of SalUn:

    theta <- theta + alpha H^-1 (g_f - g_r)
    g_f = 1/N sum over D_f of grad CE,  g_r = n_f / (N n_r) sum over D_r of grad CE,  N = n_f + n_r

in evaluation mode. Where the sum of both gradients is zero, g_f - g_r is minus the gradient of the
mean loss on D_r, and alpha = 1 with H that loss's Hessian is Newton's step towards retraining.

    gradient   H = 1
    cg         (H + damping) x = g_f - g_r by conjugate gradients, H the Hessian of the mean loss on
               `fisher_samples` images of D_r, spread evenly over their order. It ends at
               `cg_steps`, where the rest is below 1e-5 of the right side, or where H + damping
               is seen not to be positive: with x as it is then. Ours.
    released   what that code calls WoodFisher (Singh & Alistarh 2020, arXiv 2004.14340). The true
               recursion of rank-one terms needs for each image i the vector F_{i-1}^-1 g_i. This
               one keeps a single vector o, which begins as the first image's gradient and is only
               ever rescaled: o <- o (1 - s / (n + s)), s = <o, g_i>, over the first n images of
               D_r, `fisher_samples` of them (1000 there). So the step is that of `gradient` but
               for what is taken from it along one image's gradient.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from unrelearn.data import ImageSet
from unrelearn.method import Still
from unrelearn.ranges import Count, Positive

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying

AT_ONCE = 250  # images
ENOUGH = 1e-5  # of the norm of the right side


@dataclass(kw_only=True)
class Influence(Still):
    solver: Literal["gradient", "cg", "released"]
    alpha: Positive  # length of the step; 1: Newton's, with cg
    damping: Positive  # added to the Hessian's diagonal
    cg_steps: Count  # at most

    def prepare(self, t: "Classifying") -> None:
        training = t.network.training
        t.network.eval()
        step = self.solved(t, difference(t))
        t.network.train(training)
        moving = trained(t)
        with torch.no_grad():
            vector_to_parameters(parameters_to_vector(moving) + self.alpha * step, moving)

    def solved(self, t: "Classifying", right: Tensor) -> Tensor:
        """H^-1 times the right side (P,)."""
        if self.solver == "gradient":
            return right
        retain = t.task.retain
        count = min(self.fisher_samples, len(retain))
        if self.solver == "released":
            return released(t, retain.take(torch.arange(count)), right)
        some = retain.take(torch.linspace(0, len(retain) - 1, count).long())

        def product(vector: Tensor) -> Tensor:
            return hessian_product(t, some, vector) + self.damping * vector

        return conjugate_gradient(product, right, self.cg_steps)


def trained(t: "Classifying") -> list[Tensor]:
    return [p for p in t.network.parameters() if p.requires_grad]


def losses(t: "Classifying", data: ImageSet, size: int = AT_ONCE) -> Iterator[Tensor]:
    """The sum of the cross-entropy () over the images of each part."""
    from unrelearn.classification.classifying import unit  # loads Lightning

    for some in torch.arange(len(data), device=data.labels.device).split(size):
        part = data.take(some)
        answer = t.network(unit(part.images[:].to(t.device)))
        yield F.cross_entropy(answer, part.labels.to(t.device), reduction="sum")


def flat_gradient(t: "Classifying", loss: Tensor, *, again: bool = False) -> Tensor:
    """By the weights that are trained, (P,); again: to be differentiated once more."""
    gradients = torch.autograd.grad(loss, trained(t), create_graph=again, materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients])


def difference(t: "Classifying") -> Tensor:
    """g_f - g_r, (P,)."""
    forget, retain = t.task.forget, t.task.retain
    total = len(forget) + len(retain)
    sums = [
        torch.stack([flat_gradient(t, loss) for loss in losses(t, data)]).sum(0)
        for data in (forget, retain)
    ]
    return sums[0] / total - sums[1] * len(forget) / (total * len(retain))


def hessian_product(t: "Classifying", data: ImageSet, vector: Tensor) -> Tensor:
    """The Hessian of the mean loss times a vector (P,)."""
    product = torch.zeros_like(vector)
    for loss in losses(t, data):
        along = flat_gradient(t, loss / len(data), again=True) @ vector
        product += flat_gradient(t, along)
    return product


def conjugate_gradient(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Tensor:
    """x (P,) with product(x) = right, for a linear product that is symmetric and positive (Hestenes
    & Stiefel 1952).
    """
    x, rest, along = torch.zeros_like(right), right.clone(), right.clone()
    size = rest @ rest
    enough = ENOUGH**2 * size
    for _ in range(steps):
        image = product(along)
        curvature = along @ image
        if size <= enough or curvature <= 0:
            break
        x += size / curvature * along
        rest -= size / curvature * image
        before, size = size, rest @ rest
        along = rest + size / before * along
    return x


def released(t: "Classifying", data: ImageSet, right: Tensor) -> Tensor:
    """The right side (P,) after the recursion over these images, one by one."""
    step, kept, count = right.clone(), None, len(data)
    for loss in losses(t, data, 1):
        gradient = flat_gradient(t, loss)
        if kept is None:
            kept = gradient
            continue
        along = kept @ gradient
        step -= (step @ gradient) / (count + along) * kept
        kept = kept - along / (count + along) * kept
    return step
