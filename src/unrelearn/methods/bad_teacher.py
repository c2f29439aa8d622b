"""Bad teaching: answer on the forget set as a network that has learned nothing, and on the retain
set as the original model.

Chundawat et al. 2023, "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks using an
Incompetent Teacher" (AAAI 2023, arXiv 2205.08096). With softmax outputs p of the network, p_o of
the original model and p_b of a random network of the same architecture,

    L = K(p_b(x_f), p(x_f)) + K(p_o(x_r), p(x_r)),   K(q, p) = mean over images and classes of
                                                               q_c log(q_c / p_c)

As released, K is a mean over the classes too, and so the Kullback-Leibler divergence over the
number of classes: a tenth for ten of them. There this hardly matters, as Adam (1e-4, one epoch)
does not see the scale of a loss; SGD does. As released, both teachers are in evaluation mode; a
random network in training mode would answer by the statistics of the batch, which are D_f's. Its
running statistics are those of a new network, mean 0 and variance 1.
Where we differ: there batches are drawn from D_f and a fixed 30 % of D_r together, so that the two
terms count as the sets are large; here each step has a batch of both, and all of D_r is drawn from.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from unrelearn.method import Method
from unrelearn.randomness import generator_for

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class BadTeacher(Method):
    passes = (2, 2)

    def prepare(self, t: "Classifying") -> None:
        from unrelearn.classification import networks  # loads torchvision

        # not with the seed of the run, from which the pretraining started
        seed = generator_for(t.task.seed, self.stage, "bad_teacher").initial_seed()
        random = networks.build(t.network.config, seed).to(t.device)
        self.incompetent = random.eval().requires_grad_(False)
        self.competent = copy.deepcopy(t.network).eval().requires_grad_(False)

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        forget, retain = t.draw("forget", t.task.forget), t.draw("retain", t.task.retain)
        forgotten, kept = t.logits(forget, retain)
        with torch.no_grad():
            bad, good = self.incompetent(forget.x_0).float(), self.competent(retain.x_0).float()
        return {"forget": divergence(bad, forgotten), "retain": divergence(good, kept)}


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """K of logits (B, K)."""
    student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) / student.numel()
