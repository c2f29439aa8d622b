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

from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unrelearn.diffusion.denoiser import Denoiser
from unrelearn.module import Relearning, Task
from unrelearn.randomness import generator_for


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


class LoRA(Relearning):
    """Args:
    rank: of what is added to each weight, seen as a matrix (out, in).
    scale: of what is added; the literature's alpha / rank.
    num_images: real images of each forgotten class that the attacker holds; None: none.
    """

    passes = (2, 0)

    def __init__(
        self,
        task: Task,
        *,
        rank: int,
        scale: float = 1.0,
        num_images: int | None = None,
        **arguments,
    ):
        super().__init__(task, **arguments)
        self.shots = None if num_images is None else self.task.shots(num_images)
        table = self.denoiser.class_embedding.weight
        layers = [
            (name, layer)
            for name, layer in self.denoiser.named_modules()
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.requires_grad
        ]
        for parameter in self.denoiser.parameters():
            parameter.requires_grad_(parameter is table and table.requires_grad)
        for name, layer in layers:
            addition = LowRank(
                layer.weight, rank, scale, generator_for(self.task.seed, "low rank", name)
            )
            parametrize.register_parametrization(layer, "weight", addition)

    @staticmethod
    def sees_forgotten(*, num_images: int | None = None, **arguments) -> bool:
        return num_images is not None

    def losses(self) -> dict[str, Tensor]:
        batches = {} if self.shots is None else {"shots": self.draw("shots", self.shots)}
        return self.denoising_losses(**batches, retain=self.draw("retain", self.task.retain))

    def exported(self) -> Denoiser:
        # a new network: taking the parametrisations off a copy would take them off the class that
        # both share
        with torch.device("meta"):
            network = type(self.denoiser).from_config(self.denoiser.config)
        weights = {
            name: attrgetter(name)(self.denoiser).detach().clone() for name in network.state_dict()
        }
        network.load_state_dict(weights, assign=True)
        return network
