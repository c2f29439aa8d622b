"""Scissorhands: give the weights that matter most for the forget set new random values, then repair
the retain set.

Wu & Harandi 2024, "Scissorhands: Scrub Data Influence via Connection Sensitivity in Networks"
(arXiv 2401.06187). Before the first step the weights with the largest |g * w| over a few forget
batches (SNIP, Lee et al. 2019, arXiv 1810.02340; see `masks.saliency`) are drawn anew; then

    L = |eps(x_r, t; c_r) - eps|^2 - forget_weight |eps(x_f, t; c_f) - eps|^2

There is no released DDPM code; constants are those for Stable Diffusion. As there, the ranking is
over all weights, and of the chosen ones only those in the decoder are drawn anew, and none of a
norm. Where we differ: the whole decoder (there two of its attention blocks, which small networks do
not have); new values come from each layer's own initialisation (there a normal of width 0.02); the
guidance of the saliency is that of our other masks; the paper's gradient projection, which that
code does not call, is left out.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.method import Method
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, Share, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising

STABLE_DIFFUSION = 859_520_964  # weights of the UNet whose share was published
DECODER = "up"  # beginning of its parameters' names, in both kinds of network


@dataclass(kw_only=True)
class Scissorhands(Method):
    forget_weight: Weight  # beta, of the ascent in units of the retain loss
    # share of the weights that are chosen in a network of Stable Diffusion's size. Of P weights
    # that may move it is trim_share * sqrt(859.5 M / P), at most all
    trim_share: Share
    trim_batches: Count  # forget batches that rank the weights

    passes = (2, 0)

    def prepare(self, t: "Denoising") -> None:
        moving = {name: p for name, p in t.network.named_parameters() if p.requires_grad}
        weights = sum(p.numel() for p in moving.values())
        share = min(1.0, self.trim_share * (STABLE_DIFFUSION / weights) ** 0.5)
        trimmed = t.salient(share, snip=True, batches=self.trim_batches)
        fresh = copy.deepcopy(t.network)
        # not with the seed of the run, from which the pretraining started
        denoisers.reinitialise(fresh, generator_for(t.task.seed, "scissorhands").initial_seed())
        new = dict(fresh.named_parameters())
        with torch.no_grad():
            for name, parameter in moving.items():
                if name.startswith(DECODER) and "norm" not in name:
                    chosen = trimmed[name] if t.mask is None else trimmed[name] & t.mask[name]
                    parameter.copy_(torch.where(chosen, new[name], parameter))

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        losses = t.losses(
            forget=t.draw("forget", t.task.forget, label_dropout=0.0),
            retain=t.draw("retain", t.task.retain),
        )
        return {"forget": -self.forget_weight * losses["forget"], "retain": losses["retain"]}
