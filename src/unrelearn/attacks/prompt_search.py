"""Prompt search: which words of the vocabulary, in place of the forgotten one, bring the concept
back?

What the publications look for by gradients or genetically is found by trying: on a vocabulary of a
few dozen words every string of one or two is tried, the forgotten word and its synonyms among them.
One string for all forgotten classes, the same points (image, time, noise) for every string, and
more of them for the best. With u the string in its captions, c_f the forgotten captions, c' those
that stand in for them, and TE the public text encoder, `loss` is

    images      | eps(x_t, t; u) - eps |^2                    UnlearnDiffAtk
    original    | eps(x_t, t; u) - eps_0(x_t, t; c_f) |^2     P4D, which needs the original model
    encoder     | TE(u) - (TE(c') + strength mean(TE(c_f) - TE(c'))) |^2     Ring-A-Bell: no model

(Zhang et al. 2024, arXiv 2310.11868; Chin et al. 2024, arXiv 2309.06135; Tsai et al. 2024, arXiv
2310.10012). Threat model: the weights, `num_images` real images of each forgotten class, which
"encoder" does not look at, and no weight is changed: what is found can be typed. It is written
beside the model as prompt.json.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.method import Edit
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, Seed, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.noisy import NoisyBatch
    from unrelearn.diffusion.prompting import Prompting

FINALISTS, AT_ONCE = 16, 512


@dataclass(kw_only=True)
class PromptSearch(Edit):
    levels: list[int]  # type: ignore[assignment]  # words are whole, and no list is written to
    num_images: Count  # real images of each forgotten class that the attacker holds
    points: Count  # at which every string is tried; eight times as many for the best
    seed: Seed = 0  # see Relearning
    loss: Literal["images", "original", "encoder"] = "images"
    strength: Weight = 3.0  # of "encoder"

    unit = "words in place of the forgotten one"
    allowed = (1, 2)
    sees_forgotten = True

    @classmethod
    def needs_original(cls, settings: Mapping[str, Any]) -> bool:
        return settings.get("loss") == "original"

    def edit(self, t: "Prompting", level: float) -> dict[str, float]:
        words = range(4, len(t.task.captions.vocabulary))  # none of the special tokens
        strings = torch.tensor(list(itertools.product(words, repeat=int(level))))
        strings = strings.to(t.device)
        shots = t.task.shots(self.num_images)
        for points in (self.points, 8 * self.points):
            batch = t.fixed(shots, points, generator_for(t.task.seed, "prompt", points))
            score = self.score(t, batch)
            parts = strings.split(max(1, AT_ONCE // points))
            losses = torch.cat([score(part) for part in parts])
            strings = strings[losses.argsort(stable=True)[:FINALISTS]]
        vocabulary = t.task.captions.vocabulary
        self.prompt = " ".join(vocabulary[token] for token in strings[0].tolist())
        table = t.network.class_embedding
        for c in t.task.forget_classes:
            ids = replaced(table.ids[c, :1], strings[:1], t.task.concept[0])
            table.ids[c, 0] = ids[0]
            table.weight[c, 0] = table.encoder(ids)[0]
        return {"loss": losses.min().item()}

    def score(self, t: "Prompting", batch: "NoisyBatch") -> Callable[[Tensor], Tensor]:
        """Strings (S, n) -> their losses (S,) at the points of a batch."""
        if self.loss == "encoder":
            return lambda strings: self.distances(t, batch.labels, strings)
        wanted = t.target(batch)
        if self.loss == "original":
            there = t.noised(batch), batch.t, batch.labels
            wanted = denoisers.predict(t.task.original(), *there)
        return lambda strings: errors(t, batch, strings, wanted)

    def distances(self, t: "Prompting", labels: Tensor, strings: Tensor) -> Tensor:
        """(S,): of strings (S, n) in the captions of labels, as "encoder" has it."""
        public = t.task.original().class_embedding
        forgotten = torch.tensor(t.task.forget_classes, device=t.device)
        concept = (public(forgotten) - public(t.task.stand_ins(forgotten))).mean(0)
        wanted = public(t.task.stand_ins(labels)) + self.strength * concept
        ids = in_captions(t, public.ids, labels, strings)
        gaps = public.encoder(ids).unflatten(0, (len(strings), -1)) - wanted
        return gaps.square().mean((1, 2, 3))

    def write_beside(self, folder: Path) -> None:
        (folder / "prompt.json").write_text(json.dumps({"in_place": self.prompt}))


def in_captions(t: "Prompting", table: Tensor, labels: Tensor, strings: Tensor) -> Tensor:
    """Tokens (S B, L): each string (S, n) in the captions of labels (B,), string after string."""
    ids = table[labels, 0].repeat(len(strings), 1)
    return replaced(ids, strings.repeat_interleave(len(labels), 0), t.task.concept[0])


def errors(t: "Prompting", batch: "NoisyBatch", strings: Tensor, wanted: Tensor) -> Tensor:
    """(S,): the mean squared distance from `wanted` at a batch of points, each string (S, n) in its
    captions.
    """
    table, many = t.network.class_embedding, len(strings)
    states = table.encoder(in_captions(t, table.ids, batch.labels, strings))
    x_t, times = t.noised(batch).repeat(many, 1, 1, 1), batch.t.repeat(many)
    gaps = t.network.read(x_t, times, states) - wanted.repeat(many, 1, 1, 1)
    return gaps.square().mean((1, 2, 3)).view(many, -1).mean(1)


def replaced(ids: Tensor, strings: Tensor, word: int) -> Tensor:
    """Tokens (B, L) with a string (B, n) in place of the first `word`; as many fall off the end as
    are put in.
    """
    place, n = (ids == word).int().argmax(1), strings.shape[1]
    at = torch.arange(ids.shape[1], device=ids.device)[None] - place[:, None]
    old = ids.gather(1, (torch.where(at >= n, at - n + 1, at) + place[:, None]))
    new = strings.gather(1, at.clamp(0, n - 1))
    return torch.where((at >= 0) & (at < n), new, old)
