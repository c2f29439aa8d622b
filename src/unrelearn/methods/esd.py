"""ESD: under c_f, answer what the original model would answer if it were guided away from c_f. No
data at all.

Gandikota et al. 2023, "Erasing Concepts from Diffusion Models" (arXiv 2303.07345). With e_0 and e_c
the frozen original model's predictions at x_t without and with the condition,

    L = | eps(x_t, t; c_f) - (e_0 - negative_guidance (e_c - e_0)) |^2

and x_t an image of c_f that the current network has denoised from noise down to t, with guidance,
as in the released code for Stable Diffusion. Where we differ: a batch in which each image has its
own t, reached by DDIM steps of equal length (there one image and one t a step, t anywhere in the
bin where it stopped); network in evaluation mode while it draws x_t; x_0 of pixels clamped to
[-1, 1] there; all weights that may move move (there parts that our UNets do
not have). The port for DDPM that SalUn's repository once held steps before it differentiates:
nothing is taken from it. The target's weights sum to 1, so the same formula is right for noise, x_0
and v prediction.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.diffusion.erasing import Erasing

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class ESD(Erasing):
    # the teacher twice; the student 4.5 times on the average of ten steps, each of them guided
    passes = (1, 11)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        batch = t.draw("trajectory", self.blank, label_dropout=0.0)
        there = self.partly_denoised(t, batch), batch.t, batch.labels
        return {"forget": t.matching(t.predict(*there), self.wanted(t, *there))}
