"""EraseDiff as published: keep the retain loss low while the forget loss is as low as it could be
made.

Wu et al. 2024, "Erasing Undesirable Influence in Diffusion Models" (arXiv 2401.05779): BOME's
first-order scheme (Liu et al. 2022, arXiv 2209.08709) for a bilevel problem. With L_r the denoising
loss of the retain set, u uniform noise in [0, 1) and

    L_f(theta) = | eps(x_f, t; c_f) - u |^2
    q(theta)   = L_f(theta) - L_f(theta_K),  theta_K: K steps from theta on L_f alone
    L          = L_r + lambda q,             lambda = max(phi / |g_f|^2 - <g_r, g_f> / |g_f|^2, 0),
               g = grad L

so that a step lowers L_f at least at the rate phi >= 0, and is that of L_r alone where this does so
anyway.

The reference L_f(theta_K) is a constant without a gradient. In the released code (phi = eta
|g_f|^2, or a fixed lambda) it changes no step; what does is that Adam's moments are not restored
after the inner steps, an error. Here the inner steps are
taken by an Adam of their own on a copy: neither weights nor moments know of them. To read the value
function at all we take phi = eta rho |g_f|^2 with rho = q / <g_f, theta - theta_K>, the share of
the decrease promised by the gradient that the inner
steps found, in [0, 1]: 1 for small steps, the published phi, and 0 where they found nothing.
    `inner_steps=0` is the published
phi with no reference. Further differences: the inner steps are on the batch of the step, in every
step (released: K = 2 passes over D_f for every 36 steps, about as many in all); the retain term has
label dropout, as everywhere here. What the released code
minimises is another loss: `erasediff_released`.
"""

import copy
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from unrelearn import randomness
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.objectives import value_and_gradient
from unrelearn.module import DiffusionModule, Task

TINY = 1e-12


class EraseDiffPaper(DiffusionModule):
    """Args:
    eta: of phi.
    coefficient: lambda by the "inner_product" as above, or as in released code by the "cosine",
        max(eta rho - cos(g_r, g_f), 0).
    inner_steps, inner_learning_rate: K, and the rate of their Adam.
    """

    passes = (
        6,
        0,
    )  # both losses; on the copy the retain loss, and the forget loss around K = 2 inner steps

    def __init__(
        self,
        task: Task,
        *,
        eta: float,
        coefficient: Literal["inner_product", "cosine"],
        inner_steps: int,
        inner_learning_rate: float,
        **arguments,
    ):
        super().__init__(task, **arguments)
        self.eta, self.coefficient = eta, coefficient
        self.inner_steps, self.inner_learning_rate = inner_steps, inner_learning_rate

    def losses(self) -> dict[str, Tensor]:
        if self.micro == 0:  # of the whole batch, also where the step is done in several passes
            self.weight, self.reference = self.bilevel()
        return {
            "forget": self.weight * (self.forget_loss(self.denoiser) - self.reference),
            "retain": self.retain_loss(self.denoiser),
        }

    def forget_loss(self, network: denoisers.Denoiser) -> Tensor:
        batch = self.draw("forget", self.task.forget, label_dropout=0.0)
        x_t = self.noised(batch)
        g = randomness.generator_for(
            self.task.seed, self.stage, "uniform", self.global_step, device=self.device
        )
        uniform = torch.rand((self.batch_size, *x_t.shape[1:]), generator=g, device=self.device)
        return self.matching_loss(
            denoisers.predict(network, x_t, batch.t, batch.labels), uniform[self._mine(self.micro)]
        )

    def retain_loss(self, network: denoisers.Denoiser) -> Tensor:
        batch = self.draw("retain", self.task.retain)
        kind = self.task.schedule["prediction_type"]
        wanted = maths.target(batch.x_0, batch.noise, batch.t, self.alphas_cumprod, kind)
        return (
            (denoisers.predict(network, self.noised(batch), batch.t, batch.labels).float() - wanted)
            .square()
            .mean()
        )

    def bilevel(self) -> tuple[Tensor, Tensor]:
        """lambda and L_f(theta_K), from a copy of the network in evaluation mode, which is then
        forgotten.
        """
        network = copy.deepcopy(self.denoiser).eval()
        weights = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(weights, lr=self.inner_learning_rate)
        _, retain = value_and_gradient(self, network, partial(self.retain_loss, network))
        value, forget = value_and_gradient(self, network, partial(self.forget_loss, network))
        reference, inner, start = (
            torch.zeros_like(value),
            forget,
            torch.cat([p.detach().flatten() for p in weights]),
        )
        for _ in range(self.inner_steps):
            for p, gradient in zip(weights, inner.split([p.numel() for p in weights]), strict=True):
                p.grad = gradient.view_as(p)
            optimizer.step()
            reference, inner = value_and_gradient(self, network, partial(self.forget_loss, network))
        rho = 1.0
        if self.inner_steps:
            promised = forget @ (start - torch.cat([p.detach().flatten() for p in weights]))
            rho = ((value - reference) / promised.clamp(min=TINY)).clamp(0, 1)
        against = forget.norm() * (
            forget.norm() if self.coefficient == "inner_product" else retain.norm()
        )
        return (self.eta * rho - forget @ retain / against.clamp(min=TINY)).clamp(min=0), reference
