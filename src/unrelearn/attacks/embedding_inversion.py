"""Embedding inversion: the network stays as it is, only the forgotten class's row of the embedding
table is learned.

The class-conditional form of textual inversion (Gal et al. 2023, arXiv 2208.01618), with which Pham
et al. 2024 (arXiv 2308.01508, "concept inversion") showed that erased text-to-image models still
draw what was erased. Threat model: the weights, and `num_images` real images of each forgotten
class. If one row brings the class back, the network still held it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unrelearn.method import Relearning
from unrelearn.ranges import Count, LearningRates, Rate, Seed

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class EmbeddingInversion(Relearning):
    budgets: list[int]
    batch_size: Count
    learning_rate: Rate
    lr_schedule: LearningRates = "constant"
    seed: Seed = 0
    num_images: Count  # real images of each forgotten class that the attacker holds
    # where the row starts: as the unlearned model has it, or the mean of all retained rows
    init: Literal["current", "mean"] = "current"

    # no weight needs a gradient: a backward pass costs as much as a forward pass
    by_class = True
    passes = (0, 2)
    closed = True  # the network is frozen: nothing about its weights can be chosen
    sees_forgotten = True

    def begin(self, t: "Denoising") -> None:
        self.shots = t.task.shots(self.num_images)
        t.network.requires_grad_(False)
        table = t.network.class_embedding.requires_grad_(True).weight
        if self.init == "mean":
            with torch.no_grad():
                table[t.task.forget_classes] = table[t.task.retain_classes].mean(0)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        # no label is dropped, so no other row gets a gradient, and Adam leaves them as they are to
        # the bit
        return t.losses(shots=t.draw("shots", self.shots, label_dropout=0.0))
