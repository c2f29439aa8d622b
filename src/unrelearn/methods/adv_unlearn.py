"""AdvUnlearn: ESD under the prompt that an adversary has just learned against it, while retained
prompts are answered as before. No image.

Zhang et al. 2024, "Defensive Unlearning with Adversarial Training for Robust Concept Erasure in
Diffusion Models" (arXiv 2405.15234), a bi-level problem. With eps_0 the frozen original model, e
ESD's target (see `esd`) and c* the prompt of c_f behind an embedding that some steps of Adam make
as harmful as they can,

    c* = argmin | eps(x_t, t; c*) - eps_0(x_t, t; c_f) |^2
    L  = | eps(x_t, t; c*) - e |^2 + retain_weight | eps(y_t, t; c_r) - eps_0(y_t, t; c_r) |^2

x_t and y_t drawn by the current network under c_f and c_r, as in `esd`. The first steps have c_f
itself in place of c*. Its fast variant is one step of the adversary: Adam's first is the sign of
the gradient.

Where we differ: here the denoiser is trained and the encoder is public and stays (they train the
encoder, and report the denoiser as the weaker choice), so that the embedding is one of the states
that cross-attention reads, and not a token (their attack_embd_type=condition_embd); it starts at a
state of a retained caption, drawn anew in every step, where theirs is a word of the vocabulary, and
its rate is of states, which are larger than tokens; the adversary sees the x_t of its step, where
theirs draws another one for each of its own; a retained prompt is a caption of a retained class in
any wording, theirs names an object of COCO.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion.adversary import strongest
from unrelearn.diffusion.erasing import Erasing
from unrelearn.ranges import Count, Positive, Probability, Steps, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.noisy import NoisyBatch
    from unrelearn.diffusion.prompting import Captioned


@dataclass(kw_only=True)
class AdvUnlearn(Erasing):
    retain_weight: Weight
    warmup_share: Probability  # of max_steps, before there is an adversary
    attack_states: Count  # how many embeddings the adversary puts before the caption
    attack_steps: Steps  # of it, for each step of the denoiser
    attack_rate: Positive  # of its Adam

    # twice ESD's, and ten steps of the adversary: forward, and back to the states alone
    passes = (2, 42)

    def prepare(self, t: "Captioned") -> None:  # type: ignore[override]
        super().prepare(t)
        rows, wordings = t.null_label + 1, t.task.captions.wordings
        kept = [c + rows * w for w in range(wordings) for c in t.task.retain_classes]
        self.kept = self.blanks(t, kept)

    def losses(self, t: "Captioned") -> dict[str, Tensor]:  # type: ignore[override]
        batch = t.draw("trajectory", self.blank, label_dropout=0.0)
        there = self.partly_denoised(t, batch), batch.t, batch.labels
        answer = t.read(*there[:2], self.states(t, batch, there[0]))
        kept = t.draw("retain trajectory", self.kept, label_dropout=0.0)
        here = self.partly_denoised(t, kept), kept.t, kept.labels
        return {
            "forget": t.matching(answer, self.wanted(t, *there)),
            "retain": self.retain_weight * t.matching(t.predict(*here), self.teacher(*here)),
        }

    def states(self, t: "Captioned", batch: "NoisyBatch", x_t: Tensor) -> Tensor:
        """c* (B, L, D) at x_t (B, C, H, W); in the first steps c_f."""
        states = t.network.class_embedding(batch.labels)
        if t.step < self.warmup_share * self.max_steps:
            return states
        known = t.network.class_embedding(self.kept.labels).flatten(0, 1)
        place = t.uniform("adversary", (self.attack_states,)) * len(known)
        vectors = strongest(
            t,
            lambda vectors: t.read(x_t, batch.t, before(states, vectors)),
            self.teacher(x_t, batch.t, batch.labels),
            known[place.long()],
            steps=self.attack_steps,
            optimizer=partial(torch.optim.Adam, lr=self.attack_rate),
        )
        return before(states, vectors)


def before(states: Tensor, vectors: Tensor) -> Tensor:
    """Vectors (B, N, D) between the first state and all others of captions (B, L, D), of which the
    last N go.
    """
    return torch.cat([states[:, :1], vectors, states[:, 1 : states.shape[1] - vectors.shape[1]]], 1)
