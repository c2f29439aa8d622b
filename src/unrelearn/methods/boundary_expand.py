"""Boundary expanding: teach the forgotten images a class of their own, and take that class away.

Chen et al. 2023, "Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the Decision
Boundary" (CVPR 2023, arXiv 2303.11570). The head gets one output more, K + 1 in all,

    L = CE(theta; x_f, K + 1),

and what is written is the network without that output. As in the authors' code; a port in use
forgets the last step and measures accuracies among K + 1 classes. The new row is drawn as torch
draws that of a new layer.
The retain set is never read, and the running statistics of BatchNorm become those of D_f unless
model.network.batch_norm=eval. A method for classes; on images that are forgotten one by one it is a
baseline.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unrelearn.method import Method
from unrelearn.randomness import generator_for

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class BoundaryExpand(Method):
    def begin(self, t: "Classifying") -> None:
        g = generator_for(t.task.seed, self.stage, "boundary_expand")
        head = t.network.head
        bound = head.in_features**-0.5
        drawn = bound * (2 * torch.rand(1, head.in_features + 1, generator=g) - 1)
        weight, bias = drawn.to(head.weight).split([head.in_features, 1], 1)
        t.network.head = with_rows(
            head, torch.cat([head.weight, weight]), torch.cat([head.bias, bias[0]])
        )

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        batch = t.draw("forget", t.task.forget)
        return t.losses(forget=t.imitate(batch, torch.full_like(batch.labels, t.num_classes)))

    def exported(self, network: nn.Module) -> nn.Module:
        written = super().exported(network)
        head = written.head
        written.head = with_rows(head, head.weight[:-1], head.bias[:-1])
        return written


def with_rows(head: nn.Linear, weight: Tensor, bias: Tensor) -> nn.Linear:
    """The layer with these weights (K, F) and (K,), trained if it is."""
    layer = copy.deepcopy(head)
    layer.out_features = len(weight)
    for name, value in (("weight", weight), ("bias", bias)):
        trained = getattr(head, name).requires_grad
        setattr(layer, name, nn.Parameter(value.detach().clone(), requires_grad=trained))
    return layer
