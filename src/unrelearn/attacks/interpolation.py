"""Interpolation: the models on the straight line from the unlearned one to another, theta + a
(target - theta).

If forget accuracy comes back early on the way, and the losses on D_f and D_r show no barrier, both
models lie in one basin and little was done to the class (linear mode connectivity: Frankle et al.
2020, arXiv 1912.05671). Threat model:

    towards=original    the original model's weights: an audit, no attack
    towards=attacked    that of DiMRA, whose end after budgets[-1] steps the target is, to the bit,
                        at the same arguments
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unrelearn.data import ImageSet, to_model_range
from unrelearn.diffusion.noisy import NoisyBatch
from unrelearn.method import Edit, Optimiser, settled
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, LearningRates, Probability, Rate, Seed, Share, Steps

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising

PARTS, IMAGES = 8, 64  # a loss is the mean over 512 images, drawn with replacement


@dataclass(kw_only=True)
class Interpolation(Edit):
    towards: Literal["original", "attacked"]  # the target
    # of DiMRA, and read where that is the target; of the budgets only the last one counts
    budgets: list[int]
    batch_size: Count = field()
    learning_rate: Rate = field()
    optimizer: Optimiser = "adam"
    lr_schedule: LearningRates = "constant"
    label_dropout: Probability = 0.1
    train_class_embedding: bool = False
    retain_fraction: Share = 1.0
    seed: Seed = 0
    max_steps: Steps = settled(0)

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

    def begin(self, t: "Denoising") -> None:
        self.auxiliary = t.task.part_of_retain(self.retain_fraction)

    def prepare(self, t: "Denoising") -> None:
        self.start = [p.detach().clone() for p in t.network.parameters()]
        self.target = None
        if self.towards == "original":
            self.target = list(t.task.original().parameters())

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        return t.losses(auxiliary=t.draw("auxiliary", self.auxiliary))

    def edit(self, t: "Denoising", level: float) -> dict[str, float]:
        target = self.target or list(t.network.parameters())
        for parameter, a, b in zip(t.network.parameters(), self.start, target, strict=True):
            parameter.copy_(torch.lerp(a, b, level))  # exactly b at level 1
        t.network.eval()
        sets = {"forget": t.task.forget, "retain": t.task.retain}
        return {term: mean_loss(t, term, data) for term, data in sets.items()}


def mean_loss(t: "Denoising", term: str, data: ImageSet) -> float:
    """The mean denoising loss over the same images, times and noises at every level, which are no
    draw of the attacker's.
    """
    total, steps = 0.0, t.task.schedule["num_train_timesteps"]
    for number in range(PARTS):
        g = generator_for(t.task.run_seed, "interpolation", term, number)
        index = torch.randint(len(data), (IMAGES,), generator=g)
        x_0 = to_model_range(data.images[index].to(t.device))
        labels = data.labels[index.to(data.labels.device)].to(t.device)
        times = torch.randint(steps, (IMAGES,), generator=g)
        noise = torch.randn(x_0.shape, generator=g)
        batch = NoisyBatch(x_0, labels, noise.to(t.device), times.to(t.device))
        total += t.losses(loss=batch)["loss"].item() / PARTS
    return total
