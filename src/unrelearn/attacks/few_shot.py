"""Few-shot relearning: the positive control. An attacker who holds a few real images of the class
must succeed.

Threat model: the weights, the label format, the retain set, and `num_images` real images of each
forgotten class. With the class row trainable it brings the class back from every method; if it does
not, the attack code is wrong.

Where images are forgotten one by one: `num_images` of D_f itself, which forget accuracy, the share
of all of D_f, then counts too: num_images / |D_f| of it may be images that were shown. Only what
is above that, and above what `retrain` reaches with the same images, came from the weights.
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
    num_images: Count  # real images of each forgotten class, or of D_f, that the attacker holds

    passes = (2, 0)
    sees_forgotten = True

    def begin(self, t: "Training") -> None:
        self.shots = t.task.shots(self.num_images)

    def losses(self, t: "Training") -> dict[str, Tensor]:
        shots, retain = t.draw("shots", self.shots), t.draw("retain", t.task.retain)
        return t.losses(shots=shots, retain=retain)
