"""UCE: keys and values of cross-attention that answer the forgotten word as another one, in closed
form. No step, no image.

Gandikota et al. 2024, "Unified Concept Editing in Diffusion Models" (arXiv 2308.14761, Eq. 7). With
c_f the states of the forgotten captions, c_a those of their stand-ins and c_r those of retained
captions, every W of to_k and to_v becomes

    W* = (ridge W + erase_weight sum W c_a c_f^T + retain_weight sum W c_r c_r^T)
         (ridge I + erase_weight sum c_f c_f^T + retain_weight sum c_r c_r^T)^-1

Which states of a caption are edited decides whether anything happens, as the encoder is causal and
every state after a word knows of it: the word's own (as released today), all from it to the end of
the padding (as first released), or all. The sums are means here, so that weights do not depend on
how many captions there are; the solve is done in float64, as it is ill-conditioned at a small
ridge.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion.captions import States
from unrelearn.method import Still
from unrelearn.ranges import Positive, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.prompting import Captioned


@dataclass(kw_only=True)
class UCE(Still):
    states: States  # of a caption: which are edited
    ridge: Positive  # lambda, of what holds W where it is
    erase_weight: Weight  # of the forgotten captions
    retain_weight: Weight  # of all retained captions, and the empty one

    @torch.no_grad()
    def prepare(self, t: "Captioned") -> None:
        forgotten, places = t.concept_states(self.states)
        anchors = t.stand_in_states()[places]
        kept = t.retained_states()
        for name, layer in t.network.named_modules():
            if name.endswith((".attn2.to_k", ".attn2.to_v")) and layer.weight.requires_grad:
                new = self.edited(layer.weight.double(), forgotten, anchors, kept)
                layer.weight.copy_(new)

    def edited(self, w: Tensor, forgotten: Tensor, anchors: Tensor, kept: Tensor) -> Tensor:
        """W* (out, D) of W (out, D), for states (N, D), (N, D) and (M, D); all float64."""
        unit = self.ridge * torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        erase, retain = self.erase_weight / len(forgotten), self.retain_weight / len(kept)
        same = unit + retain * kept.T @ kept
        return torch.linalg.solve(
            same + erase * forgotten.T @ forgotten,
            w @ (same + erase * anchors.T @ forgotten),
            left=False,
        )
