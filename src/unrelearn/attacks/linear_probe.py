"""Linear probe: the body of the network stays as it is, and a new head learns from its features.

After Alain & Bengio 2016 (arXiv 1610.01644). It shows whether the features still separate what was
forgotten, whatever the old head says: a class that a few steps of a linear layer bring back was
hidden, not removed. Features separate a class that they were never taught too, so that `retrain`
belongs beside it. Threat model: the weights, and

    data=public   half of the test images, of all classes; the other half is then measured
    data=retain   the retain set. Of a forgotten class it has no image, and so no head learns the
                  class; where images are forgotten one by one it shows what is left of them

The head reads each feature less its mean, over its deviation, of the attacker's images: in whatever
units the body is written, the probe is the same. It starts at zero, and is written for features as
they are.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrelearn.classification.manifold import features
from unrelearn.method import Relearning
from unrelearn.ranges import Count, LearningRates, Rate, Seed

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class LinearProbe(Relearning):
    budgets: list[int]
    batch_size: Count
    learning_rate: Rate
    lr_schedule: LearningRates = "constant"
    seed: Seed = 0
    data: Literal["public", "retain"]

    passes = (0, 1)  # what is trained is next to nothing
    closed = True  # nothing about the weights of the body can be chosen

    @property
    def holds_public(self) -> bool:  # type: ignore[override]
        return self.data == "public"

    @property
    def sees_forgotten(self) -> bool:
        return self.data == "public"

    def begin(self, t: "Classifying") -> None:
        images = t.task.public if self.data == "public" else t.task.retain
        assert images is not None
        self.images = images
        t.network.body.requires_grad_(False)
        for p in t.network.head.parameters():
            nn.init.zeros_(p)

    def prepare(self, t: "Classifying") -> None:
        known = features(t.network, self.images)
        self.mean, deviation = known.mean(0), known.std(0, correction=0)
        self.deviation = torch.where(deviation > 0, deviation, 1.0)

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        batch = t.draw("probe", self.images)
        t.network.eval()  # the statistics of BatchNorm are the body's
        with torch.no_grad():
            x = t.network.features(batch.x_0).float()
        answers = t.network.head((x - self.mean) / self.deviation).float()
        return {"probe": F.cross_entropy(answers, batch.labels)}

    @torch.no_grad()
    def exported(self, network: nn.Module) -> nn.Module:
        network = copy.deepcopy(network)
        head = network.get_submodule("head")
        assert isinstance(head, nn.Linear)
        head.weight.div_(self.deviation.to(head.weight.device))
        head.bias.sub_(head.weight @ self.mean.to(head.weight.device))
        return network
