"""ESD for an attribute: under the forgotten caption, what the original model answers without the
word, led away from the word alone. The object stays what it is; no data at all.

Gandikota et al. 2023, "Erasing Concepts from Diffusion Models" (arXiv 2303.07345), in the form that
the released code calls "erase from". With c_f a forgotten caption ("a red circle"), c_o the same
without the word ("a circle") and w the word alone ("red"),

    L = | eps(x_t, t; c_f) - (e_o - negative_guidance (e_w - e_0)) |^2

where `esd` has e_0 in place of e_o and e_c of e_w, so that under c_f nothing is asked for. Where we
differ: there the network is trained under c_o itself, which here no image has as its caption.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion.erasing import Erasing

if TYPE_CHECKING:
    from unrelearn.diffusion.prompting import Prompting


@dataclass(kw_only=True)
class AttributeESD(Erasing):
    # those of `esd`, and the teacher three times in place of twice
    passes = (1, 12)

    def prepare(self, t: "Prompting") -> None:  # type: ignore[override]
        super().prepare(t)
        captions = t.task.captions
        words = captions.concept(t.task.forget_classes)
        canonical = [of[0].split() for of in captions.captions]
        without = [" ".join(w for w in text if w not in words) for text in canonical]
        self.without = self.states(t, without)  # (K, L, D)
        self.word, self.nothing = self.states(t, [" ".join(words), ""])

    def losses(self, t: "Prompting") -> dict[str, Tensor]:  # type: ignore[override]
        batch = t.draw("trajectory", self.blank, label_dropout=0.0)
        there = self.partly_denoised(t, batch), batch.t, batch.labels
        return {"forget": t.matching(t.predict(*there), self.wanted(t, *there))}

    @torch.no_grad()
    def states(self, t: "Prompting", texts: list[str]) -> Tensor:
        """(N, L, D), as the public encoder reads them."""
        table = self.teacher.network.class_embedding
        ids = [t.task.captions.encoded(text, table.ids.shape[-1]) for text in texts]
        return table.encoder(torch.stack(ids).to(t.device))

    @torch.no_grad()
    def wanted(  # type: ignore[override]
        self, t: "Prompting", x_t: Tensor, times: Tensor, labels: Tensor
    ) -> Tensor:
        word, nothing = (one.expand(len(labels), -1, -1) for one in (self.word, self.nothing))
        states = torch.cat([self.without[labels], word, nothing])
        answers = self.teacher.network.read(x_t.repeat(3, 1, 1, 1), times.repeat(3), states)
        e_o, e_w, e_0 = answers.float().chunk(3)
        return e_o - self.negative_guidance * (e_w - e_0)
