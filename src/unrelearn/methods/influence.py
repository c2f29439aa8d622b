"""Influence unlearning: one step on all weights, by what the forget set has changed in them. No
step of an optimiser is taken.

Koh & Liang 2017 (arXiv 1703.04730), as it stands in the code of Jia et al. 2023, "Model Sparsity
Can Simplify Machine Unlearning" (arXiv 2304.04934), and of SalUn:

    theta <- theta + alpha H^-1 (g_f - g_r)
    g_f = 1/N sum over D_f of grad CE,  g_r = n_f / (N n_r) sum over D_r of grad CE,  N = n_f + n_r

in evaluation mode. Where the sum of both gradients is zero, g_f - g_r is minus the gradient of the
mean loss on D_r, and alpha = 1 with H that loss's Hessian is Newton's step towards retraining.

    gradient   H = 1
    cg         (H + damping) x = g_f - g_r by conjugate gradients, until the rest is below
               `tolerance` of the right side, at most `cg_steps` times (solver.json says what is
               left). H is the generalised Gauss-Newton matrix J^T (diag(p) - p p^T) J of the mean
               loss on `fisher_samples` images of D_r, spread evenly over their order (Schraudolph
               2002): the Hessian where the network is linear in its weights, and never indefinite.
               Of a trained network the Hessian is (its rest grew from 1 to 22 until a direction of
               negative curvature ended the solution), so that the step would be an accident of
               where it was cut off. Ours.
    released   what that code calls WoodFisher (Singh & Alistarh 2020, arXiv 2004.14340). The true
               recursion of rank-one terms needs for each image i the vector F_{i-1}^-1 g_i. This
               one keeps a single vector o, which begins as the first image's gradient and is only
               ever rescaled: o <- o (1 - s / (n + s)), s = <o, g_i>, over the first n images of
               D_r, `fisher_samples` of them (1000 there). So the step is that of `gradient` but
               for what is taken from it along one image's gradient.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vjp
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from unrelearn.data import ImageSet
from unrelearn.method import Still
from unrelearn.ranges import Count, Positive

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying

AT_ONCE = 250  # images


@dataclass(kw_only=True)
class Influence(Still):
    solver: Literal["gradient", "cg", "released"]
    alpha: Positive  # length of the step; 1: Newton's, with cg
    damping: Positive  # added to the diagonal of H
    cg_steps: Count  # at most
    tolerance: Positive  # share of the right side that may be left

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
            return curvature_product(t, some, vector) + self.damping * vector

        solution, self.unsolved = conjugate_gradient(product, right, self.cg_steps, self.tolerance)
        return solution

    def write_beside(self, folder: Path) -> None:
        """What share of the right side the solver left."""
        if self.solver == "cg":
            (folder / "solver.json").write_text(json.dumps({"unsolved": self.unsolved}))


def trained(t: "Classifying") -> list[Tensor]:
    return [p for p in t.network.parameters() if p.requires_grad]


def losses(t: "Classifying", data: ImageSet, size: int = AT_ONCE) -> Iterator[Tensor]:
    """The sum of the cross-entropy () over the images of each part."""
    for x, labels in batches(t, data, size):
        yield F.cross_entropy(t.network(x), labels, reduction="sum")


def batches(t: "Classifying", data: ImageSet, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images as a network reads them and their labels, part after part."""
    from unrelearn.classification.classifying import unit  # loads Lightning

    for some in torch.arange(len(data), device=data.labels.device).split(size):
        part = data.take(some)
        yield unit(part.images[:].to(t.device)), part.labels.to(t.device)


def flat_gradient(t: "Classifying", loss: Tensor) -> Tensor:
    """By the weights that are trained, (P,)."""
    gradients = torch.autograd.grad(loss, trained(t), materialize_grads=True)
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


def curvature_product(t: "Classifying", data: ImageSet, vector: Tensor) -> Tensor:
    """J^T (diag(p) - p p^T) J / N times a vector (P,), J that of the logits."""
    trained = [(name, p) for name, p in t.network.named_parameters() if p.requires_grad]
    moving = {name: p.detach() for name, p in trained}  # no product keeps what made it
    sizes = [p.numel() for p in moving.values()]
    parts = [part.view_as(p) for part, p in zip(vector.split(sizes), moving.values(), strict=True)]
    product = torch.zeros_like(vector)
    for x, _ in batches(t, data, AT_ONCE):

        def answers(*weights: Tensor, x: Tensor = x) -> Tensor:
            return functional_call(t.network, dict(zip(moving, weights, strict=True)), (x,))

        logits, along = jvp(answers, tuple(moving.values()), tuple(parts))
        p = logits.softmax(1)
        bent = p * (along - (p * along).sum(1, keepdim=True)) / len(data)
        back = vjp(answers, *moving.values())[1](bent)
        product += torch.cat([one.flatten() for one in back])
    return product


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], right: Tensor, steps: int, enough: float
) -> tuple[Tensor, float]:
    """x (P,) with product(x) = right, for a linear product that is symmetric and positive, and the
    share of the right side that is left unsolved (Hestenes & Stiefel 1952).
    """
    x, rest, along = torch.zeros_like(right), right.clone(), right.clone()
    size = begun = rest @ rest
    for _ in range(steps):
        if size <= enough**2 * begun:
            break
        image = product(along)
        length = size / (along @ image)
        x += length * along
        rest -= length * image
        before, size = size, rest @ rest
        along = rest + size / before * along
    return x, float(size / begun) ** 0.5 if begun else 0.0


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
