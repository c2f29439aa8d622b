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

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Method
from unrelearn.objectives import random_labels
from unrelearn.ranges import Weight

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class EraseDiffReleased(Method):
    forget_weight: Weight  # lambda

    passes = (2, 1)

    def losses(self, t: "Training") -> dict[str, Tensor]:
        shown = t.choose_one("pseudo label", t.task.retain_classes)  # c'
        losses = random_labels(t, retain_weight=1.0, pseudo_label=shown)
        return {"forget": self.forget_weight * losses["forget"], "retain": losses["retain"]}
