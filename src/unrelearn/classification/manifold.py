"""What ManiF-SMC (`methods.manif_smc`) needs: neighbours, centres and margins in the feature space
of a network, and the networks whose margins these are.

Which images belong together is a matter of the original model; how far apart they are, of each
network in its own space, in units of the mean squared distance of its retained images.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from unrelearn.classification.networks import Network, build
from unrelearn.classification.recipe import Recipe
from unrelearn.data import ImageSet

Direction = Literal["towards", "away"]
State = dict[str, Tensor]

PAIRS = 10_000  # random pairs of retained images, whose mean squared distance is the unit
AT_ONCE = 500  # images
MOMENTUM = 0.9  # of SGD on the control point
TINY = 1e-12


def pictures(data: ImageSet, device: torch.device) -> Iterator[Tensor]:
    """All images in [0, 1], (B, C, S, S), in parts of nearly one size."""
    from unrelearn.classification.classifying import unit  # loads Lightning

    rows = torch.arange(len(data), device=data.labels.device)
    for some in rows.tensor_split(-(-len(data) // AT_ONCE)):
        yield unit(data.take(some).images[:].to(device))


@torch.no_grad()
def features(network: Network, data: ImageSet) -> Tensor:
    """(N, F) float32, with the running statistics of BatchNorm."""
    training = network.training
    network.eval()
    parts = [network.features(x).float() for x in pictures(data, network.mean.device)]
    network.train(training)
    return torch.cat(parts)


# ------------------------------------------------------------------------------- feature spaces


@dataclass(frozen=True)
class FeatureLayout:
    """Which images belong together.

    Args:
        neighbours: int64 (n_f, k), of D_r for each of D_f, the nearest first.
        forget, retain: int64 (n_f,), (n_r,), classes that the original predicts; no label is read.
        pairs: int64 (2, PAIRS), of D_r, no image with itself.
    """

    neighbours: Tensor
    forget: Tensor
    retain: Tensor
    pairs: Tensor


def nearest(queries: Tensor, base: Tensor, k: int) -> Tensor:
    """int64 (M, k): the rows of base (N, F) with the largest cosine with each query (M, F)."""
    base = F.normalize(base)
    parts = [F.normalize(some) @ base.T for some in queries.split(AT_ONCE)]
    return torch.cat([part.topk(min(k, len(base))).indices for part in parts])


@torch.no_grad()
def layout(
    network: Network, forget: Tensor, retain: Tensor, k: int, g: torch.Generator
) -> FeatureLayout:
    """Of the original network with features forget (n_f, F), retain (n_r, F)."""
    count = len(retain)
    first = torch.randint(count, (PAIRS,), generator=g)
    second = (first + torch.randint(1, max(2, count), (PAIRS,), generator=g)) % count
    return FeatureLayout(
        nearest(forget, retain, k),
        network.head(forget).argmax(1),
        network.head(retain).argmax(1),
        torch.stack([first, second]).to(retain.device),
    )


@dataclass(frozen=True)
class FeatureSpace:
    """Where a network puts the images: forget (n_f, F), retain (n_r, F)."""

    layout: FeatureLayout
    forget: Tensor
    retain: Tensor

    @cached_property
    def unit(self) -> Tensor:
        """(): the mean squared distance of random pairs of D_r."""
        a, b = self.retain[self.layout.pairs]
        return (a - b).square().sum(1).mean().clamp(min=TINY)

    @cached_property
    def centres(self) -> Tensor:
        """(n_f, F): of each forgotten image's neighbours."""
        return self.retain[self.layout.neighbours].mean(1)

    @cached_property
    def own(self) -> Tensor:
        """(n_f, F): of all images, retained or forgotten, that the original puts into the class
        into which it puts this one. Never empty, as the image itself is one of them.
        """
        classes = torch.cat([self.layout.retain, self.layout.forget])
        member = F.one_hot(classes).to(self.forget)  # (n_r + n_f, K)
        sums = member.T @ torch.cat([self.retain, self.forget])
        return (sums / member.sum(0).clamp(min=1)[:, None])[self.layout.forget]

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """|a - b|^2 (...) of a, b (..., F), in units of `unit`."""
        return (a - b).square().sum(-1) / self.unit

    def margins(self, direction: Direction) -> Tensor:
        """(n_f,), at least 0: how much nearer to its neighbours' centre than to its own an image
        is ("towards"), or how much farther from the first than the neighbours are ("away").
        """
        here = self.distance(self.forget, self.centres)
        if direction == "towards":
            return (self.distance(self.forget, self.own) - here).relu()
        there = self.distance(self.retain[self.layout.neighbours], self.centres[:, None])
        return (here - there.mean(1)).relu()


# ------------------------------------------------------------------------------------- networks


def bezier(t: float) -> tuple[float, float, float]:
    """Weights of the start, the control point and the end of a quadratic Bezier curve at t in
    [0, 1] (Garipov et al. 2018, arXiv 1802.10026).
    """
    return (1 - t) ** 2, 2 * t * (1 - t), t**2


def on_curve(start: State, control: State, end: State, t: float) -> State:
    """The weights at t: start at 0, end at 1."""
    a, b, c = bezier(t)
    return {name: a * start[name] + b * control[name] + c * end[name] for name in start}


@dataclass(frozen=True)
class Tuning:
    """SGD on a control point: steps, learning rate, images a step."""

    steps: int
    learning_rate: float
    batch_size: int


def tuned_control(network: Network, data: ImageSet, tuning: Tuning, g: torch.Generator) -> State:
    """The control point of the curve that begins and ends at a network, trained from that network
    on the mean cross-entropy of these images over t ~ U(0, 1); the ends stay.
    """
    ends = {name: p.detach().clone() for name, p in network.named_parameters()}
    control = {name: p.clone().requires_grad_() for name, p in ends.items()}
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    optimizer = torch.optim.SGD(control.values(), tuning.learning_rate, momentum=MOMENTUM)
    skeleton = deepcopy(network).train()
    for _ in range(tuning.steps):
        t = torch.rand((), generator=g).item()
        rows = torch.randint(len(data), (tuning.batch_size,), generator=g)
        batch = data.take(rows.to(data.labels.device))
        weights = on_curve(ends, control, ends, t)
        x = torch.cat([*pictures(batch, network.mean.device)])
        logits = functional_call(skeleton, {**weights, **buffers}, (x,))
        optimizer.zero_grad()
        F.cross_entropy(logits, batch.labels.to(logits.device)).backward()
        optimizer.step()
    return {name: p.detach() for name, p in control.items()}


def untrained(network: Network, seed: int) -> State:
    """Random weights of its architecture."""
    fresh = build(network.config, seed).to(network.mean.device)
    return {name: p.detach() for name, p in fresh.named_parameters()}


@torch.no_grad()
def halfway(network: Network, control: State, data: ImageSet) -> Network:
    """At t = 0.5 of the curve that begins and ends at a network: half of it and half of the control
    point; with the statistics of BatchNorm taken anew from these images.
    """
    ends = dict(network.named_parameters())
    middle = deepcopy(network).train()
    middle.load_state_dict(on_curve(ends, control, ends, 0.5), strict=False)
    norms = [module for module in middle.modules() if isinstance(module, nn.BatchNorm2d)]
    seen = 0
    for x in pictures(data, network.mean.device):
        seen += len(x)
        for norm in norms:
            norm.momentum = len(x) / seen  # a mean over all images; what was before counts nothing
        middle(x)
    return middle.eval()


def retrained(network: Network, retain: ImageSet, recipe: Recipe, seeds: list[int]) -> State:
    """The weights of classifiers trained on D_r alone, by "number.name"."""
    from unrelearn.classification.bank import Bank, Member  # loads Lightning

    members = [Member(seed, torch.arange(len(retain))) for seed in seeds]
    bank = Bank(network.config, members, str(network.mean.device))
    bank.train(retain, recipe)
    return {
        f"{number}.{name}": value
        for number in range(len(seeds))
        for name, value in bank.state_dict(number).items()
    }


def loaded(network: Network, states: State) -> list[Network]:
    """The networks that `retrained` has written."""
    networks = []
    for number in range(len({name.split(".")[0] for name in states})):
        other, start = deepcopy(network), f"{number}."
        own = {name: value for name, value in states.items() if name.startswith(start)}
        other.load_state_dict({name.removeprefix(start): value for name, value in own.items()})
        networks.append(other.eval())
    return networks
