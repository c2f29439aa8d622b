"""SPM: additions of rank one to the layers of all transformer blocks learn ESD's target, and leave
what the network answers to random states. No image.

Lyu et al. 2024, "One-Dimensional Adapter to Rule Them All: Concepts, Diffusion Models and Erasing
Applications" (arXiv 2312.16145), a semi-permeable membrane. With e ESD's target (see `esd`), eps_0
the frozen original model and z Gaussian states as large as those of c_f's caption times a number
between 0.8 and 1.2,

    L = | eps(x_t, t; c_f) - e |^2 + anchor_weight | eps(x_t, t; z) - eps_0(x_t, t; z) |^2

Where we differ. There a prompt multiplies the additions by how near it is to the concept, so that
the model is not one network; here they are part of the weights, as they are for whoever holds them,
and other prompts are kept by the second term alone. One z for each image, theirs are four for one
image; theirs are kept with probability 1 - cos(z, c_f), which for so many numbers is nearly 1.
Their cosine schedule restarts; ours is one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion import low_rank
from unrelearn.diffusion.erasing import Erasing
from unrelearn.ranges import Count, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoiser import Denoiser
    from unrelearn.diffusion.prompting import Captioned


@dataclass(kw_only=True)
class SPM(Erasing):
    rank: Count  # of what is added to a weight, seen as a matrix (out, in)
    anchor_weight: Weight  # of the answers to random states

    passes = (2, 12)

    def begin(self, t: "Captioned") -> None:  # type: ignore[override]
        low_rank.add(t.network, self.rank, 1.0, t.task.seed, within=".attentions.")

    def losses(self, t: "Captioned") -> dict[str, Tensor]:  # type: ignore[override]
        batch = t.draw("trajectory", self.blank, label_dropout=0.0)
        there = self.partly_denoised(t, batch), batch.t, batch.labels
        z = self.anchors(t, t.network.class_embedding(batch.labels))
        with torch.no_grad():
            known = self.teacher.network.read(*there[:2], z)
        anchor = t.matching(t.read(*there[:2], z), known)
        return {
            "forget": t.matching(t.predict(*there), self.wanted(t, *there)),
            "anchor": self.anchor_weight * anchor,
        }

    def anchors(self, t: "Captioned", states: Tensor) -> Tensor:
        """z (B, L, D) of the size of captions (B, L, D)."""
        g = t.generator("anchors", device=t.device)
        size = (self.batch_size, *states.shape[1:])
        z = t.part(torch.randn(size, generator=g, device=t.device))
        norms = [one.flatten(1).norm(dim=1)[:, None, None] for one in (states, z)]
        return z * norms[0] / norms[1] * (0.8 + 0.4 * t.uniform("sizes", (1, 1)))

    def exported(self, network: "Denoiser") -> "Denoiser":
        return low_rank.merged(network)
