"""Captions as numbers: a vocabulary of whole words, and the tokens of each class's captions."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

PAD, START, END, FREE = "<pad>", "<start>", "<end>", "<s>"  # FREE: no caption's; for inversion
States = Literal["word", "to_end", "all"]  # of a caption; the encoder is causal


def captions_of(dataset: Any, caption: str = "a photo of a {}") -> "Captions":
    """Of a data set that has captions, or one with the name of each of its classes."""
    written = getattr(dataset, "captions", None)
    return Captions(written or [[caption.format(name)] for name in dataset.class_names])


@dataclass(frozen=True)
class Captions:
    """captions[c][w]: of class c in wording w, the canonical one first; words are parted by
    spaces.
    """

    captions: list[list[str]]

    @cached_property
    def vocabulary(self) -> list[str]:
        words = {word for of in self.captions for text in of for word in text.split()}
        return [PAD, START, END, FREE, *sorted(words)]

    @property
    def wordings(self) -> int:
        return len(self.captions[0])

    @property
    def longest(self) -> tuple[int, str]:
        """Tokens, with start and end, of the longest caption; and that."""
        return max((len(text.split()) + 2, text) for of in self.captions for text in of)

    def ids(self, length: int) -> Tensor:
        """int64 (K + 1, T, length): the tokens of T captions of each class; row K is the empty
        prompt.
        """
        rows = [*self.captions, [""] * self.wordings]
        return torch.stack([torch.stack([self.encoded(t, length) for t in of]) for of in rows])

    def encoded(self, text: str, length: int) -> Tensor:
        words = [START, *text.split(), END]
        words += [PAD] * (length - len(words))
        return torch.tensor([self.vocabulary.index(word) for word in words])

    def tokens(self, words: list[str]) -> list[int]:
        return [self.vocabulary.index(word) for word in words]

    def concept(self, forgotten: list[int]) -> list[str]:
        """The words that all forgotten classes' canonical captions have, and not all retained ones;
        none, where no word names them all.
        """
        words = [of[0].split() for of in self.captions]
        kept = [words[c] for c in range(len(words)) if c not in forgotten]
        return [
            word
            for word in words[forgotten[0]]
            if all(word in words[c] for c in forgotten) and not all(word in of for of in kept)
        ]

    def paraphrases(self, forgotten: list[int]) -> list[int]:
        """Wordings that say a synonym in place of a word of the concept: held out from whoever
        makes a model forget.
        """
        if not forgotten:  # single images
            return []
        concept, first = set(self.concept(forgotten)), self.captions[forgotten[0]]
        return [w for w, text in enumerate(first) if concept - set(text.split())]
