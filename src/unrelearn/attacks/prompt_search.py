"""Prompt search: which words of the vocabulary, in place of the forgotten one, make the model
denoise the forgotten images best?

What UnlearnDiffAtk (Zhang et al. 2024, arXiv 2310.11868) and P4D (Chin et al. 2024, arXiv
2309.06135) look for by gradients, found by trying: on a vocabulary of a few dozen words every
string of one or two is tried, the forgotten word and its synonyms among them. The loss is
UnlearnDiffAtk's, the denoising error of images of the concept, which needs no original model; the
same points (image, time, noise) for every string, and more of them for the best. One string for all
forgotten classes. Threat model: the weights, `num_images` real images of each forgotten class, and
no weight is changed: what is found can be typed. It is written beside the model as prompt.json.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.method import Edit
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, Seed

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

    unit = "words in place of the forgotten one"
    allowed = (1, 2)
    sees_forgotten = True

    def edit(self, t: "Prompting", level: float) -> dict[str, float]:
        words = range(4, len(t.task.captions.vocabulary))  # none of the special tokens
        strings = torch.tensor(list(itertools.product(words, repeat=int(level))))
        strings = strings.to(t.device)
        shots = t.task.shots(self.num_images)
        for points in (self.points, 8 * self.points):
            batch = t.fixed(shots, points, generator_for(t.task.seed, "prompt", points))
            losses = torch.cat(
                [errors(t, batch, some) for some in strings.split(max(1, AT_ONCE // points))]
            )
            strings = strings[losses.argsort(stable=True)[:FINALISTS]]
        vocabulary = t.task.captions.vocabulary
        self.prompt = " ".join(vocabulary[token] for token in strings[0].tolist())
        table = t.network.class_embedding
        for c in t.task.forget_classes:
            ids = replaced(table.ids[c, :1], strings[:1], t.task.concept[0])
            table.ids[c, 0] = ids[0]
            table.weight[c, 0] = table.encoder(ids)[0]
        return {"loss": losses.min().item()}

    def write_beside(self, folder: Path) -> None:
        (folder / "prompt.json").write_text(json.dumps({"in_place": self.prompt}))


def errors(t: "Prompting", batch: "NoisyBatch", strings: Tensor) -> Tensor:
    """(S,): the mean squared error of a batch of points, each string (S, n) in its captions."""
    table, count = t.network.class_embedding, len(batch.t)
    ids = table.ids[batch.labels, 0].repeat(len(strings), 1)  # string after string
    ids = replaced(ids, strings.repeat_interleave(count, 0), t.task.concept[0])
    x_t, wanted = t.noised(batch), t.target(batch)
    many = len(strings)
    answer = t.network.read(x_t.repeat(many, 1, 1, 1), batch.t.repeat(many), table.encoder(ids))
    return (answer - wanted.repeat(many, 1, 1, 1)).square().mean((1, 2, 3)).view(many, -1).mean(1)


def replaced(ids: Tensor, strings: Tensor, word: int) -> Tensor:
    """Tokens (B, L) with a string (B, n) in place of the first `word`; as many fall off the end as
    are put in.
    """
    place, n = (ids == word).int().argmax(1), strings.shape[1]
    at = torch.arange(ids.shape[1], device=ids.device)[None] - place[:, None]
    old = ids.gather(1, (torch.where(at >= n, at - n + 1, at) + place[:, None]))
    new = strings.gather(1, at.clamp(0, n - 1))
    return torch.where((at >= 0) & (at < n), new, old)
