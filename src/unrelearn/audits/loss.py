"""How well a record's noise is predicted: the loss at one time, averaged over noises.

Matsumoto et al. 2023, "Membership inference attacks against diffusion models" (arXiv 2302.03262);
Carlini et al. 2023 (arXiv 2301.13188) at t = 100 of 1000.
"""

import torch
from torch import Tensor

from unrelearn.audits.noise import Predict, at, noised
from unrelearn.randomness import generator_for


def score(
    predict: Predict, x_0: Tensor, abar: Tensor, *, time: float = 0.1, noises: int = 8
) -> Tensor:
    """Minus the mean squared error (B,); higher: rather a member.

    Args:
        time: share of all times, in [0, 1).
        noises: how many calls. All records and models are seen through the same ones, so that what
            is left of them cancels in any comparison.
    """
    t, errors = at(time, abar), torch.zeros(len(x_0), device=x_0.device)
    for number in range(noises):
        noise = torch.randn(x_0.shape[1:], generator=generator_for("membership", number))
        noise = noise.to(x_0.device).expand_as(x_0)
        answer = predict(noised(x_0, noise, t, abar), t)
        errors += (answer - noise).square().mean((1, 2, 3))
    return -errors / noises
