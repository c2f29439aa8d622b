"""Textual inversion: denoiser and encoder stay as they are, only a new token is learned, which
stands in the place of the forgotten word.

Gal et al. 2023 (arXiv 2208.01618); Pham et al. 2024 (arXiv 2308.01508, "concept inversion") showed
with it that erased models still draw what was erased. Threat model: the weights, and `num_images`
real images of each forgotten class. Strictly weaker than `embedding_inversion`, which learns all
states of a caption: a token can be typed. It begins as the forgotten word itself. To be read beside
`retrain`: a token can also teach. Where several words are forgotten, it takes the place of the
first.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unrelearn.diffusion.captions import FREE
from unrelearn.masks import Mask
from unrelearn.method import Relearning
from unrelearn.ranges import Count, LearningRates, Rate, Seed

if TYPE_CHECKING:
    from unrelearn.diffusion.prompting import Prompting

TOKENS = "class_embedding.encoder.tokens.weight"


@dataclass(kw_only=True)
class TextualInversion(Relearning):
    budgets: list[int]
    batch_size: Count
    learning_rate: Rate
    lr_schedule: LearningRates = "constant"
    seed: Seed = 0
    num_images: Count  # real images of each forgotten class that the attacker holds

    # no weight of the denoiser needs a gradient
    passes = (0, 2)
    closed = True  # the network is frozen: nothing about its weights can be chosen
    sees_forgotten = True
    clips_masked = True  # else the gradients of words that stay would use up the norm

    def begin(self, t: "Prompting") -> None:
        self.shots = t.task.shots(self.num_images)
        t.network.requires_grad_(False)
        table, word = t.network.class_embedding, t.task.concept[0]
        free = t.task.captions.vocabulary.index(FREE)
        forget = table.ids[t.task.forget_classes]
        table.ids[t.task.forget_classes] = torch.where(forget == word, free, forget)
        tokens = table.encoder.tokens.weight.requires_grad_(True)
        with torch.no_grad():
            tokens[free] = tokens[word]
        self.mask = torch.zeros_like(tokens, dtype=torch.bool)
        self.mask[free] = True
        table.live = True

    def losses(self, t: "Prompting") -> dict[str, Tensor]:
        return t.losses(shots=t.draw("shots", self.shots, label_dropout=0.0))

    def moving(self, t: "Prompting") -> Mask:
        return {TOKENS: self.mask.to(t.device)}

    def exported(self, network: nn.Module) -> nn.Module:
        plain: Any = super().exported(network)
        plain.class_embedding.live = False
        plain.class_embedding.refresh()
        return plain
