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
after the inner steps, an error. Here the inner steps are taken by an Adam of their own on a copy:
neither weights nor moments know of them. To read the value function at all we take phi = eta rho
|g_f|^2 with rho = q / <g_f, theta - theta_K>, the share of the decrease promised by the gradient
that the inner steps found, in [0, 1]: 1 for small steps, the published phi, and 0 where they found
nothing. `inner_steps=0` is the published phi with no reference. Further differences: the inner
steps are on the batch of the step, in every step (released: K = 2 passes over D_f for every 36
steps, about as many in all); the retain term has label dropout, as everywhere here. What the
released code minimises is another loss: `erasediff_released`.
"""

import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.method import Method
from unrelearn.ranges import Probability, Steps

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising

TINY = 1e-12


@dataclass(kw_only=True)
class EraseDiffPaper(Method):
    eta: Probability  # of phi
    # lambda by the "inner_product" as above, or as in released code by the "cosine", max(eta rho -
    # cos(g_r, g_f), 0)
    coefficient: Literal["inner_product", "cosine"]
    inner_steps: Steps  # K
    inner_learning_rate: Annotated[float, Field(gt=0, le=10)]  # of their Adam

    # both losses; on the copy the retain loss, and the forget loss around K = 2 inner steps
    passes = (6, 0)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        weight, reference = t.once("bilevel", partial(self.bilevel, t))
        return {
            "forget": weight * (self.forget_loss(t, t.network) - reference),
            "retain": self.retain_loss(t, t.network),
        }

    def forget_loss(self, t: "Denoising", network: denoisers.Denoiser) -> Tensor:
        batch = t.draw("forget", t.task.forget, label_dropout=0.0)
        uniform = t.uniform("uniform", tuple(batch.x_0.shape[1:]))
        answer = denoisers.predict(network, t.noised(batch), batch.t, batch.labels)
        return t.matching(answer, uniform)

    def retain_loss(self, t: "Denoising", network: denoisers.Denoiser) -> Tensor:
        batch = t.draw("retain", t.task.retain)
        answer = denoisers.predict(network, t.noised(batch), batch.t, batch.labels).float()
        return (answer - t.target(batch)).square().mean()

    def bilevel(self, t: "Denoising") -> tuple[Tensor, Tensor]:
        """lambda and L_f(theta_K), from a copy of the network in evaluation mode, which is then
        forgotten; of the whole batch.
        """
        network = copy.deepcopy(t.network).eval()
        weights = [p for p in network.parameters() if p.requires_grad]
        forget_loss = partial(self.forget_loss, t, network)
        _, retain = t.whole_gradient(network, partial(self.retain_loss, t, network))
        value, forget = t.whole_gradient(network, forget_loss)
        start = torch.cat([p.detach().flatten() for p in weights])
        reference, inner = torch.zeros_like(value), forget
        optimizer = torch.optim.Adam(weights, lr=self.inner_learning_rate)
        for _ in range(self.inner_steps):
            for p, gradient in zip(weights, inner.split([p.numel() for p in weights]), strict=True):
                p.grad = gradient.view_as(p)
            optimizer.step()
            reference, inner = t.whole_gradient(network, forget_loss)
        rho = 1.0
        if self.inner_steps:
            promised = forget @ (start - torch.cat([p.detach().flatten() for p in weights]))
            rho = ((value - reference) / promised.clamp(min=TINY)).clamp(0, 1)
        other = forget if self.coefficient == "inner_product" else retain
        against = (forget.norm() * other.norm()).clamp(min=TINY)
        return (self.eta * rho - forget @ retain / against).clamp(min=0), reference
