"""What methods of diffusion models have at hand: a batch with its noise, a network as it was."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.task import Batch


@dataclass
class NoisyBatch(Batch):
    """This process's part of a global batch, with times t (B,) and noise like x_0.

    wanted: what is to be answered, like x_0; None: the denoising target.
    """

    noise: Tensor
    t: Tensor
    wanted: Tensor | None = None


def noisy(batch: Batch) -> NoisyBatch:
    """A batch that a `Denoising` has drawn."""
    assert isinstance(batch, NoisyBatch)
    return batch


class Teacher:
    """A network as it is now, in evaluation mode: neither trained nor moved nor saved.

    Called like `Denoising.predict`, without a gradient.
    """

    def __init__(self, network: denoisers.Denoiser):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return denoisers.predict(self.network, x_t, t, labels)
