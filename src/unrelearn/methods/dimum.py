"""DiMUM: do not push the forgotten class away, memorise other data under its condition.

Yuan et al. 2025 (arXiv 2512.03564). From the abstract and reviews of the paper: a retain loss plus
a loss that makes the model converge on alternative data under the forgotten condition. The formula,
constants and the choice of the data are ours (the paper's code is not public):

    L = E_{D_r} |eps - eps(x_t, t; c_r)|^2 + memory_weight E_{x' in memory} |eps - eps(x'_t, t;
    c_f)|^2
"""

import torch
from torch import Tensor

from unrelearn.diffusion.objectives import Memory, memory_set
from unrelearn.module import DiffusionModule, Task


class DiMUM(DiffusionModule):
    """Args:
    memory, memory_size, memory_class: which data; see `objectives.memory_set`.
    memory_weight: lambda.
    memory_label_dropout: label dropout in the memory term. 0 keeps the memory data out of the
        unconditional branch.
    plateau_tolerance: every `plateau_steps` steps, stop if the memory loss averaged over them is
        less than this share below that of the `plateau_steps` before; None runs all max_steps.
    """

    passes = (2, 0)

    def __init__(
        self,
        task: Task,
        *,
        memory: Memory,
        memory_size: int | None = None,
        memory_class: int | None = None,
        memory_weight: float = 1.0,
        memory_label_dropout: float = 0.0,
        plateau_tolerance: float | None = None,
        plateau_steps: int = 100,
        **arguments,
    ):
        super().__init__(task, **arguments)
        self.memory, self.memory_size, self.memory_class = memory, memory_size, memory_class
        self.memory_weight = memory_weight
        self.memory_label_dropout = memory_label_dropout
        self.plateau_tolerance, self.plateau_steps = plateau_tolerance, plateau_steps

    @staticmethod
    def needs_oracle(*, memory: str, **arguments) -> bool:
        return memory == "nearest_class"

    def prepare(self) -> None:
        super().prepare()
        self.memory_data = memory_set(self.task, self.memory, self.memory_size, self.memory_class)

    def losses(self) -> dict[str, Tensor]:
        losses = self.denoising_losses(
            retain=self.draw("retain", self.task.retain),
            memory=self.draw("memory", self.memory_data, label_dropout=self.memory_label_dropout),
        )
        return {"retain": losses["retain"], "memory": self.memory_weight * losses["memory"]}

    def converged(self) -> bool:
        now = self.rows[-1]["step"]
        # looked at where windows end, not at every row: how often rows are recorded must not change
        # the result
        if (
            self.plateau_tolerance is None
            or now % self.plateau_steps
            or now < 2 * self.plateau_steps
        ):
            return False
        recent = [r["memory"] for r in self.rows if r["step"] > now - self.plateau_steps]
        before = [
            r["memory"]
            for r in self.rows
            if now - 2 * self.plateau_steps < r["step"] <= now - self.plateau_steps
        ]
        recent, before = torch.tensor(recent).mean(), torch.tensor(before).mean()
        return bool(recent > (1.0 - self.plateau_tolerance) * before)
