"""Training a text-conditional denoiser: all is that of a class-conditional one, but for what a
label stands for, and what a method may read of captions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.attention import looks
from unrelearn.diffusion.captions import Captions, States
from unrelearn.diffusion.denoising import Denoising, DenoisingTask
from unrelearn.diffusion.noisy import NoisyBatch


@dataclass(kw_only=True)
class PromptingTask(DenoisingTask):
    """What a text-conditional denoiser is trained with, besides."""

    captions: Captions

    @property
    def concept(self) -> list[int]:
        """The tokens of the forgotten words."""
        return self.captions.tokens(self.captions.concept(self.forget_classes))

    def other_class(self, forget_class: int) -> int:
        """The caption with the forgotten word edited, where the data set knows it; else the next
        one.
        """
        return self.counterparts.get(forget_class, super().other_class(forget_class))

    def stand_ins(self, labels: Tensor) -> Tensor:
        """As of classes; the wording stays."""
        rows = len(self.class_names) + 1
        table = torch.arange(rows, device=labels.device)
        for c in self.forget_classes:
            table[c] = self.other_class(c)
        return table[labels % rows] + labels // rows * rows

    def worded(self, wordings: Tensor | None) -> Tensor | None:
        """The canonical one in place of those that say a synonym."""
        if wordings is None:
            return None
        held_out = torch.tensor(self.captions.paraphrases(self.forget_classes))
        return torch.where(torch.isin(wordings, held_out.to(wordings.device)), 0, wordings)

    def shots(self, num_images: int) -> ImageSet:
        """Under the canonical prompt."""
        held = super().shots(num_images)
        return ImageSet(held.images, held.labels)


class Captioned(Denoising):
    """Train a denoiser that reads the states of captions. They and what made them are public: they
    stay, but for attacks that learn a state or a token.
    """

    task: PromptingTask  # type: ignore[assignment]

    def begin(self) -> None:
        # few_shot and lora ask for it, of a row of a class; states that moved would be no caption's
        self.method.train_class_embedding = False
        super().begin()

    @property
    def public(self) -> frozenset[str]:  # type: ignore[override]
        names = [name for name, _ in self.network.named_parameters()]
        return frozenset(name for name in names if name.startswith(denoisers.TABLE))

    spared = public

    def read(self, x_t: Tensor, t: Tensor, states: Tensor) -> Tensor:
        """As `predict`, of states (B, L, D) that are no caption's."""
        return self.network.read(x_t, t, states)

    def attention(self, batch: NoisyBatch) -> list[Tensor]:
        """Of every cross-attention where the pixels of x_t look: (B, heads, pixels, L), softmax
        over the caption's states; with gradients.
        """
        x_t = self.noised(batch)
        output, maps = looks(self.network, lambda: self.predict(x_t, batch.t, batch.labels))
        # several processes wait for a gradient of every weight, those behind the last map too
        maps[-1] = maps[-1] + 0 * output.sum()
        return maps

    def known_wordings(self) -> Tensor:
        """Those that say the forgotten word itself, (W,)."""
        held_out = self.task.captions.paraphrases(self.task.forget_classes)
        kept = [w for w in range(self.task.captions.wordings) if w not in held_out]
        return torch.tensor(kept, device=self.device)

    def concept_places(self, states: States) -> Tensor:
        """Bool (C, W, L): of each forgotten class's captions the places of the concept's words;
        "to_end": and all places after the first of them; "all": every place.
        """
        forget = torch.tensor(self.task.forget_classes, device=self.device)
        return self.places(forget[:, None], self.known_wordings(), states)

    def places(self, classes: Tensor, wordings: Tensor, states: States) -> Tensor:
        """As `concept_places`, of captions (..., L) by class and wording."""
        ids = self.network.class_embedding.ids[classes, wordings]
        word = torch.isin(ids, torch.tensor(self.task.concept, device=self.device))
        return {"word": word, "to_end": word.cumsum(-1) > 0, "all": torch.ones_like(word)}[states]

    def concept_states(self, states: States) -> tuple[Tensor, Tensor]:
        """The states (N, D), float64, at those places, and the places."""
        places = self.concept_places(states)
        return self._captions(self.task.forget_classes)[places], places

    def stand_in_states(self) -> Tensor:
        """(C, W, L, D), float64: of the captions that stand in for those of forgotten classes."""
        return self._captions([self.task.other_class(c) for c in self.task.forget_classes])

    def retained_states(self) -> Tensor:
        """(M, D), float64: every state of every retained caption, and of the empty one."""
        weight = self.network.class_embedding.weight
        kept = torch.tensor([*self.task.retain_classes, self.null_label], device=self.device)
        return weight[kept].detach().double().flatten(0, 2)

    def _captions(self, classes: list[int]) -> Tensor:
        place = torch.tensor(classes, device=self.device)[:, None]
        return self.network.class_embedding.weight[place, self.known_wordings()].detach().double()


class Prompting(Captioned):
    """Train a denoiser with a text encoder of its own, whose tokens are at hand."""

    @property
    def swaps(self) -> dict[int, int]:
        """Each token of the concept -> the one in its place in the caption that stands in."""
        table, c = self.network.class_embedding, self.task.forget_classes[0]
        own, other = table.ids[c, 0].tolist(), table.ids[self.task.other_class(c), 0].tolist()
        swapped = {a: b for a, b in zip(own, other, strict=True) if a != b}
        return {token: swapped[token] for token in self.task.concept if token in swapped}
