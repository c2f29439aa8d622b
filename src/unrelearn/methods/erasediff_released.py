"""EraseDiff as released for DDPM: under c_f, answer as under some retained class, with a fixed
small weight.

Wu et al. 2024 (arXiv 2401.05779), the authors' code. With c' one retained class, drawn anew in each
step:

    L = L_r + lambda |eps(x_f, t; c_f) - stopgrad eps(x_f, t; c')|^2,    lambda = 0.1

Their loss subtracts from the second term what K passes over D_f reach on it alone: a constant,
which changes no step, and is left out with its cost. In their code those passes do change the
steps, as Adam's moments are not restored after them: an error, not followed. The paper's loss, with
noise as the target and a weight that adapts, is `erasediff_paper`. Where we differ: theirs draws c'
from labels 1 to 9, which is right for c_f = 0 only; ours from the retained classes.
"""

import torch
from torch import Tensor

from unrelearn import randomness
from unrelearn.diffusion.objectives import random_label_losses
from unrelearn.module import DiffusionModule, Task


class EraseDiffReleased(DiffusionModule):
    """Args: forget_weight: lambda."""

    passes = (2, 1)

    def __init__(self, task: Task, *, forget_weight: float, **arguments):
        super().__init__(task, **arguments)
        self.forget_weight = forget_weight

    def pseudo_label(self) -> int:
        """c' of this step, one for the whole batch."""
        kept = self.task.retain_classes
        g = randomness.generator_for(self.task.seed, self.stage, "pseudo label", self.global_step)
        return kept[int(torch.randint(len(kept), (), generator=g))]

    def losses(self) -> dict[str, Tensor]:
        losses = random_label_losses(self, retain_weight=1.0, pseudo_label=self.pseudo_label())
        return {"forget": self.forget_weight * losses["forget"], "retain": losses["retain"]}
