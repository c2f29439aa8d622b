"""A small network with the interface of the published Inception file."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StandIn(nn.Module):
    """One convolution in place of ninety-four; what goes in, comes out and can be asked for is as
    in the published file.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(23), nn.Conv2d(3, 2048, 13), nn.ReLU())
        self.output = nn.Linear(2048, 1008)

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        features = self.layers((img.float() - 128) / 128).reshape(-1, 2048)
        if return_features:
            return features
        return F.linear(
            features, self.output.weight, None if no_output_bias else self.output.bias
        ).softmax(1)


def scripted(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(network).save(str(path))
    return path


def written(path: Path) -> Path:
    """A file of random weights, the same ones at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StandIn()
    with torch.no_grad():
        network.output.weight.mul_(300)  # probabilities far from uniform
        network.output.bias.mul_(300)
    return scripted(network, path)
