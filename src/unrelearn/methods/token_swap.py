"""The degenerate unlearner of words: copy another word's token over that of the forgotten one, and
read all captions with it.

Nothing is forgotten and no weight of the denoiser moves; yet "red" is drawn as green, and no attack
that trains the denoiser on retain data can ever reach the token. A synonym, an inverted token, or
the public text encoder in its place (attack=encoder_transplant) show the colour at once. It is here
because any measure that ranks it first is broken.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrelearn.method import Still

if TYPE_CHECKING:
    from unrelearn.diffusion.prompting import Prompting


@dataclass(kw_only=True)
class TokenSwap(Still):
    @torch.no_grad()
    def prepare(self, t: "Prompting") -> None:
        table = t.network.class_embedding
        tokens = table.encoder.tokens.weight
        for token, other in t.swaps.items():
            tokens[token] = tokens[other]
        table.refresh()
