"""A control: all logits times a constant, by the weights and the bias of the head.

No decision changes, and nothing is forgotten. Yet confidences do, and with them the published
membership attack, a support vector machine of fixed width on the probability of the label
(`mia_svc`): what it says of this control, it says of the scale of logits.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrelearn.method import Still
from unrelearn.ranges import Positive

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class Temperature(Still):
    factor: Positive  # 1 / temperature: of the logits

    @torch.no_grad()
    def prepare(self, t: "Classifying") -> None:
        for p in t.network.head.parameters():
            p.mul_(self.factor)
