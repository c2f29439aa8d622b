"""The degenerate unlearner: copy another class's row of the embedding table over that of the
forgotten class.

Nothing is forgotten, the network is untouched; yet c_f now yields the other class, every retained
class is as before to the bit, and no attack that trains on retain data with a frozen table can ever
reach the row. It is here because any measure that ranks it first is broken.
"""

import torch

from unrelearn.module import DiffusionModule


class RowSwap(DiffusionModule):
    @torch.no_grad()
    def prepare(self) -> None:
        table = self.denoiser.class_embedding.weight
        for c in self.task.forget_classes:
            table[c] = table[self.task.other_class(c)]
