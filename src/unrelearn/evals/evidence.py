"""What every measurement reads: what the classifiers (and Inception) see in generated and in real
images.

Looking is shared out over the processes and put together again, so that every measure is computed
once, in float64, from all features: the result does not depend on the number of processes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from scipy.special import ndtri
from torch import Tensor

from unrelearn import distributed
from unrelearn.classification.classifier import Classifier
from unrelearn.data import ImageSet, MappedImages
from unrelearn.diffusion.inception import Inception

PIECE = 500  # images looked at together


@dataclass(frozen=True)
class Predictions:
    """A set of images as the two classifiers see it.

    labels: (N,) the condition, or the true class of real images. probabilities, held_out: (N, K +
    1) float64, the last column "nothing". features: (N, D) float64 of the oracle. inception_*:
    float32 (N, 2048) and (N, 1008), where a measurement reads them. off_grid: (N,) bool, which
    images were drawn at other times. start: (N,) int64, which image each was started from, if not
    from noise. judged: (N, A) int64, what was computed of their attributes, without a classifier:
    the number of each's value, -1 where it shows none, -2 where it can not be computed. wording:
    (N,) int64, which caption of their class they were drawn under. early_features: float32 (N, 64),
    as inception_*.
    """

    labels: Tensor
    probabilities: Tensor
    held_out: Tensor
    features: Tensor
    inception_features: Tensor | None = None
    inception_probabilities: Tensor | None = None
    off_grid: Tensor | None = None
    start: Tensor | None = None
    judged: Tensor | None = None
    wording: Tensor | None = None
    early_features: Tensor | None = None

    @property
    def predicted(self) -> Tensor:
        """(N,) a class, or K: nothing."""
        return self.probabilities.argmax(1)

    def where(self, mask: Tensor) -> "Predictions":
        values = (getattr(self, field.name) for field in fields(self))
        return Predictions(*(None if value is None else value[mask] for value in values))


@dataclass(frozen=True)
class Records:
    """Real images as a model knows them: name of a score -> (N,), higher: rather a member, and
    "labels" (N,). held_out: images that no model of the run saw.
    """

    forget: dict[str, Tensor]
    retain: dict[str, Tensor]
    held_out: dict[str, Tensor]


@dataclass(frozen=True)
class Evidence:
    """forget, retain, other_sampler, other_starts: guidance scale as text -> what was generated
    under it.

    real_*: retained classes of the data set. other_sampler: under c_f by the second sampler, which
    `second` names.
    other_starts: under c_f from images of retained classes, where an attack starts from images.
    paraphrase: under synonyms of the forgotten word that whoever made the model forget never saw.
    All three may be empty. attributes: attribute -> its value in each class, by name; without
    attributes the class itself.
    records, retrained: by this model and by one that never saw D_f, where a measurement reads them.
    drawn: the images, as drawing.draw_all has them. original: the same of the original model, where
    a measurement compares with them.
    """

    forget: dict[str, Predictions]
    retain: dict[str, Predictions]
    real_train: Predictions
    real_test: Predictions
    forget_classes: list[int]
    num_classes: int
    other_sampler: dict[str, Predictions] = field(default_factory=dict)
    other_starts: dict[str, Predictions] = field(default_factory=dict)
    paraphrase: dict[str, Predictions] = field(default_factory=dict)
    second: str | None = None
    records: Records | None = None
    retrained: Records | None = None
    attributes: dict[str, list[str]] = field(default_factory=dict)
    drawn: dict[str, Tensor] = field(default_factory=dict)
    original: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Observers:
    """Who looks: the oracle, the held-out classifier and, if a measurement asks for it, Inception,
    or its first layers alone: uint8 images (N, C, H, W) -> float32 (N, 64).

    stretch: whether each image is first stretched to the full range, as the "salun" protocol does.
    attributes: as Evidence has them. judge: uint8 images (N, C, H, W) -> as Predictions.judged.
    """

    oracle: Classifier
    held_out: Classifier
    inception: Inception | None = None
    stretch: bool = False
    attributes: dict[str, list[str]] = field(default_factory=dict)
    judge: Callable[[Tensor], Tensor] | None = None
    early: Callable[[Tensor], Tensor] | None = None

    def look(self, images: Tensor | MappedImages, labels: Tensor) -> Predictions:
        """What is seen in uint8 images (N, C, H, W); each process looks at its share, and each gets
        the whole.
        """
        mine, pieces = distributed.my_slice(len(labels)), []
        # a share may be empty
        for start in range(mine.start, max(mine.stop, mine.start + 1), PIECE):
            piece = images[start : min(start + PIECE, mine.stop)]
            piece = stretch_contrast(piece) if self.stretch else piece
            pieces.append(self._seen(piece))
        parts = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
        whole = {name: distributed.gather(part) for name, part in parts.items()}
        return Predictions(labels.cpu(), **whole)

    def _seen(self, images: Tensor) -> dict[str, Tensor]:
        seen = {}
        seen["probabilities"], seen["features"] = self.oracle.look(images)
        seen["held_out"] = self.held_out.look(images)[0]
        if self.inception:
            keys = ("inception_features", "inception_probabilities")
            seen |= zip(keys, self.inception.look(images), strict=True)
        if self.early:
            seen["early_features"] = self.early(images)
        return seen


def stretch_contrast(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W), each image scaled so that its darkest value is 0 and its brightest 255.

    What torchvision's save_image(normalize=True) did to every image, real and generated, in the
    code line of Selective Amnesia and SalUn.
    """
    low, high = (end((1, 2, 3), keepdim=True).float() for end in (images.amin, images.amax))
    scaled = (images.float() - low) / (high - low).clamp(min=1) * 255 + 0.5
    return scaled.clamp(0, 255).to(torch.uint8)


def first_of_each_class(data: ImageSet, n: int | None) -> ImageSet:
    """The first n images of each class, in the order of the set; all of them for None."""
    if n is None:
        return data
    firsts = [torch.where(data.labels == c)[0][:n] for c in data.labels.unique()]
    return data.take(torch.cat(firsts).sort().values)


def gather_evidence(
    samples: dict[str, Tensor],
    real_train: Predictions,
    real_test: Predictions,
    forget_classes: list[int],
    observers: Observers,
    second: str | None = None,
) -> Evidence:
    """samples: "forget/1.0", "forget/1.0/labels", "retain/1.0", ... as in the samples artefact
    (sampling.draw_streams says what else). real_*: of all classes.
    """
    streams = ("forget", "retain", "other_sampler", "other_starts", "paraphrase")
    seen: dict[str, Any] = {stream: {} for stream in streams}
    for name, images in samples.items():
        if name.count("/") == 1:
            stream, scale = name.split("/")
            seen[stream][scale] = replace(
                observers.look(images, samples[f"{name}/labels"]),
                off_grid=samples.get(f"{name}/off_grid"),
                start=samples.get(f"{name}/start"),
                judged=observers.judge(images) if observers.judge else None,
                wording=samples.get(f"{name}/wording"),
            )
    real_train, real_test = (
        real.where(~torch.isin(real.labels, torch.tensor(forget_classes)))
        for real in (real_train, real_test)
    )
    return Evidence(
        **seen,
        real_train=real_train,
        real_test=real_test,
        forget_classes=forget_classes,
        num_classes=real_train.probabilities.shape[1] - 1,  # the last column is "nothing"
        second=second,
        attributes=observers.attributes,
        drawn=samples,
    )


def wilson(successes: int, n: int, confidence: float = 0.95) -> dict:
    """A proportion with its score interval (Wilson 1927): {"value", "low", "high", "n"}."""
    if n == 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    z, p = float(ndtri(0.5 + confidence / 2)), successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # the interval holds p; rounding must not say otherwise at p = 0 and p = 1
    low, high = max(0.0, min(p, (centre - half) / scale)), min(1.0, max(p, (centre + half) / scale))
    return {"value": p, "low": low, "high": high, "n": n}


def accuracy(predicted: Tensor, labels: Tensor) -> dict:
    return wilson(int((predicted == labels).sum()), len(labels))


def marks(mask: Tensor) -> str:
    """Of (N,) bool "1" for each that is set, "0" for the others, in order."""
    return "".join("01"[one] for one in mask.tolist())


def share(mask: Tensor) -> float:
    """Of (N,) bool the part that is set."""
    return mask.double().mean().item()


def spread(x: Tensor, n: int) -> Tensor:
    """n rows of x, or all if there are fewer: always the same ones, spread by a fixed
    permutation.
    """
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]]
