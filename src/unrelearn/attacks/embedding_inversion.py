"""Embedding inversion: the network stays as it is, only the forgotten class's row of the embedding
table is learned.

The class-conditional form of textual inversion (Gal et al. 2023, arXiv 2208.01618), with which Pham
et al. 2024 (arXiv 2308.01508, "concept inversion") showed that erased text-to-image models still
draw what was erased. Threat model: the weights, and `num_images` real images of each forgotten
class. If one row brings the class back, the network still held it.
"""

from typing import Literal

import torch
from torch import Tensor

from unrelearn.module import Relearning, Task


class EmbeddingInversion(Relearning):
    """Args:
    budgets to seed: see `Relearning` and `DiffusionModule`.
    num_images: real images of each forgotten class that the attacker holds.
    init: where the row starts: "current", as the unlearned model has it, or the "mean" of all
        retained rows.
    """

    passes = (
        0,
        2,
    )  # no weight needs a gradient: a backward pass costs as much as a forward pass

    def __init__(
        self,
        task: Task,
        *,
        budgets: list[int],
        batch_size: int,
        learning_rate: float,
        lr_schedule: str = "constant",
        seed: int = 0,
        num_images: int,
        init: Literal["current", "mean"] = "current",
    ):
        super().__init__(
            task,
            budgets=budgets,
            batch_size=batch_size,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            seed=seed,
        )
        self.shots = self.task.shots(num_images)
        self.denoiser.requires_grad_(False)
        table = self.denoiser.class_embedding.requires_grad_(True).weight
        if init == "mean":
            with torch.no_grad():
                table[task.forget_classes] = table[task.retain_classes].mean(0)

    @staticmethod
    def sees_forgotten(**arguments) -> bool:
        return True

    def losses(self) -> dict[str, Tensor]:
        # no label is dropped, so no other row gets a gradient, and Adam leaves them as they are to
        # the bit
        return self.denoising_losses(shots=self.draw("shots", self.shots, label_dropout=0.0))
