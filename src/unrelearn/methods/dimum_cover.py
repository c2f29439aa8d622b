"""DiMUM cover (ours): memorise the replacement on both supports, on noisy images of it and on noisy
forgotten images.

DiMUM (`dimum`) teaches the condition c_f only where noisy memory images are; what c_f answers on
noisy images of the forgotten class it leaves alone, and relearning leads back there. Random labels
teach only the latter. Here a batch under c_f is part memory images, part forgotten images, and each
part is to be answered as the replacement c' would answer it:

    L = E_{D_r} |eps - eps(x_t, t; c_r)|^2 + memory_weight ((1 - s) E_{x' in memory} |eps -
      eps(x'_t, t; c_f)|^2 + s E_{x_f} |eps(x_ft, t; c') - eps(x_ft, t; c_f)|^2)

s = forgotten_share; 0 is `dimum`. No image more is seen than there: each of the batch is one or the
other. The last target comes from the current network without a gradient, as in SalUn's random
labels (arXiv 2310.12508). Alternatives that were tried and lost are in docs/results/own_method.md.
"""

import torch
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.objectives import Memory, memory_set, replacement
from unrelearn.module import DiffusionModule, Task


class DiMUMCover(DiffusionModule):
    """Args:
    memory, memory_size, memory_class: which data stand in for the class; see
        `objectives.memory_set`.
    memory_weight: lambda.
    forgotten_share: s, the share of images under c_f that are forgotten ones, in [0, 1]. They are
        answered as the class of the memory would be, or as the next retained class where the memory
        is of no one class.
    """

    passes = (2, 0.5)  # the target of the half that is forgotten images

    def __init__(
        self,
        task: Task,
        *,
        memory: Memory,
        memory_size: int | None = None,
        memory_class: int | None = None,
        memory_weight: float = 1.0,
        forgotten_share: float = 0.5,
        **arguments,
    ):
        super().__init__(task, **arguments)
        self.memory, self.memory_size, self.memory_class = memory, memory_size, memory_class
        self.memory_weight = memory_weight
        share = torch.arange(self.batch_size + 1) * forgotten_share
        self.forgotten = (
            share[1:].floor() > share[:-1].floor()
        )  # which images of a global batch, evenly spread

    @staticmethod
    def needs_oracle(*, memory: str, **arguments) -> bool:
        return memory == "nearest_class"

    def prepare(self) -> None:
        super().prepare()
        self.memory_data = memory_set(self.task, self.memory, self.memory_size, self.memory_class)
        self.stands_in = torch.arange(len(self.task.class_names), device=self.device)
        for c in self.task.forget_classes:
            self.stands_in[c] = replacement(self.task, self.memory, self.memory_class, c)

    def losses(self) -> dict[str, Tensor]:
        retain = self.draw("retain", self.task.retain)
        memory = self.draw("memory", self.memory_data, label_dropout=0.0)
        forget = self.draw("forget", self.task.forget, label_dropout=0.0)
        forgotten = self.forgotten[self._mine(self.micro)].to(self.device)
        under_c_f = torch.where(
            forgotten.view(-1, 1, 1, 1), self.noised(forget), self.noised(memory)
        )
        t, labels = (
            torch.where(forgotten, getattr(forget, k), getattr(memory, k)) for k in ("t", "labels")
        )
        kind = self.task.schedule["prediction_type"]
        kept, wanted = (
            maths.target(b.x_0, b.noise, b.t, self.alphas_cumprod, kind).clone()
            for b in (retain, memory)
        )
        if forgotten.any():
            with torch.no_grad():
                answer = denoisers.predict(
                    self.denoiser,
                    under_c_f[forgotten],
                    t[forgotten],
                    self.stands_in[labels[forgotten]],
                )
            wanted[forgotten] = answer.to(wanted.dtype)
        output = denoisers.predict(
            self.denoiser,
            torch.cat([self.noised(retain), under_c_f]),
            torch.cat([retain.t, t]),
            torch.cat([retain.labels, labels]),
        ).float()
        ours, theirs = output.split([len(retain.t), len(t)])
        squared = (theirs - wanted).square()
        if (
            self.divergence_alpha is not None and forgotten.any()
        ):  # where one prediction is to match another
            squared[forgotten] = self.matching_loss(theirs[forgotten], wanted[forgotten])
        return {
            "retain": self.loss_scale * (ours - kept).square().mean(),
            "memory": self.memory_weight * self.loss_scale * squared.mean(),
        }
