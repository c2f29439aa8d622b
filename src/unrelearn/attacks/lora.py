"""Low-rank relearning: every convolution and linear layer learns an addition of rank `rank`, the
weights themselves stay.

W' = W + scale B A, with B (out, rank) zero and A (rank, in) Gaussian of variance 1 / in at the
start (LoRA, Hu et al. 2022, arXiv 2106.09685; a convolution's kernel is part of `in`). Threat
model: that of `few_shot`, or with `num_images` null that of `dimra`.
Where we differ: all layers instead of attention alone, of which small UNets have little; the class
table, where it is trainable, is trained plainly.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.diffusion import low_rank
from unrelearn.method import Relearning
from unrelearn.ranges import Count, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoiser import Denoiser
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class LoRA(Relearning):
    rank: Count  # of what is added to each weight, seen as a matrix (out, in)
    scale: Weight = 1.0  # of what is added; the literature's alpha / rank
    num_images: Count | None = None  # real ones of each forgotten class that the attacker holds

    passes = (2, 0)

    @property
    def sees_forgotten(self) -> bool:
        return self.num_images is not None

    def begin(self, t: "Denoising") -> None:
        self.shots = None if self.num_images is None else t.task.shots(self.num_images)
        low_rank.add(t.network, self.rank, self.scale, t.task.seed)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        batches = {} if self.shots is None else {"shots": t.draw("shots", self.shots)}
        return t.losses(**batches, retain=t.draw("retain", t.task.retain))

    def exported(self, network: "Denoiser") -> "Denoiser":
        return low_rank.merged(network)
