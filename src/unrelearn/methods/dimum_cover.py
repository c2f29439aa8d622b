"""DiMUM cover (ours): memorise the replacement on both supports, on noisy images of it and on noisy
forgotten images.

DiMUM (`dimum`) teaches the condition c_f only where noisy memory images are; what c_f answers on
noisy images of the forgotten class it leaves alone, and relearning leads back there. Random labels
teach only the latter. Here a batch under c_f is part memory images, part forgotten images, and each
part is to be answered as the replacement c' would answer it:

    L = E_{D_r} |eps - eps(x_t, t; c_r)|^2
      + memory_weight ((1 - s) E_{x' in memory} |eps - eps(x'_t, t; c_f)|^2 + s E_{x_f} |eps(x_ft,
      t; c') - eps(x_ft, t; c_f)|^2)

s = forgotten_share; 0 is `dimum`. No image more is seen than there: each of the batch is one or the
other. The last target comes from the current network without a gradient, as in SalUn's random
labels (arXiv 2310.12508). Alternatives that were tried and lost are in docs/results/own_method.md.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion.memory import Memory, memory_set, replacement
from unrelearn.diffusion.noisy import NoisyBatch
from unrelearn.method import Method
from unrelearn.ranges import Count, Probability, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class DiMUMCover(Method):
    memory: Memory  # which data stand in for the class; see `memory.memory_set`
    memory_size: Count | None = None
    memory_class: int | None = None
    memory_weight: Weight = 1.0  # lambda
    # s, the share of images under c_f that are forgotten ones. They are answered as the class of
    # the memory would be, or as the next retained class where the memory is of no one class
    forgotten_share: Probability = 0.5

    by_class = True
    passes = (2, 0.5)  # the target of the half that is forgotten images

    @property
    def needs_oracle(self) -> bool:
        return self.memory == "nearest_class"

    def prepare(self, t: "Denoising") -> None:
        task = t.task
        self.memory_data = memory_set(task, self.memory, self.memory_size, self.memory_class)
        self.stands_in = torch.arange(len(task.class_names), device=t.device)
        for c in task.forget_classes:
            self.stands_in[c] = replacement(task, self.memory, self.memory_class, c)
        share = torch.arange(self.batch_size + 1) * self.forgotten_share
        # which images of a batch, evenly spread
        self.forgotten = (share[1:].floor() > share[:-1].floor()).to(t.device)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        retain = t.draw("retain", t.task.retain)
        memory = t.draw("memory", self.memory_data, label_dropout=0.0)
        forget = t.draw("forget", t.task.forget, label_dropout=0.0)
        forgotten = t.part(self.forgotten)
        batch = mixed(forgotten, forget, memory)
        x_t, wanted = t.noised(batch), t.target(batch).clone()
        if forgotten.any():
            asked, rows = batch.labels[forgotten], t.null_label + 1
            # a caption's wording, if classes have several, stays
            stand_ins = self.stands_in[asked % rows] + asked // rows * rows
            with torch.no_grad():
                answer = t.predict(x_t[forgotten], batch.t[forgotten], stand_ins)
            wanted[forgotten] = answer.to(wanted.dtype)
        output = t.predict(
            torch.cat([t.noised(retain), x_t]),
            torch.cat([retain.t, batch.t]),
            torch.cat([retain.labels, batch.labels]),
        ).float()
        ours, theirs = output.split([len(retain.t), len(batch.t)])
        squared = (theirs - wanted).square()
        if self.divergence_alpha is not None and forgotten.any():
            # where one prediction is to match another
            squared[forgotten] = t.matching(theirs[forgotten], wanted[forgotten])
        return {
            "retain": t.loss_scale * (ours - t.target(retain)).square().mean(),
            "memory": self.memory_weight * t.loss_scale * squared.mean(),
        }


def mixed(chosen: Tensor, one: NoisyBatch, other: NoisyBatch) -> NoisyBatch:
    """The examples of one batch where chosen (B,), those of the other elsewhere."""
    images = chosen.view(-1, 1, 1, 1)
    return NoisyBatch(
        torch.where(images, one.x_0, other.x_0),
        torch.where(chosen, one.labels, other.labels),
        torch.where(images, one.noise, other.noise),
        torch.where(chosen, one.t, other.t),
    )
