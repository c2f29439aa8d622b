"""Fisher forgetting: noise on every weight, the more of it the less the weight matters for the
retain set. No step is taken, and the forget set is not read.

Golatkar et al. 2020, "Eternal Sunshine of the Spotless Net" (CVPR 2020, arXiv 1911.04933), as it
stands in the code of Unlearn-Sparse (Jia et al. 2023, arXiv 2304.04934) and of SalUn:

    theta <- theta + sigma n,  n ~ N(0, 1),  sigma^2 = alpha min(1 / (F + 1e-8), cap)
    F = mean over D_r of sum_y p(y | x) (d CE(x, y) / d theta)^2

of which, as there, the mean over the inputs of each output is taken for a weight that has any
(second dimension), and ten times as much is added to the head and to vectors (biases, BatchNorm).
Where we differ: each image's gradient is squared by itself; there the mean gradient of a batch is,
weighted by the mean probability. `labels: given` puts the label of the data in place of the sum, at
a K-th of the cost. Weights are as they were where they are frozen, and the running statistics of
BatchNorm everywhere.
`head_to_zero`: the code for classes sets the row of the head and the bias of the class that is
forgotten to noise of variance 1e-3 around zero. It is told the class, and needs no Fisher
information for what it then shows; it does nothing where images are forgotten one by one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from unrelearn.data import ImageData, ImageSet
from unrelearn.method import Still
from unrelearn.randomness import generator_for
from unrelearn.ranges import Positive

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying

AT_ONCE = 100  # gradients, of one image and one label each
OUTER = 10  # how much more variance the head and vectors get
ZEROED = 1e-3  # variance of a row that was set to zero


@dataclass(kw_only=True)
class FisherForgetting(Still):
    alpha: Positive  # variance where the Fisher information is 1
    cap: Positive  # largest 1 / F
    head_cap: Positive  # the same in the last layer
    labels: Literal["expected", "given"]  # under which the Fisher information is taken
    head_to_zero: bool

    def prepare(self, t: "Classifying") -> None:
        information = self.information(t)
        g = generator_for(t.task.seed, self.stage, "fisher_forgetting")
        with torch.no_grad():
            for name, p in t.network.named_parameters():
                noise = torch.randn(p.shape, generator=g).to(p.device)
                if not p.requires_grad:
                    continue
                variance = self.variance(name, information[name].to(p.device)).clone()
                if self.head_to_zero and name.startswith("head."):
                    p[t.task.forget_classes] = 0
                    variance[t.task.forget_classes] = ZEROED
                p.add_(variance.sqrt() * noise)

    def information(self, t: "Classifying") -> dict[str, Tensor]:
        task, data = t.task, t.task.retain
        # `forget_classes` does not name D_r where images are forgotten one by one
        sets = ImageData(data.to("cpu"), task.forget.to("cpu"), task.class_names).digest()
        if self.labels == "given":
            return t.fisher(data, images="retain", sets=sets)
        return task.cached(
            "fisher",
            {"images": "retain", "sets": sets, "samples": self.fisher_samples, "labels": "all"},
            lambda: expected_information(t, data.take(spread(len(data), self.fisher_samples))),
        )

    def variance(self, name: str, information: Tensor) -> Tensor:
        """sigma^2 of a parameter, of its shape."""
        head = name.startswith("head.")
        inverse = (1 / (information + 1e-8)).clamp(max=self.head_cap if head else self.cap)
        if inverse.ndim > 1:
            inverse = inverse.mean(1, keepdim=True).expand_as(inverse)
        return self.alpha * inverse * (OUTER if head or information.ndim == 1 else 1)


def spread(available: int, count: int) -> Tensor:
    """Which of so many images stand for all, int64: evenly over their order."""
    return torch.linspace(0, available - 1, min(count, available)).long()


def expected_information(t: "Classifying", data: ImageSet) -> dict[str, Tensor]:
    """mean over x of sum_y p(y | x) (d CE(x, y) / d theta)^2, of every weight, in evaluation mode;
    p(y | x) = exp(-CE(x, y)).
    """
    from unrelearn.classification.classifying import unit  # loads Lightning

    network, classes = t.network, t.num_classes
    training = network.training
    network.eval()
    weights = {name: p.detach() for name, p in network.named_parameters()}
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    for pairs in torch.arange(len(data) * classes, device=data.labels.device).split(AT_ONCE):
        x = unit(data.images[pairs // classes].to(t.device))
        each = squared(network, weights, x, (pairs % classes).to(t.device))
        for name, value in each.items():
            total[name] += value / len(data)
    network.train(training)
    return total


def squared(
    network: nn.Module, weights: dict[str, Tensor], x: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Sum over pairs of an image and a label of p(y | x) (d CE(x, y) / d theta)^2."""

    def loss(weights: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, weights, (x[None],)), label[None])

    each, losses = vmap(grad_and_value(loss), in_dims=(None, 0, 0))(weights, x, labels)
    return {name: torch.tensordot((-losses).exp(), g.square(), 1) for name, g in each.items()}
