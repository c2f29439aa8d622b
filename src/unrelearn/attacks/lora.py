"""Low-rank relearning: every convolution and linear layer learns an addition of rank `rank`, the
weights themselves stay.

W' = W + scale B A, with B (out, rank) zero and A (rank, in) Gaussian of variance 1 / in at the
start (LoRA, Hu et al. 2022, arXiv 2106.09685; a convolution's kernel is part of `in`). Threat
model: that of `few_shot`, or with `num_images` null that of `dimra`.
Where we differ: all layers instead of attention alone, of which small UNets have little; the class
table, where it is trainable, is trained plainly.

By torch's parametrisations and not by peft, which would bring transformers for what is ten lines
here.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.method import Relearning
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoiser import Denoiser
    from unrelearn.diffusion.denoising import Denoising


class LowRank(nn.Module):
    """weight -> weight + scale B A, for a weight (out, in, ...)."""

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator):
        super().__init__()
        width_out, width_in = weight.flatten(1).shape
        self.scale = scale
        self.A = nn.Parameter(
            torch.randn(rank, width_in, generator=generator).div_(width_in**0.5).to(weight.device)
        )
        self.B = nn.Parameter(torch.zeros(width_out, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.B @ self.A).view_as(weight)


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
        table = t.network.class_embedding.weight
        layers = [
            (name, layer)
            for name, layer in t.network.named_modules()
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.requires_grad
        ]
        for parameter in t.network.parameters():
            parameter.requires_grad_(parameter is table and table.requires_grad)
        for name, layer in layers:
            g = generator_for(t.task.seed, "low rank", name)
            addition = LowRank(layer.weight, self.rank, self.scale, g)
            parametrize.register_parametrization(layer, "weight", addition)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        batches = {} if self.shots is None else {"shots": t.draw("shots", self.shots)}
        return t.losses(**batches, retain=t.draw("retain", t.task.retain))

    def exported(self, network: "Denoiser") -> "Denoiser":
        # a new network: taking the parametrisations off a copy would take them off the class that
        # both share
        plain = denoisers.empty_like(network)
        weights = {name: attrgetter(name)(network).detach().clone() for name in plain.state_dict()}
        plain.load_state_dict(weights, assign=True)
        return plain
