"""Denoising diffusion in discrete time: pure tensor maths, nothing else.

Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239); v-prediction
from Salimans & Ho 2022 (arXiv 2202.00512). Names follow diffusers. Every image tensor is (B, C, H,
W); t is int64 (B,) in [0, T).

The one reduction used everywhere is the mean over all elements ("mean-MSE"). The code line of
Selective Amnesia and SalUn sums over the C*H*W elements of an image instead: a weight on one term
of its losses is not a weight here.
"""

import torch
from torch import Tensor


def alphas_cumprod(
    num_train_timesteps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    beta_schedule: str = "linear",
) -> Tensor:
    """Products of (1 - beta), float32 (T,), for the linear schedule (DDPM section 4), or for
    "scaled_linear", where the square roots of the betas are linear: that of latent diffusion
    (Rombach et al. 2022, arXiv 2112.10752) as released.
    """
    power = 2.0 if beta_schedule == "scaled_linear" else 1.0
    ends = beta_start ** (1 / power), beta_end ** (1 / power)
    betas = torch.linspace(*ends, num_train_timesteps, dtype=torch.float64) ** power
    return torch.cumprod(1.0 - betas, dim=0).float()


def alphas_of(schedule: dict) -> Tensor:
    """`alphas_cumprod` of a noise schedule as the configuration has it."""
    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
    return alphas_cumprod(*(schedule[key] for key in keys))


def _per_image(values: Tensor, t: Tensor) -> Tensor:
    return values[t].view(-1, 1, 1, 1)


def add_noise(x_0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise. DDPM Eq. 4."""
    return (
        _per_image(alphas_cumprod.sqrt(), t) * x_0
        + _per_image((1.0 - alphas_cumprod).sqrt(), t) * noise
    )


def target(
    x_0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor, prediction_type: str = "epsilon"
) -> Tensor:
    """What the network should answer at x_t: the noise, x_0 itself, or v = sqrt(abar) noise -
    sqrt(1 - abar) x_0.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return x_0
    return (
        _per_image(alphas_cumprod.sqrt(), t) * noise
        - _per_image((1.0 - alphas_cumprod).sqrt(), t) * x_0
    )


def x_0_and_noise(
    output: Tensor, x_t: Tensor, t: Tensor, alphas_cumprod: Tensor, prediction_type: str = "epsilon"
) -> tuple:
    """What a network's answer at x_t says that x_t is made of: (x_0, noise), as `target` and
    `add_noise` put them together.
    """
    signal, sigma = (
        _per_image(alphas_cumprod.sqrt(), t),
        _per_image((1.0 - alphas_cumprod).sqrt(), t),
    )
    if prediction_type == "epsilon":
        return (x_t - sigma * output) / signal, output
    if prediction_type == "sample":
        return output, (x_t - signal * output) / sigma
    return signal * x_t - sigma * output, sigma * x_t + signal * output


def divergence(answer: Tensor, wanted: Tensor, alpha: float | None, scale: float) -> Tensor:
    """The alpha-divergence of two Gaussians of equal covariance around two predictions, as a loss.

    With m the mean squared error of an image and d = m / (2 scale): KL = d, and D_alpha = (1 -
    exp(-alpha (1 - alpha) d)) / (alpha (1 - alpha)), four times the squared Hellinger distance at
    alpha = 1/2: a loss that saturates, so that large errors do not pull. Times 2 scale, so that
    small errors count as in the mean squared error, which alpha = None is. From f-DMU (arXiv
    2509.21167) by way of our own derivation; `scale` is the variance.
    """
    m = (answer - wanted).square().mean((1, 2, 3))
    if alpha is not None:
        c = alpha * (1 - alpha) / (2 * scale)
        m = -torch.expm1(-c * m) / c
    return m.mean()


def drop_labels(labels: Tensor, uniform: Tensor, probability: float, null_label: int) -> Tensor:
    """Labels (B,) with a share replaced by the null label, for classifier-free guidance.

    Ho & Salimans 2022 (arXiv 2207.12598), Algorithm 1. uniform: (B,) in [0, 1).
    """
    return torch.where(uniform < probability, null_label, labels)
