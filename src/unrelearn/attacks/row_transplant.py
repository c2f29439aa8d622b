"""Row transplant: put the original model's embedding row of the forgotten class back, and touch
nothing else.

row c_f := (1 - a) current + a original. Threat model: the weights, and one row of the original
model, which may have been published beside it. No step, no image: it undoes at once what only edits
the row (`row_swap`), and is an audit rather than an attack. Beside `retrain` the number means
little: a model trained anew has other rows, among which this one is a stranger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from unrelearn.method import Edit

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class RowTransplant(Edit):
    unit = "share of the original's row"
    allowed = (0.0, 1.0)
    by_class = True
    sees_forgotten = True

    @classmethod
    def needs_original(cls, settings: Mapping[str, Any]) -> bool:
        return True

    def edit(self, t: "Denoising", level: float) -> dict[str, float]:
        original = t.task.original().class_embedding.weight
        table = t.network.class_embedding.weight
        for c in t.task.forget_classes:
            table[c] = torch.lerp(table[c], original[c], level)
        return {}
