"""NegGrad+: descend on the retain set's loss and climb the forget set's, in fixed shares.

    L = a loss(D_r) - (1 - a) loss(D_f)

Kurmanji et al. 2023, "Towards Unbounded Machine Unlearning" (arXiv 2302.09880), a baseline of
theirs; a = 0.95 in Deep Unlearn's re-implementation. It is `gradient_ascent` with forget_weight
(1 - a) / a at a learning rate a times as large. The second term has no lower bound.
Where we differ: both batches go through the network together and share the statistics of BatchNorm
(there one after the other; in Deep Unlearn the network is in evaluation mode). As there, a batch of
D_f belongs to each of D_r, so that a small D_f is read more often.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Method
from unrelearn.ranges import Probability

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class NegGradPlus(Method):
    retain_share: Probability  # a, of the retain loss; the ascent has 1 - a

    passes = (2, 0)

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        losses = t.losses(
            forget=t.draw("forget", t.task.forget, label_dropout=0.0),
            retain=t.draw("retain", t.task.retain),
        )
        return {
            "forget": -(1 - self.retain_share) * losses["forget"],
            "retain": self.retain_share * losses["retain"],
        }
