"""What measurements of a classifier read: its answers, and those of models that never saw D_f."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """For some images: logits float32 (N, K), labels int64 (N,), and the logits of R references
    (R, N, K).
    """

    logits: Tensor
    labels: Tensor
    references: Tensor
    off_grid: None = None  # an image is drawn or started from another by no classifier
    start: None = None

    @property
    def predicted(self) -> Tensor:
        return self.logits.argmax(1)

    @cached_property
    def probabilities(self) -> Tensor:
        """(N, K) float64."""
        return self.logits.double().softmax(1)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """logits, labels and references, as `classification.scores` takes them."""
        return self.logits.numpy(), self.labels.numpy(), self.references.numpy()

    def of_reference(self, number: int) -> "Answers":
        """As if a reference were the model, beside the others."""
        others = [n for n in range(len(self.references)) if n != number]
        return Answers(self.references[number], self.labels, self.references[torch.tensor(others)])


@dataclass(frozen=True)
class ClassifierEvidence:
    """Answers for D_f and D_r, under the one scale there is, and for D_t, the test images."""

    forget: dict[str, Answers]
    retain: dict[str, Answers]
    test: Answers
    forget_classes: list[int]
    num_classes: int
    other_starts: ClassVar[dict] = {}

    @property
    def parts(self) -> tuple[Answers, Answers, Answers]:
        """D_f, D_r and D_t, the last without classes that are forgotten (Unlearn-Saliency)."""
        (forget,), (retain,) = self.forget.values(), self.retain.values()
        test = self.test
        kept = ~torch.isin(test.labels, torch.tensor(self.forget_classes, dtype=torch.int64))
        if not kept.all():
            test = Answers(test.logits[kept], test.labels[kept], test.references[:, kept])
        return forget, retain, test

    def of_reference(self, number: int) -> "ClassifierEvidence":
        """As if a reference were the model, beside the others."""
        return ClassifierEvidence(
            {scale: part.of_reference(number) for scale, part in self.forget.items()},
            {scale: part.of_reference(number) for scale, part in self.retain.items()},
            self.test.of_reference(number),
            self.forget_classes,
            self.num_classes,
        )

    @property
    def num_references(self) -> int:
        return len(self.test.references)
