"""Networks of R replicas at once: every weight is (R, in, out), every batch (R, B, width)."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unrelearn.randomness import generator_for

Weights = dict[str, Tensor]
MOMENTUM = 0.1  # of the running statistics
TEMPERATURE = 0.2  # of Gumbel-softmax; the released scripts' for wine


def initial(
    seeds: list[int],
    owner: str,
    name: str,
    sizes: list[int],
    *,
    first_bias: bool = True,
    critics: int = 1,
) -> Weights:
    """Weights of linear layers as torch.nn.Linear starts them, a function of each replica's seed
    and of who owns them.

    first_bias: whether the first layer has one.
    critics: that a replica has, each with its own start: (R * critics, in, out).
    """
    weights: Weights = {}
    generators = [
        generator_for(seed, "weights", owner, name, *([critic] if critic else []))
        for seed in seeds
        for critic in range(critics)
    ]
    for layer, (width, out) in enumerate(itertools.pairwise(sizes)):
        shapes = {"weight": (width, out)} | ({"bias": (1, out)} if layer or first_bias else {})
        for part, shape in shapes.items():
            drawn = torch.stack([torch.rand(shape, generator=g) for g in generators])
            weights[f"{name}.{layer}.{part}"] = (2 * drawn - 1) / width**0.5
    return weights


def linear(weights: Weights, layer: str, x: Tensor) -> Tensor:
    bias = weights.get(f"{layer}.bias")
    weight = weights[f"{layer}.weight"]
    return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)


def mlp(weights: Weights, name: str, x: Tensor, *, last: bool) -> Tensor:
    """Linear layers with LeakyReLU 0.2 between them. last: and after the last."""
    layers = sum(key.startswith(f"{name}.") and key.endswith("weight") for key in weights)
    for layer in range(layers):
        x = linear(weights, f"{name}.{layer}", x)
        if last or layer + 1 < layers:
            x = F.leaky_relu(x, 0.2)
    return x


@dataclass(frozen=True)
class Output:
    """What a generator's last layer gives: of each column its place and width.

    bounded: continuous columns lie in [-1, 1] (tanh); else they are linear. A column of several
    places is categorical: a straight-through Gumbel-softmax, one-hot.
    """

    widths: tuple[int, ...]
    bounded: bool

    @property
    def width(self) -> int:
        return sum(self.widths)

    def __call__(self, x: Tensor, uniform: Callable[[int], Tensor]) -> Tensor:
        """x (R, B, width); uniform(k): (R, B, k) in [0, 1), a record's own."""
        if max(self.widths) == 1:
            return torch.tanh(x) if self.bounded else x
        parts = []
        for part in x.split(list(self.widths), dim=-1):
            if part.shape[-1] == 1:
                parts.append(torch.tanh(part) if self.bounded else part)
                continue
            noise = -torch.log(-torch.log(uniform(part.shape[-1]).clamp(1e-9, 1 - 1e-7)))
            soft = torch.softmax((part + noise) / TEMPERATURE, dim=-1)
            hard = F.one_hot(soft.argmax(-1), part.shape[-1]).to(soft)
            parts.append(hard + soft - soft.detach())
        return torch.cat(parts, dim=-1)


def hidden_names(layers: int) -> list[str]:
    """Of everything below a generator's last layer, running statistics too."""
    parts = ("weight", "bias", "mean", "var")
    linear = [f"backbone.{layer}.{part}" for layer in range(layers) for part in parts[:2]]
    return linear + [f"norm.{layer}.{part}" for layer in range(1, layers) for part in parts]


class Generator:
    """Linear layers, LeakyReLU, and BatchNorm from the second on (over a replica's batch alone).

    Args:
        owners: of the hidden layers and of the last one; one owner, the same initial weights.
        sizes: latent, hidden ones, output.
        eps: of BatchNorm; 0.8 in the released scripts, where a momentum was meant.
    """

    def __init__(
        self,
        seeds: list[int],
        owners: tuple[str, str],
        sizes: list[int],
        output: Output,
        eps: float,
    ):
        self.hidden, self.output, self.eps = len(sizes) - 2, output, eps
        self.weights: Weights = initial(seeds, owners[0], "backbone", sizes[:-1])
        self.weights |= initial(seeds, owners[1], "head", sizes[-2:])
        self.running: Weights = {}
        for layer in range(1, self.hidden):
            shape = (len(seeds), 1, sizes[layer + 1])
            self.weights[f"norm.{layer}.weight"] = torch.ones(shape)
            self.weights[f"norm.{layer}.bias"] = torch.zeros(shape)
            self.running[f"norm.{layer}.mean"] = torch.zeros(shape)
            self.running[f"norm.{layer}.var"] = torch.ones(shape)

    def __call__(
        self, z: Tensor, uniform: Callable[[int], Tensor], *, mode: str = "batch"
    ) -> Tensor:
        """z (R, B, latent) -> records (R, B, width).

        mode: batch: this batch's statistics; move: and the running ones follow; running: those.
        """
        x, weights = z, self.weights
        for layer in range(self.hidden):
            x = linear(weights, f"backbone.{layer}", x)
            if layer:
                x = self._norm(x, f"norm.{layer}", mode)
            x = F.leaky_relu(x, 0.2)
        return self.output(linear(weights, "head.0", x), uniform)

    def _norm(self, x: Tensor, layer: str, mode: str) -> Tensor:
        if mode == "running":
            mean, var = self.running[f"{layer}.mean"], self.running[f"{layer}.var"]
        else:
            var, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        if mode == "move":
            for part, now in (("mean", mean), ("var", var)):
                self.running[f"{layer}.{part}"].lerp_(now.detach(), MOMENTUM)
        scale = self.weights[f"{layer}.weight"] * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.weights[f"{layer}.bias"], x - mean, scale)
