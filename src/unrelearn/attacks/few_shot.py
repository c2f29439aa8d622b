"""Few-shot relearning: the positive control. An attacker who holds a few real images of the class
must succeed.

Threat model: the weights, the label format, the retain set, and `num_images` real images of each
forgotten class. With the class row trainable it brings the class back from every method; if it does
not, the attack code is wrong.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Relearning
from unrelearn.ranges import Count

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class FewShot(Relearning):
    num_images: Count  # real images of each forgotten class that the attacker holds

    passes = (2, 0)
    sees_forgotten = True

    def begin(self, t: "Training") -> None:
        self.shots = t.task.shots(self.num_images)

    def losses(self, t: "Training") -> dict[str, Tensor]:
        shots, retain = t.draw("shots", self.shots), t.draw("retain", t.task.retain)
        return t.losses(shots=shots, retain=retain)
