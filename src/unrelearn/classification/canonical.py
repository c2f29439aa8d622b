"""One way of writing a classifier among the many that are the same function.

A convolution before a BatchNorm has no scale of its own, channel by channel: its row may be
multiplied by any positive number, if the running mean and deviation are. `canonical` gives every
such row norm 1; the norm's weight takes up what its epsilon makes of that, so that it is the same
function in evaluation mode. `diffusion.canonical` is the same for GroupNorm, and says why.
"""

import copy

import torch
from torch import nn

from unrelearn.classification.networks import Network


def pairs(network: Network) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution with the BatchNorm that is next to read it; a max-pool between them lets a
    scale through.
    """
    layers, last = [], None
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            last = module
        elif isinstance(module, nn.BatchNorm2d) and last is not None:
            layers.append((last, module))
            last = None
        elif isinstance(module, nn.GELU | nn.ReLU):
            last = None
    return layers


@torch.no_grad()
def rescale(convolution: nn.Conv2d, norm: nn.BatchNorm2d, factors: torch.Tensor) -> None:
    """Multiply each row of the convolution by a positive factor (out,) and leave the function."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    convolution.weight.mul_(factors.view(-1, 1, 1, 1))
    if convolution.bias is not None:
        convolution.bias.mul_(factors)
    before = (variance + norm.eps).sqrt()
    mean.mul_(factors)
    variance.mul_(factors.square())
    norm.weight.mul_((variance + norm.eps).sqrt() / (factors * before))


def canonical(network: nn.Module) -> nn.Module:
    """A copy in which every row before a BatchNorm has norm 1."""
    assert isinstance(network, Network)
    written = copy.deepcopy(network)
    for convolution, norm in pairs(written):
        norms = convolution.weight.flatten(1).norm(dim=1)
        rescale(convolution, norm, 1 / torch.where(norms > 0, norms, 1.0))
    return written
