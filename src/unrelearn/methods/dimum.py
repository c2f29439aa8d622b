"""DiMUM: do not push the forgotten class away, memorise other data under its condition.

Yuan et al. 2025 (arXiv 2512.03564). From the abstract and reviews of the paper: a retain loss plus
a loss that makes the model converge on alternative data under the forgotten condition. The formula,
constants and the choice of the data are ours (the paper's code is not public):

    L = E_{D_r} |eps - eps(x_t, t; c_r)|^2 + memory_weight E_{x' in memory} |eps - eps(x'_t, t;
    c_f)|^2
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion.memory import Memory, memory_set
from unrelearn.method import Method
from unrelearn.ranges import Count, Probability, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class DiMUM(Method):
    memory: Memory  # which data; see `memory.memory_set`
    memory_size: Count | None = None  # at most so many for each forgotten class
    memory_class: int | None = None  # the class they are of; None: the next retained one
    memory_weight: Weight = 1.0  # lambda
    memory_label_dropout: Probability = 0.0  # 0 keeps them out of the unconditional branch
    # every `plateau_steps` steps, stop if the memory loss averaged over them is less than this
    # share below that of the `plateau_steps` before; None runs all max_steps
    plateau_tolerance: Probability | None = None
    plateau_steps: Count = 100

    by_class = True
    passes = (2, 0)

    @property
    def needs_oracle(self) -> bool:
        return self.memory == "nearest_class"

    def prepare(self, t: "Denoising") -> None:
        self.memory_data = memory_set(t.task, self.memory, self.memory_size, self.memory_class)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        losses = t.losses(
            retain=t.draw("retain", t.task.retain),
            memory=t.draw("memory", self.memory_data, label_dropout=self.memory_label_dropout),
        )
        return {"retain": losses["retain"], "memory": self.memory_weight * losses["memory"]}

    def converged(self, t: "Denoising") -> bool:
        now, window = t.rows[-1]["step"], self.plateau_steps
        # looked at where windows end, not at every row: how often rows are recorded must not change
        # the result
        if self.plateau_tolerance is None or now % window or now < 2 * window:
            return False
        recent, before = (
            torch.tensor([r["memory"] for r in t.rows if end - window < r["step"] <= end]).mean()
            for end in (now, now - window)
        )
        return bool(recent > (1.0 - self.plateau_tolerance) * before)
