"""What a training step of a network of gigabytes holds in memory, counted on the meta device, where
nothing is allocated.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class Saved:
    """Bytes that are kept for the backward pass, each storage once and no weight among them."""

    def __init__(self, network: nn.Module):
        self.weights = {p.untyped_storage()._cdata for p in network.parameters()}
        self.storages: dict[int, Any] = {}

    def pack(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self.weights:
            self.storages[storage._cdata] = storage  # held, or its number would be given again
        return x

    def counting(self) -> saved_tensors_hooks:
        return saved_tensors_hooks(self.pack, lambda x: x)

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


def activations(network: Any, *inputs: Tensor, checkpointing: bool = False) -> int:
    """Bytes that a forward pass keeps for the backward pass, or with gradient checkpointing the
    inputs of all blocks and the inside of the largest. An attention is counted with its maps, which
    fused kernels never hold: a bound from above.

    network: a model of diffusers on the meta device.
    """
    inside, given = [0], Saved(network)

    def block(module: Any, *arguments: Any) -> Any:
        for one in arguments:
            if isinstance(one, Tensor):
                given.pack(one)
        own = Saved(network)
        with own.counting():
            output = module(*arguments)
        inside.append(own.bytes)
        return output

    if checkpointing:
        network.enable_gradient_checkpointing(block)
    outside = Saved(network)
    with outside.counting():
        network(*inputs)
    outside.storages |= given.storages
    return outside.bytes + max(inside)


def of_training(weights: int, trained: int, kept: int, *, mixed: bool) -> dict[str, int]:
    """Bytes by what they hold, of float32 weights and Adam.

    Args:
        weights, trained: numbers, in all and of those that move.
        kept: bytes of activations.
        mixed: in half precision, in which weights are copied for the forward pass.
    """
    parts = {"weights": 4 * weights, "gradients": 4 * trained, "Adam": 8 * trained}
    if mixed:
        parts["half-precision copies"] = 2 * weights
    return {**parts, "activations": kept}


def blank(network: Any, side: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (batch, C, side, side), times and labels."""
    with torch.device("meta"):
        zeros = torch.zeros(batch, dtype=torch.long)
        return torch.empty(batch, network.config.in_channels, side, side), zeros, zeros
