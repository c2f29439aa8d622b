"""BatchNorm over the global batch, however many processes share it."""

from typing import Any

import torch
from torch import Tensor, nn

from unrelearn import distributed


class GlobalBatchNorm(nn.BatchNorm2d):
    """BatchNorm (Ioffe & Szegedy 2015, arXiv 1502.03167) whose statistics are those of all
    processes' parts of a batch while `shared` is set. torch's SyncBatchNorm does this on GPUs only.
    """

    shared = False

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.shared):
            return super().forward(x)
        mean = _Mean.apply(x.mean((0, 2, 3)))
        variance = _Mean.apply((x - mean.view(1, -1, 1, 1)).square().mean((0, 2, 3)))
        count = x.numel() // x.shape[1] * distributed.world_size()
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum or 0.1)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum or 0.1)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (x - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class _Mean(torch.autograd.Function):
    """The mean over processes; each one's loss counts as its share of a mean, too."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return distributed.mean(part.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return distributed.mean(gradient.clone())


def replace(network: nn.Module) -> None:
    """Make every BatchNorm of a network one of these; weights stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm
