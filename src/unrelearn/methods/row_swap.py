"""The degenerate unlearner: copy another class's row of the embedding table over that of the
forgotten class.

Nothing is forgotten, the network is untouched; yet c_f now yields the other class, every retained
class is as before to the bit, and no attack that trains on retain data with a frozen table can ever
reach the row. It is here because any measure that ranks it first is broken.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrelearn.method import Method

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class RowSwap(Method):
    by_class = True

    @torch.no_grad()
    def prepare(self, t: "Denoising") -> None:
        table = t.network.class_embedding.weight
        for c in t.task.forget_classes:
            table[c] = table[t.task.other_class(c)]
