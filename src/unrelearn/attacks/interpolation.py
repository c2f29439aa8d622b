"""Interpolation: the models on the straight line from the unlearned one to another, theta + a
(target - theta).

If forget accuracy comes back early on the way, and the losses on D_f and D_r show no barrier, both
models lie in one basin and little was done to the class (linear mode connectivity: Frankle et al.
2020, arXiv 1912.05671). Threat model:

    towards=original    the original model's weights: an audit, no attack
    towards=attacked    that of DiMRA, whose end after budgets[-1] steps the target is, to the bit,
                        at the same arguments
"""

from typing import Literal

import torch
from torch import Tensor

from unrelearn.data import ImageSet, to_model_range
from unrelearn.module import Batch, Edit, Task
from unrelearn.randomness import generator_for

PARTS, IMAGES = 8, 64  # a loss is the mean over 512 images, drawn with replacement


class Interpolation(Edit):
    """Args:
    towards: the target.
    the others: of DiMRA, and read where that is the target; of the budgets only the last one
        counts.
    """

    unit = "share of the way"
    allowed = (0.0, 1.0)

    def __init__(
        self,
        task: Task,
        *,
        levels: list[float],
        towards: Literal["original", "attacked"],
        budgets: list[int],
        batch_size: int,
        learning_rate: float,
        optimizer: Literal["adam", "relative"] = "adam",
        lr_schedule: str = "constant",
        label_dropout: float = 0.1,
        train_class_embedding: bool = False,
        retain_fraction: float = 1.0,
        seed: int = 0,
    ):
        training = {
            "max_steps": self.steps(towards=towards, budgets=budgets),
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "optimizer": optimizer,
            "lr_schedule": lr_schedule,
            "label_dropout": label_dropout,
            "train_class_embedding": train_class_embedding,
            "seed": self.own_seed(towards=towards, seed=seed),
        }
        super().__init__(task, training, levels=levels)
        self.towards = towards
        self.auxiliary = self.task.part_of_retain(retain_fraction)
        self.measured_seed = task.seed  # the losses on the way are no draw of the attacker's

    @staticmethod
    def steps(*, towards: str, budgets: list[int], **arguments) -> int:
        return budgets[-1] if towards == "attacked" else 0

    @staticmethod
    def own_seed(*, towards: str, seed: int = 0, **arguments) -> int:
        return seed if towards == "attacked" else 0

    @staticmethod
    def sees_forgotten(*, towards: str, **arguments) -> bool:
        return towards == "original"

    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(auxiliary=self.draw("auxiliary", self.auxiliary))

    def prepare(self) -> None:
        super().prepare()
        # lists, as a network would be taken for a part of this module
        self.start = [p.detach().clone() for p in self.denoiser.parameters()]
        self.target = (
            list(self.task.original().parameters()) if self.towards == "original" else None
        )

    def edit(self, level: float) -> dict[str, float]:
        target = self.target or list(self.denoiser.parameters())
        for parameter, a, b in zip(self.denoiser.parameters(), self.start, target, strict=True):
            parameter.copy_(torch.lerp(a, b, level))  # exactly b at level 1
        self.denoiser.eval()
        return {
            "forget": self.loss("forget", self.task.forget),
            "retain": self.loss("retain", self.task.retain),
        }

    def loss(self, term: str, data: ImageSet) -> float:
        """The mean denoising loss over the same images, times and noises at every level."""
        total, steps = 0.0, self.task.schedule["num_train_timesteps"]
        for number in range(PARTS):
            g = generator_for(self.measured_seed, "interpolation", term, number)
            index = torch.randint(len(data), (IMAGES,), generator=g)
            x_0 = to_model_range(data.images[index].to(self.device))
            labels = data.labels[index.to(data.labels.device)].to(self.device)
            t, noise = (
                torch.randint(steps, (IMAGES,), generator=g),
                torch.randn(x_0.shape, generator=g),
            )
            batch = Batch(x_0, labels, noise.to(self.device), t.to(self.device))
            total += self.denoising_losses(loss=batch)["loss"].item() / PARTS
        return total
