"""MUNBa: forgetting and retaining as two players who bargain over the step.

Wu & Harandi 2024, "MUNBa: Machine Unlearning via Nash Bargaining" (arXiv 2411.15537). The losses
are those of `random_label` (`objectives.random_labels`), as in their released code for
classes of Stable Diffusion; the step is `gradients.bargaining`, which equals the closed form of
that code, alpha_r^2 = 1 / (|g_r|^2 (1 + cos)) and the same for g_f.
Only directions count, so the losses need no weights. Where we differ: theirs divides by <g_f, g_r>,
and falls back on a weighted sum where that fails; ours has no such division, and takes no step
where the two gradients are opposed.
There is no released DDPM code: budget and pseudo label are those of the neighbours.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Combine, Method
from unrelearn.objectives import random_labels

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class MUNBa(Method):
    combine: Combine = "bargaining"

    passes = (2, 5)  # as random_label, and each of two gradients goes back through both halves

    def losses(self, t: "Training") -> dict[str, Tensor]:
        return random_labels(t, retain_weight=1.0)
