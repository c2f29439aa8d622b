"""Relearning on the retain set, DiMRA's counterpart for classifiers: ordinary training on images
that hold nothing of the forget set.

As vision_relearning (2025, arXiv 2505.22310) does, where it brings most methods' forgotten images
back and a retrained model's not. Threat model: the weights and a share of the retain set.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Relearning
from unrelearn.ranges import Share

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class Relearn(Relearning):
    retain_fraction: Share = 1.0  # of D_r the attacker holds; at least one image

    def begin(self, t: "Classifying") -> None:
        self.held = t.task.part_of_retain(self.retain_fraction)

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        return t.losses(held=t.draw("held", self.held))
