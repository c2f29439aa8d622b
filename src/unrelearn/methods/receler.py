"""Receler: small erasers behind every cross-attention learn to turn away from the forgotten word,
only where it shows and whatever an adversary writes behind it. No image.

Huang et al. 2023, "Receler: Reliable Concept Erasing of Text-to-Image Diffusion Models via
Lightweight Erasers" (arXiv 2311.17717). With e ESD's target (see `esd`), c* the prompt of c_f in
which the states behind the word are vectors that make it as harmful as they can, o_l what eraser l
adds to its cross-attention, and M the pixels that look at the word in the original model (the mean
of its maps of one size, from 0 to 1, above a threshold),

    c* = argmin | eps(x_t, t; c*) - eps_0(x_t, t; c_f) |^2
    L  = | eps(x_t, t; c*) - e |^2 + local_weight mean_l | o_l (1 - M) |^2

where the second term is a mean over the channels and the pixels outside of M. Only erasers are
trained.

Where we differ. An eraser is linear here, o = B A h + b with rank A = `rank`, and no GELU between:
so it is folded into the output projection of its cross-attention, W* = (I + B A) W and bias* =
(I + B A) bias + b, and what is written is a plain denoiser, which others read and attacks start
from. With the GELU it can add to a pixel or not, by what the pixel holds; a linear one adds in
proportion, so that it may take more of what lies outside of M.
The adversary starts anew in every step, from the uniform vectors that theirs starts from once; the
states behind the word are all that the caption has, where theirs is the word alone and these are
padding. The maps are those nearest to a quarter of the image's side, as 16 pixels are of 64.
"""

import copy
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrelearn.diffusion.adversary import strongest
from unrelearn.diffusion.attention import looks
from unrelearn.diffusion.erasing import Erasing
from unrelearn.method import Parameters, constant
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, Positive, Probability, Steps, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoiser import Denoiser
    from unrelearn.diffusion.prompting import Captioned

TINY = 1e-12


class Eraser(nn.Module):
    """h (..., D) -> h + B A h + b; nothing at first."""

    def __init__(self, width: int, rank: int, generator: torch.Generator):
        super().__init__()
        self.down = nn.Linear(width, min(rank, width), bias=False)
        self.up = nn.Linear(min(rank, width), width)
        nn.init.normal_(self.down.weight, std=width**-0.5, generator=generator)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.added(h)

    def added(self, h: Tensor) -> Tensor:
        return self.up(self.down(h))


@dataclass(kw_only=True)
class Receler(Erasing):
    rank: Count  # of an eraser; at most as many as its cross-attention has channels
    local_weight: Weight  # of what erasers add outside of M
    mask_threshold: Probability  # of the scaled attention to the word, from which a pixel is in M
    attack_states: Count  # how many states behind the word are the adversary's
    attack_steps: Steps  # of it, for each step of the erasers
    attack_rate: Positive  # of its Adam
    attack_decay: Weight  # of its states, the weight decay
    parameters: Parameters = constant("cross_attention")

    # ESD's and the maps, and ten steps of the adversary: forward, and back to the states alone
    passes = (1, 32)

    def begin(self, t: "Captioned") -> None:  # type: ignore[override]
        places = {
            name: layer
            for name, layer in t.network.named_modules()
            if name.endswith(".attn2") and layer.to_out[0].weight.requires_grad
        }
        for parameter in t.network.parameters():
            parameter.requires_grad_(False)
        self.erasers = []
        for name, layer in places.items():
            g = generator_for(t.task.seed, "eraser", name)
            eraser = Eraser(layer.to_out[0].out_features, self.rank, g).to(layer.to_out[0].weight)
            layer.to_out[1] = nn.Sequential(layer.to_out[1], eraser)  # behind the dropout
            self.erasers.append(eraser)

    def losses(self, t: "Captioned") -> dict[str, Tensor]:  # type: ignore[override]
        batch = t.draw("trajectory", self.blank, label_dropout=0.0)
        there = self.partly_denoised(t, batch), batch.t, batch.labels
        x_t, times, labels = there
        with torch.no_grad():
            shown, maps = looks(self.teacher.network, lambda: self.teacher(*there))
        rows = t.null_label + 1
        word, later = (t.places(labels % rows, labels // rows, s) for s in ("word", "to_end"))
        mask = looked_at(maps, word, x_t.shape[-1], self.mask_threshold)
        states, behind = t.network.class_embedding(labels), later & ~word
        adam = partial(torch.optim.Adam, lr=self.attack_rate, weight_decay=self.attack_decay)
        vectors = strongest(
            t,
            lambda vectors: t.read(x_t, times, written(states, behind, vectors)),
            shown,
            t.uniform("adversary", (self.attack_states, states.shape[-1])),
            steps=self.attack_steps,
            optimizer=adam,
        )
        answer, added = self.erased(t, x_t, times, written(states, behind, vectors))
        outside = torch.stack([mean_outside(one, mask) for one in added]).mean()
        return {
            "forget": t.matching(answer, self.wanted(t, *there)),
            "outside": self.local_weight * outside,
        }

    def erased(
        self, t: "Captioned", x_t: Tensor, times: Tensor, states: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The answer to states, and what each eraser adds on the way: (B, pixels, channels)."""
        added: list[Tensor] = []
        hooks = [
            eraser.up.register_forward_hook(lambda layer, given, output: added.append(output))
            for eraser in self.erasers
        ]
        answer = t.read(x_t, times, states)
        for hook in hooks:
            hook.remove()
        return answer, added

    @torch.no_grad()
    def exported(self, network: "Denoiser") -> "Denoiser":
        plain = copy.deepcopy(network)
        for attention in [m for name, m in plain.named_modules() if name.endswith(".attn2")]:
            out, behind = attention.to_out
            if isinstance(behind, nn.Sequential):
                dropout, eraser = behind
                out.weight += eraser.up.weight @ (eraser.down.weight @ out.weight)
                out.bias.copy_(eraser(out.bias))
                attention.to_out[1] = dropout
        return plain


def written(states: Tensor, behind: Tensor, vectors: Tensor) -> Tensor:
    """Captions (B, L, D) with vectors (B, N, D) at the first N places of `behind`, bool (B, L)."""
    number = behind.cumsum(1) - 1
    taken = behind & (number < vectors.shape[1])
    index = number.clamp(0, vectors.shape[1] - 1)[..., None].expand_as(states)
    return torch.where(taken[..., None], vectors.gather(1, index), states)


def looked_at(maps: list[Tensor], word: Tensor, side: int, threshold: float) -> Tensor:
    """M (B, 1, h, h) of 0 and 1, of maps (B, heads, pixels, L) at an image of this side; word: the
    places of a caption, bool (B, L).
    """
    size = min({m.shape[2] for m in maps}, key=lambda pixels: abs(pixels**0.5 - side / 4))
    looks = [(m.float().mean(1) * word[:, None]).sum(-1) for m in maps if m.shape[2] == size]
    look = torch.stack(looks).mean(0)
    low, high = look.aminmax(dim=1, keepdim=True)
    mask = (look - low) / (high - low).clamp(min=TINY) >= threshold
    return mask.float().view(len(look), 1, math.isqrt(size), -1)


def mean_outside(added: Tensor, mask: Tensor) -> Tensor:
    """The mean of squares of (B, pixels, channels) over the channels and the pixels outside of M,
    (B, 1, h, h), for each image; then over the images.
    """
    side = math.isqrt(added.shape[1])
    outside = 1 - F.interpolate(mask, (side, side)).flatten(1)
    squares = added.float().square().mean(-1) * outside
    return (squares.sum(1) / outside.sum(1).clamp(min=1)).mean()
