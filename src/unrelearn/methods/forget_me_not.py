"""Forget-Me-Not: let no pixel look at the forgotten word.

Zhang et al. 2023, "Forget-Me-Not: Learning to Forget in Text-to-Image Diffusion Models" (arXiv
2303.17591), attention re-steering. With A the softmax maps of every cross-attention (heads, pixels,
states of the caption) at a noised forgotten image, and S the columns of the word,

    L = | A[..., S] |_2

No term keeps anything else: it is stopped early instead. As the rows of A sum to one, mass moves to
the other columns, first of all the start token's. Where we differ: one norm for each image of a
batch, then their mean (there the batch is one image); the word exists, so that no token is inverted
first. Which columns are meant decides whether anything happens, as later states know of the word
too: `states`, as in `uce`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion.captions import States
from unrelearn.method import Method

if TYPE_CHECKING:
    from unrelearn.diffusion.prompting import Captioned


@dataclass(kw_only=True)
class ForgetMeNot(Method):
    states: States  # of a caption: the columns that are turned away from

    def losses(self, t: "Captioned") -> dict[str, Tensor]:
        batch = t.draw("forget", t.task.forget, label_dropout=0.0)
        rows = t.null_label + 1
        columns = t.places(batch.labels % rows, batch.labels // rows, self.states).float()
        squares = [(maps.square().sum((1, 2)) * columns).sum(1) for maps in t.attention(batch)]
        return {"forget": torch.stack(squares).sum(0).sqrt().mean()}
