"""One way of writing a network among the many that are the same function, so that no attack depends
on which was chosen.

A channel that is only read through a GroupNorm has no scale of its own: the rows that write it may
be multiplied by any number, if all channels of the norm's group are, and whatever reads it without
a norm (a shortcut, a change of resolution) is divided by it. The same function in other units then
meets an optimiser whose step has a unit (Adam's): multiplied by 100 it hardly moves, by 0.03 it is
destroyed. `canonical` gives every such set of channels rows of a fixed norm, that of a new layer.
Exact but for the epsilon of the norms (1e-5 of a variance).

In attention the channels of q and k may trade scales, and so may those of v and the projection
after it; they are balanced. What also leaves the function as it is, permuted channels and a group's
sign, Adam treats alike. Not made unique: invertible mixtures of channels within an attention head,
and constants that biases before one norm can exchange.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from unrelearn.diffusion.denoiser import Denoiser
from unrelearn.errors import UsageError

KNOWN = {f"{kind}{way}Block2D" for kind in ("", "Attn", "CrossAttn") for way in ("Down", "Up")}
# of a row of a new convolution or linear layer in torch: uniform in +- 1 / sqrt(its length)
ROW_NORM = 3**-0.5


@dataclass
class Channels:
    """Every channel that a network writes, by number, and what writes, reads and normalises it."""

    count: int = 0
    # row i; reads no channel without a norm?
    writers: list[tuple[nn.Module, np.ndarray, bool]] = field(default_factory=list)
    # column i, without a norm between
    readers: list[tuple[nn.Module, np.ndarray]] = field(default_factory=list)
    ties: list[tuple[int, int]] = field(default_factory=list)  # channels of one group of a norm
    attentions: list[tuple[nn.Module, ...]] = field(default_factory=list)  # q, k, v, projection

    def new(self, *writers: nn.Module, behind_norm: bool = True) -> np.ndarray:
        """New channels, one for each row of the writers."""
        width = len(writers[0].weight)
        channels = np.arange(self.count, self.count + width)
        self.count += width
        self.writers += [(writer, channels, behind_norm) for writer in writers]
        return channels

    def convolve(self, layer: nn.Module, channels: np.ndarray) -> np.ndarray:
        """What a layer makes of channels that no norm is before."""
        self.readers.append((layer, channels))
        return self.new(layer, behind_norm=False)

    def normalise(self, norm: nn.GroupNorm, channels: np.ndarray) -> None:
        groups = channels.reshape(norm.num_groups, -1)
        pairs = np.stack([groups[:, :-1], groups[:, 1:]], -1).reshape(-1, 2)
        self.ties += [(one, other) for one, other in pairs.tolist()]

    def residual(self, block: nn.Module, channels: np.ndarray) -> np.ndarray:
        """A block of ResnetBlock2D or of SalUn's network."""
        self.normalise(block.norm1, channels)
        inner = self.new(block.conv1, *projections(block))
        self.normalise(block.norm2, inner)
        shortcut = getattr(block, "conv_shortcut", None) or getattr(block, "nin_shortcut", None)
        if isinstance(shortcut, nn.Conv2d):
            channels = self.convolve(shortcut, channels)
        self.writers.append((block.conv2, channels, True))
        return channels

    def attend(self, block: nn.Module, channels: np.ndarray) -> np.ndarray:
        if isinstance(block, nn.Identity):
            return channels
        if hasattr(block, "transformer_blocks"):
            return self.transform(block, channels)
        if hasattr(block, "proj_out"):  # SalUn's
            norm, layers = block.norm, (block.q, block.k, block.v, block.proj_out)
        else:
            norm = block.group_norm
            layers = (block.to_q, block.to_k, block.to_v, block.to_out[0])
        self.normalise(norm, channels)
        self.attentions.append(layers)
        self.writers.append((layers[-1], channels, True))
        return channels

    def transform(self, block: nn.Module, channels: np.ndarray) -> np.ndarray:
        """A Transformer2DModel, whose inner channels are read through LayerNorms: one set."""
        self.normalise(block.norm, channels)
        inner = self.new(block.proj_in)
        self.ties += list(itertools.pairwise(inner.tolist()))
        for layer in block.transformer_blocks:
            for attention in (layer.attn1, layer.attn2):
                out = attention.to_out[0]
                self.attentions.append((attention.to_q, attention.to_k, attention.to_v, out))
                self.writers.append((out, inner, True))
            self.writers.append((layer.ff.net[2], inner, True))
        self.readers.append((block.proj_out, inner))
        self.writers.append((block.proj_out, channels, False))
        return channels

    def sets(self) -> np.ndarray:
        """For each channel the number of the set in which scales are the same; numbered in the
        order of the channels.
        """
        pairs = np.array(self.ties).reshape(-1, 2)
        ones, shape = np.ones(len(pairs)), (self.count, self.count)
        graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=shape)
        return connected_components(graph, directed=False)[1]


def projections(block: nn.Module) -> list[nn.Linear]:
    """The linear layer of a residual block that adds the embedding of time and class before its
    second norm, if it does.
    """
    # it scales and shifts behind the norm
    if getattr(block, "time_embedding_norm", "default") != "default":
        return []
    return [
        layer
        for name in ("time_emb_proj", "temb_cemb_proj")
        if (layer := getattr(block, name, None)) is not None
    ]


def _levels(network: Denoiser) -> tuple[list, list, list]:
    """Down, middle and up: for each level its (block, attention) pairs and its change of
    resolution, or None.
    """
    from unrelearn.diffusion.salun_unet import SalunUNet

    if isinstance(network, SalunUNet):

        def salun_level(part: nn.ModuleDict, change: str) -> tuple:
            pairs = list(zip(part["block"], part["attn"], strict=True))
            return pairs, part[change].conv if change in part else None

        mid, none = network.mid, nn.Identity()
        middle = [(mid["block_1"], mid["attn_1"]), (mid["block_2"], none)]
        return (
            [salun_level(part, "downsample") for part in network.down],
            middle,
            [salun_level(part, "upsample") for part in reversed(network.up)],
        )

    def level(part: nn.Module, change: str) -> tuple:
        if type(part).__name__ not in KNOWN:
            raise UsageError(
                f"model.checkpoint: its {type(part).__name__} is not known here, so that attacks"
                " can not put it into a canonical form. Type attack=none, or train a network of"
                " conf/model"
            )
        attentions = getattr(part, "attentions", None) or [nn.Identity()] * len(part.resnets)
        changes = getattr(part, change, None) or [None]
        return list(zip(part.resnets, attentions, strict=True)), getattr(changes[0], "conv", None)

    first, *others = network.mid_block.resnets
    attentions = [a or nn.Identity() for a in network.mid_block.attentions]
    attentions = attentions or [nn.Identity()] * len(others)
    middle = [(first, nn.Identity())]
    # the attention stands between two blocks
    for attention, block in zip(attentions, others, strict=True):
        middle = [*middle[:-1], (middle[-1][0], attention), (block, nn.Identity())]
    return (
        [level(part, "downsamplers") for part in network.down_blocks],
        middle,
        [level(part, "upsamplers") for part in network.up_blocks],
    )


def channels_of(network: Denoiser) -> Channels:
    """The channels of a UNet, found by going the way of its forward pass."""
    down, middle, up = _levels(network)
    channels = Channels()
    h = channels.new(network.conv_in)
    skips = [h]
    for pairs, change in down:
        for block, attention in pairs:
            h = channels.attend(attention, channels.residual(block, h))
            skips.append(h)
        if change is not None:
            h = channels.convolve(change, h)
            skips.append(h)
    for block, attention in middle:
        h = channels.attend(attention, channels.residual(block, h))
    for pairs, change in up:
        for block, attention in pairs:
            h = np.concatenate([h, skips.pop()])
            h = channels.attend(attention, channels.residual(block, h))
        if change is not None:
            h = channels.convolve(change, h)
    last = getattr(network, "norm_out", None) or network.conv_norm_out  # of SalunUNet
    channels.normalise(last, h)
    return channels


@torch.no_grad()
def rescale(channels: Channels, factor: np.ndarray) -> None:
    """Multiply what is written into each channel by its factor (channels,), and divide where it is
    read without a norm.
    """
    for layer, rows, _ in channels.writers:
        _multiply(layer, _like(factor[rows], layer))
    for layer, columns in channels.readers:
        _divide(layer, _like(factor[columns], layer))


def _like(values: np.ndarray, layer: nn.Module) -> torch.Tensor:
    return torch.as_tensor(values, dtype=layer.weight.dtype, device=layer.weight.device)


def _multiply(layer: nn.Module, rows: torch.Tensor) -> None:
    layer.weight.mul_(rows.view(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        layer.bias.mul_(rows)


def _divide(layer: nn.Module, columns: torch.Tensor) -> None:
    layer.weight.div_(columns.view(1, -1, *[1] * (layer.weight.ndim - 2)))


def _row_norms(layer: nn.Module) -> np.ndarray:
    return layer.weight.detach().flatten(1).double().norm(dim=1).cpu().numpy()


def _mean_squares(channels: Channels, sets: np.ndarray, behind_norm: bool) -> np.ndarray:
    """For each set the mean of its rows' squared norms; 0 where it has no such row."""
    total, count = np.zeros(sets.max() + 1), np.zeros(sets.max() + 1)
    for layer, rows, fresh in channels.writers:
        if fresh == behind_norm:
            np.add.at(total, sets[rows], _row_norms(layer) ** 2)
            np.add.at(count, sets[rows], 1)
    return total / np.maximum(count, 1)


def _normalise_sets(channels: Channels) -> None:
    """Give the rows of each set of channels the fixed norm."""

    def factors(mean_squares: np.ndarray) -> np.ndarray:
        known = mean_squares > 0
        return np.where(known, ROW_NORM / np.sqrt(np.where(known, mean_squares, 1)), 1)[sets]

    sets = channels.sets()
    # no factor of another set changes the rows behind a norm
    mean_squares = _mean_squares(channels, sets, behind_norm=True)
    rescale(channels, factors(mean_squares))
    # the others read channels of sets before them, so they follow in that order
    for number in np.flatnonzero(mean_squares == 0):
        only = np.arange(len(mean_squares)) == number
        own = np.where(only, _mean_squares(channels, sets, behind_norm=False), 0)
        rescale(channels, factors(own))


@torch.no_grad()
def _balance(q: nn.Module, k: nn.Module, v: nn.Module, projection: nn.Module) -> None:
    """Rows of q and k of equal norm, channel by channel; rows of v of the fixed norm."""

    def factor(values: np.ndarray, like: nn.Module) -> torch.Tensor:
        usable = np.isfinite(values) & (values > 0)
        return _like(np.where(usable, values, 1.0), like)

    with np.errstate(divide="ignore", invalid="ignore"):
        a = factor(np.sqrt(_row_norms(k) / _row_norms(q)), q)
        b = factor(ROW_NORM / _row_norms(v), v)
    for layer, f in ((q, a), (k, 1 / a), (v, b)):
        _multiply(layer, f)
    _divide(projection, b)


def canonical(network: Denoiser) -> Denoiser:
    """The same function in the canonical form; the network is changed in place and returned.

    Raises:
        UsageError: a network that was imported and has blocks that are not known here.
    """
    channels = channels_of(network)
    for layers in channels.attentions:
        _balance(*layers)
    _normalise_sets(channels)
    return network
