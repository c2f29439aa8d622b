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

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from unrelearn.method import Method
from unrelearn.ranges import Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising
    from unrelearn.diffusion.noisy import NoisyBatch


def difference(forget: Tensor, retain: Tensor, share: float) -> Tensor:
    """g_r + g_f, with g_f made `share` times as long as g_r; both (P,). The forget loss is
    negative, so g_f = -g_a.
    """
    return retain + share * retain.norm() / forget.norm().clamp(min=1e-12) * forget


@dataclass(kw_only=True)
class SISS(Method):
    # lambda, the share of noisy images that are of the forget set
    mixture: Annotated[float, Field(gt=0, le=0.999)]
    # length of the forget gradient in units of the retain gradient. None, or another `combine` than
    # "sum": that decides
    forget_share: Weight | None

    passes = (2, 0)

    @property
    def combiner(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        if self.forget_share is None or self.combine != "sum":
            return super().combiner
        return partial(difference, share=self.forget_share)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        kept = t.draw("retain", t.task.retain)
        lost = t.draw("forget", t.task.forget, label_dropout=0.0)
        lost = replace(lost, t=kept.t, noise=kept.noise)
        from_forget = t.uniform("mixture") < self.mixture
        m = torch.where(from_forget.view(-1, 1, 1, 1), t.noised(lost), t.noised(kept))
        likelier = distance(t, m, kept) - distance(t, m, lost)  # log q(m | a) - log q(m | x)
        weight_x = 1 / ((1 - self.mixture) + self.mixture * likelier.exp())
        weight_a = 1 / ((1 - self.mixture) * (-likelier).exp() + self.mixture)
        return {
            "forget": -t.loss_scale * (weight_a * errors(t, m, lost)).mean(),
            "retain": t.loss_scale * (weight_x * errors(t, m, kept)).mean(),
        }


def distance(t: "Denoising", m: Tensor, batch: "NoisyBatch") -> Tensor:
    """-log q(m | x_0) up to a constant, (B,): |m - sqrt(abar) x_0|^2 / (2 (1 - abar))."""
    abar = t.alphas_cumprod[batch.t].view(-1, 1, 1, 1)
    return ((m - abar.sqrt() * batch.x_0).square() / (2 * (1 - abar))).sum((1, 2, 3))


def errors(t: "Denoising", m: Tensor, batch: "NoisyBatch") -> Tensor:
    """Each image's mean squared error (B,) against what the network should answer if m were a
    noised x_0.
    """
    abar = t.alphas_cumprod[batch.t].view(-1, 1, 1, 1)
    noise = (m - abar.sqrt() * batch.x_0) / (1 - abar).sqrt()
    wanted = t.target(replace(batch, noise=noise))
    answer = t.predict(m, batch.t, batch.labels).float()
    return (answer - wanted).square().mean((1, 2, 3))
