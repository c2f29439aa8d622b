"""Interpolation: the models on the straight line from the unlearned one to another, theta + a
(target - theta).

If forget accuracy comes back early on the way, and the losses on D_f and D_r show no barrier, both
models lie in one basin and little was done to the class (linear mode connectivity: Frankle et al.
2020, arXiv 1912.05671). The running statistics of BatchNorm are interpolated as well and not taken
anew, so that a classifier may show a barrier which is theirs. Threat model:

    towards=original    the original model's weights: an audit, no attack
    towards=attacked    that of DiMRA, whose end after budgets[-1] steps the target is, to the bit,
                        at the same arguments
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from unrelearn.data import ImageSet
from unrelearn.method import Edit, Optimiser, constant
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, LearningRates, Probability, Rate, Seed, Share, Steps

if TYPE_CHECKING:
    from unrelearn.training import Training

PARTS, IMAGES = 8, 64  # a loss is the mean over 512 images, drawn with replacement


@dataclass(kw_only=True)
class Interpolation(Edit):
    towards: Literal["original", "attacked"]  # the target
    # of DiMRA, and read where that is the target; of the budgets only the last one counts
    budgets: list[int]
    batch_size: Count = field()
    learning_rate: Rate = field()
    optimizer: Optimiser | None = None
    lr_schedule: LearningRates = "constant"
    label_dropout: Probability = 0.1
    train_class_embedding: bool = False
    retain_fraction: Share = 1.0
    seed: Seed = 0
    max_steps: Steps = constant(0)

    unit = "share of the way"
    allowed = (0.0, 1.0)

    def __post_init__(self) -> None:
        self.max_steps = self.budgets[-1] if self.towards == "attacked" else 0

    @property
    def own_seed(self) -> int:
        return self.seed if self.towards == "attacked" else 0

    @property
    def sees_forgotten(self) -> bool:
        return self.towards == "original"

    @classmethod
    def needs_original(cls, settings: Mapping[str, Any]) -> bool:
        return settings["towards"] == "original"

    def begin(self, t: "Training") -> None:
        self.auxiliary = t.task.part_of_retain(self.retain_fraction)

    def prepare(self, t: "Training") -> None:
        self.start = [value.clone() for value in values(t.network)]
        self.target = None
        if self.towards == "original":
            self.target = values(t.task.original())

    def losses(self, t: "Training") -> dict[str, Tensor]:
        return t.losses(auxiliary=t.draw("auxiliary", self.auxiliary))

    def edit(self, t: "Training", level: float) -> dict[str, float]:
        here = values(t.network)
        for value, a, b in zip(here, self.start, self.target or here, strict=True):
            value.copy_(torch.lerp(a, b, level))  # exactly b at level 1
        t.network.eval()
        sets = {"forget": t.task.forget, "retain": t.task.retain}
        return {term: mean_loss(t, term, data) for term, data in sets.items()}


def values(network: nn.Module) -> list[Tensor]:
    """All weights and statistics, themselves and not copies."""
    return [value for value in network.state_dict().values() if value.is_floating_point()]


def mean_loss(t: "Training", term: str, data: ImageSet) -> float:
    """The mean ordinary loss over the same images, and times and noises, at every level, which are
    no draw of the attacker's.
    """
    total = 0.0
    for number in range(PARTS):
        g = generator_for(t.task.run_seed, "interpolation", term, number)
        batch = t.fixed(data, IMAGES, g)
        total += t.losses(loss=batch)["loss"].item() / PARTS
    return total
