"""A control of DP-VFLGAN's accounting: the first layer of each extractor is never trained.

By that accounting epsilon is 0, as nothing of the data enters the layer that it looks at.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrelearn.gan.accounting import REPLACE
from unrelearn.gan.privacy.none import AccountedTraining, Noise, Privacy


@dataclass(kw_only=True)
class FirstLayerFrozen(Privacy):
    def first_layer(self, grad: Tensor, batch_size: int, noise: Noise) -> Tensor:
        return torch.zeros_like(grad)

    def account(self, training: AccountedTraining) -> dict[str, Any]:
        reason = "all layers above the first are trained on raw records"
        return super().account(training) | {
            "mechanism": "first layer of each extractor frozen",
            "adjacency": REPLACE,
            "epsilon_claimed": 0.0,
            "no_guarantee": reason,
        }
