"""What every measurement reads: the images a model generated, and what both classifiers see in them and in real images."""

import math
from dataclasses import dataclass

import torch
from scipy.stats import norm
from torch import Tensor

from unrelearn.data import ImageData
from unrelearn.oracle import Classifier


@dataclass(frozen=True)
class Sight:
    """A set of images as the two classifiers see it.

    labels: (N,) the condition, or the true class of real images. probabilities, held_out: (N, K) float64.
    features: (N, D) float64 of the oracle.
    """

    labels: Tensor
    probabilities: Tensor
    held_out: Tensor
    features: Tensor

    @property
    def predicted(self) -> Tensor:
        return self.probabilities.argmax(1)

    def where(self, mask: Tensor) -> "Sight":
        return Sight(self.labels[mask], self.probabilities[mask], self.held_out[mask], self.features[mask])


@dataclass(frozen=True)
class Evidence:
    """forget, retain: guidance scale as text -> what was generated under it. real_*: retained classes of the data set."""

    forget: dict[str, Sight]
    retain: dict[str, Sight]
    real_train: Sight
    real_test: Sight
    forget_classes: list[int]
    num_classes: int


def look(images: Tensor, labels: Tensor, oracle: Classifier, held_out: Classifier) -> Sight:
    probabilities, features = oracle.look(images)
    return Sight(labels.cpu(), probabilities, held_out.look(images)[0], features)


def gather_evidence(samples: dict[str, Tensor], data: ImageData, forget_classes: list[int], oracle: Classifier,
                    held_out: Classifier) -> Evidence:
    """samples: "forget/1.0", "forget/1.0/labels", "retain/1.0", ... as in the samples artefact."""
    seen = {name: look(images, samples[f"{name}/labels"], oracle, held_out)
            for name, images in samples.items() if not name.endswith("/labels")}
    real_train, real_test = (
        look(part.images, part.labels, oracle, held_out)
        for part in (data.train.of_classes(forget_classes, keep=False), data.test.of_classes(forget_classes, keep=False)))
    return Evidence(
        forget={name.split("/")[1]: s for name, s in seen.items() if name.startswith("forget/")},
        retain={name.split("/")[1]: s for name, s in seen.items() if name.startswith("retain/")},
        real_train=real_train, real_test=real_test, forget_classes=forget_classes, num_classes=len(data.class_names))


def wilson(successes: int, n: int, confidence: float = 0.95) -> dict:
    """A proportion with its score interval (Wilson 1927): {"value", "low", "high", "n"}."""
    if n == 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    z, p = float(norm.ppf(0.5 + confidence / 2)), successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # the interval holds p; rounding must not say otherwise at p = 0 and p = 1
    low, high = max(0.0, min(p, (centre - half) / scale)), min(1.0, max(p, (centre + half) / scale))
    return {"value": p, "low": low, "high": high, "n": n}


def accuracy(predicted: Tensor, labels: Tensor) -> dict:
    return wilson(int((predicted == labels).sum()), len(labels))


def spread(x: Tensor, n: int) -> Tensor:
    """n rows of x, or all if there are fewer: always the same ones, spread by a fixed permutation."""
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]]
