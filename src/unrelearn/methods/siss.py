"""SISS, subtracted importance-sampled scores: descend on the retain set, ascend a little on the
forget set, on common images.

Alberti et al. 2025, "Data Unlearning in Diffusion Models" (ICLR 2025, arXiv 2503.01034), as
released. A pair of images, x to be kept and a to be forgotten, share a time and a noise; what the
network sees is drawn from the defensive mixture q = (1 - lambda) q(m | x) + lambda q(m | a), and
importance weights make up for it:

    L_x = q(m | x) / q  |eps(m, t; c_r) - (m - sqrt(abar) x) / sigma|^2,    L_a = q(m | a) / q
                        |eps(m, t; c_f) - ...a...|^2
    gradient = g_x - s g_a,   s = N / |g_a|,   N = forget_share * |g_x|

The weights lie between 0 and 1 / (1 - lambda), and 1 / lambda. The variant for classes is ours: x
comes from the retain set (as in both released configurations, whose data set of x leaves the
forgotten images out), and m is seen under both labels, c_r for L_x and c_f for L_a. That is two
calls of the network, where one serves both terms of an unconditional model. N is found anew in each
step by the authors' advice, a tenth of the norm of the naive gradient, g_x; they tune one number
and keep it.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from unrelearn import randomness
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.module import Batch, DiffusionModule, Task


def difference(forget: Tensor, retain: Tensor, share: float) -> Tensor:
    """g_r + g_f, with g_f made `share` times as long as g_r; both (P,). The forget loss is
    negative, so g_f = -g_a.
    """
    return retain + share * retain.norm() / forget.norm().clamp(min=1e-12) * forget


class SISS(DiffusionModule):
    """Args:
    mixture: lambda, the share of noisy images that are of the forget set, in (0, 1).
    forget_share: length of the forget gradient in units of the retain gradient. None, or another
        `combine` than "sum": that decides.
    """

    passes = (2, 0)

    def __init__(self, task: Task, *, mixture: float, forget_share: float | None, **arguments):
        super().__init__(task, **arguments)
        self.mixture = mixture
        if forget_share is not None and self.combine == "sum":
            self.combiner = partial(difference, share=forget_share)

    def losses(self) -> dict[str, Tensor]:
        task, n = self.task, self.batch_size
        kept = self.draw("retain", task.retain)
        lost = replace(
            self.draw("forget", task.forget, label_dropout=0.0), t=kept.t, noise=kept.noise
        )
        g = randomness.generator_for(
            task.seed, self.stage, "mixture", self.global_step, device=self.device
        )
        from_forget = (torch.rand(n, generator=g, device=self.device) < self.mixture)[
            self._mine(self.micro)
        ]
        m = torch.where(from_forget.view(-1, 1, 1, 1), self.noised(lost), self.noised(kept))
        likelier = self.distance(m, kept) - self.distance(m, lost)  # log q(m | a) - log q(m | x)
        weight_x = 1 / ((1 - self.mixture) + self.mixture * likelier.exp())
        weight_a = 1 / ((1 - self.mixture) * (-likelier).exp() + self.mixture)
        return {
            "forget": -self.loss_scale * (weight_a * self.errors(m, lost)).mean(),
            "retain": self.loss_scale * (weight_x * self.errors(m, kept)).mean(),
        }

    def distance(self, m: Tensor, batch: Batch) -> Tensor:
        """-log q(m | x_0) up to a constant, (B,): |m - sqrt(abar) x_0|^2 / (2 (1 - abar))."""
        abar = self.alphas_cumprod[batch.t].view(-1, 1, 1, 1)
        return ((m - abar.sqrt() * batch.x_0).square() / (2 * (1 - abar))).sum((1, 2, 3))

    def errors(self, m: Tensor, batch: Batch) -> Tensor:
        """Each image's mean squared error (B,) against what the network should answer if m were a
        noised x_0.
        """
        abar = self.alphas_cumprod[batch.t].view(-1, 1, 1, 1)
        noise = (m - abar.sqrt() * batch.x_0) / (1 - abar).sqrt()
        wanted = maths.target(
            batch.x_0, noise, batch.t, self.alphas_cumprod, self.task.schedule["prediction_type"]
        )
        answer = denoisers.predict(self.denoiser, m, batch.t, batch.labels).float()
        return (answer - wanted).square().mean((1, 2, 3))
