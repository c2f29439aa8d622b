"""Prototypes: the forgotten class's row of the head is turned towards the mean feature of a few
images of the class, and nothing else is touched.

    w_c <- a |w| m_c / |m_c| + (1 - a) w_c,    |w| the mean norm of the rows of retained classes

with m_c the mean feature of n public images of the class: the prototypical relearning attack of Ha
et al. 2025 (arXiv 2506.01318), whose a is 0.5 and n 5. No step is taken: if the class is back, the
body never lost it. Threat model: the weights, and n public images of each forgotten class.

Ours: the norm; the bias, which is set such that a mean image gets the mean logit of the retained
classes, so that nothing is hidden there (`logit_mask`); and `centred`, m_c less the mean feature of
public images of retained classes, of which the attacker then has some too. Behind a ReLU or GELU
features have much in common, which says nothing about the class, and other coordinates of the same
network have another origin. Not centred, the bias is the mean of those of the retained classes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from unrelearn.classification.manifold import features
from unrelearn.errors import UsageError
from unrelearn.method import Edit
from unrelearn.ranges import Seed, Share

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class Prototype(Edit):
    levels: list[int]  # type: ignore[assignment]  # images are whole, and no list is written to
    share: Share  # a
    centred: bool
    seed: Seed = 0  # see Relearning

    by_class = True
    unit = "images of each class"
    allowed = (1, 100_000)  # or as many as there are
    holds_public = True
    sees_forgotten = True

    def begin(self, t: "Classifying") -> None:
        if not t.task.forget_classes:
            raise UsageError(
                "attack=prototype: brings whole classes back, and here images are forgotten one by"
                " one. Type forget=class:3, or attack=relearn"
            )
        assert t.task.public is not None
        for c in t.task.forget_classes:
            if not len(t.task.public.of_classes([c])):
                raise UsageError(
                    f"attack=prototype: the public half of the test images has none of class {c}."
                    " Type attack=relearn"
                )

    def prepare(self, t: "Classifying") -> None:
        task = t.task
        assert task.public is not None
        others = features(t.network, task.public.of_classes(task.retain_classes)).mean(0)
        self.origin = others if self.centred else torch.zeros_like(others)

    def edit(self, t: "Classifying", level: float) -> dict[str, float]:
        task, head = t.task, t.network.head
        assert task.public is not None
        kept = task.retain_classes
        norm, logit = head.weight[kept].norm(dim=1).mean(), head(self.origin)[kept].mean()
        for c in task.forget_classes:
            images = task.held(task.public.of_classes([c]), int(level), "public", c)
            mean = features(t.network, images).mean(0) - self.origin
            row = turned(head.weight[c], norm * F.normalize(mean, dim=0), self.share)
            head.weight[c], head.bias[c] = row, logit - row @ self.origin
        return {}


def turned(row: Tensor, towards: Tensor, share: float) -> Tensor:
    return share * towards + (1 - share) * row
