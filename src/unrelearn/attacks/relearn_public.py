"""Relearning on public images: ordinary training on images that neither D_f nor D_r holds.

The attack of Siddiqui et al. 2025 (arXiv 2505.22310) on held-out images instead of retained ones.
Threat model: the weights, and half of the test images, less those of forgotten classes. Where
images are forgotten one by one, what comes back beyond what `retrain` gains was still in the
weights. The measures of test images, of all models of the run, are then those of the other half.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Relearning

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class RelearnPublic(Relearning):
    holds_public = True

    def begin(self, t: "Classifying") -> None:
        assert t.task.public is not None
        self.auxiliary = t.task.public.of_classes(t.task.retain_classes)

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        return t.losses(auxiliary=t.draw("auxiliary", self.auxiliary))
