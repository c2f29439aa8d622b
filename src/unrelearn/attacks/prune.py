"""Pruning: the smallest weights of the whole network are set to zero, and the model is measured as
it is then.

Global magnitude pruning (Han et al. 2015, arXiv 1506.02626) without retraining. An edit that hides
in many small changes may go before the ability does. Threat model: the weights, no data. All
weights of two or more dimensions but a denoiser's class table, in which a row is all there is of a
class, are ranked together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrelearn.method import Edit

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class Prune(Edit):
    unit = "share of weights pruned"
    allowed = (0.0, 0.99)

    def edit(self, t: "Training", level: float) -> dict[str, float]:
        named = t.network.named_parameters()
        weights = [p for name, p in named if p.ndim >= 2 and name not in t.spared]
        whole = torch.cat([p.flatten() for p in weights])
        smallest = whole.abs().topk(round(level * len(whole)), largest=False).indices
        whole[smallest] = 0.0  # so many, also where values tie
        for parameter, part in zip(weights, whole.split([p.numel() for p in weights]), strict=True):
            parameter.copy_(part.view_as(parameter))
        return {}
