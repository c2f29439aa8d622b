"""SCRUB: a student that leaves its teacher, the original model, on the forget set and stays with it
on the retain set.

Kurmanji et al. 2023, "Towards Unbounded Machine Unlearning" (arXiv 2302.09880). With

    d(x) = T^2 KL(teacher(x) || student(x)),   softmax of logits / T, mean over images,

    max-step   -d(x_f)
    min-step   ce_weight CE(x_r, y_r) + kl_weight d(x_r)

As released: one optimiser for both, the teacher in evaluation mode, the student in training mode.
Where we differ, as there are no epochs here: released, each of the first two of three epochs is a
pass of max-steps over D_f and then one of min-steps over D_r, and the third has min-steps alone.
Here the first `max_share` of all steps are in turns a max-step and a min-step, and the rest are
min-steps; so there are as many of both kinds in the first part, where there D_r, being larger, has
more. Learning rate and schedule are those that all methods get (there 5e-4, a tenth of it after
some epochs), and gradients are clipped. SCRUB+R, which goes back to the checkpoint that errs on D_f
as on held-out images, is left out.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, no_grad
from torch.nn import functional as F

from unrelearn.method import Method
from unrelearn.ranges import Positive, Probability, Weight

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class SCRUB(Method):
    max_share: Probability  # of the steps, in turns a max-step and a min-step
    temperature: Positive  # T
    ce_weight: Weight  # gamma, of the cross-entropy
    kl_weight: Weight  # alpha, of the divergence on the retain set

    passes = (1, 1)

    def prepare(self, t: "Classifying") -> None:
        self.teacher = copy.deepcopy(t.network).eval().requires_grad_(False)

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        if t.step % 2 == 0 and t.step < self.max_share * self.max_steps:
            batch = t.draw("forget", t.task.forget)
            return {"forget": -self.distance(t.logits(batch)[0], batch.x_0)}
        batch = t.draw("retain", t.task.retain)
        logits = t.logits(batch)[0]
        kept = self.ce_weight * F.cross_entropy(logits, batch.labels)
        return {"retain": kept + self.kl_weight * self.distance(logits, batch.x_0)}

    def distance(self, student: Tensor, x: Tensor) -> Tensor:
        """d of logits (B, K) for images (B, C, S, S)."""
        with no_grad():
            teacher = self.teacher(x).float()
        student, teacher = ((z / self.temperature).log_softmax(-1) for z in (student, teacher))
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence
