"""Additions of low rank to weights, which stay as they are.

W' = W + scale B A, with B (out, rank) zero and A (rank, in) Gaussian of variance 1 / in at the
start (LoRA, Hu et al. 2022, arXiv 2106.09685; a convolution's kernel is part of `in`).

By torch's parametrisations and not by peft, which would bring transformers for what is ten lines
here.
"""

from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.randomness import generator_for

if TYPE_CHECKING:
    from unrelearn.diffusion.denoiser import Denoiser


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


def add(network: nn.Module, rank: int, scale: float, seed: int | str, within: str = "") -> None:
    """Give every convolution and linear layer that may move, and whose name holds `within`, an
    addition; nothing else is trained then but a class table that was.
    """
    table = network.class_embedding.weight
    layers = [
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
        and layer.weight.requires_grad
        and within in name
    ]
    for parameter in network.parameters():
        parameter.requires_grad_(parameter is table and table.requires_grad)
    for name, layer in layers:
        addition = LowRank(layer.weight, rank, scale, generator_for(seed, "low rank", name))
        parametrize.register_parametrization(layer, "weight", addition)


def merged(network: "Denoiser") -> "Denoiser":
    """The same function in plain weights."""
    # a new network: taking the parametrisations off a copy would take them off the class that
    # both share
    plain = denoisers.empty_like(network)
    weights = {name: attrgetter(name)(network).detach().clone() for name in plain.state_dict()}
    plain.load_state_dict(weights, assign=True)
    return plain
