"""An adversary inside a method: vectors among the states of a caption that have the network answer
as the original model does under the forgotten one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


def strongest(
    t: "Denoising",
    answer: Callable[[Tensor], Tensor],
    shown: Tensor,
    vectors: Tensor,
    *,
    steps: int,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> Tensor:
    """The vectors (B, N, D) after so many steps down | answer(vectors) - shown |^2, for each image
    its own; the network is in evaluation mode, and no weight of it gets a gradient.

    answer: vectors -> what the network answers (B, C, H, W).
    shown: what the original model answers.
    """
    training = t.network.training
    t.network.eval()
    vectors = vectors.detach().requires_grad_(True)
    stepping = optimizer([vectors])
    for _ in range(steps):
        error = (answer(vectors).float() - shown.float()).square().mean((1, 2, 3))
        (vectors.grad,) = torch.autograd.grad(error.sum(), vectors)
        stepping.step()
    t.network.train(training)
    return vectors.detach()
