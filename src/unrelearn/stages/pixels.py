"""Rows of tables that are images, and what the classifier that measures sees in them."""

from copy import copy

import torch
from torch import Tensor

from unrelearn.classification.classifier import halves
from unrelearn.run import Run
from unrelearn.stages.classifier import Oracle, classifier
from unrelearn.stages.images import stored


def images_run(run: Run) -> Run:
    """The same run of the images that the rows of its table are, whose classifiers are those of
    every kind of model.
    """
    return run.once("run of images", lambda: _of_images(run))


def _of_images(run: Run) -> Run:
    other, images = copy(run), run.dataset.images
    other.dataset, other._kept = images, {}
    other.names = run.names | {"dataset": type(images).__module__.rpartition(".")[2]}
    vars(other).pop("data_slice", None)
    return other


def oracle(run: Run) -> Oracle:
    return Oracle(images_run(run), Oracle.MAIN)


def look(run: Run, rows: Tensor) -> tuple[Tensor, Tensor]:
    """What the oracle sees in rows (N, columns) in their own units: probabilities of the classes
    and of nothing, and features (N, 64); float64, nan of rows that are not finite.
    """
    network = run.once("oracle", lambda: classifier(images_run(run), Oracle.MAIN))
    size, finite = run.dataset.image_size, rows.isfinite().all(1, keepdim=True)
    pixels = rows.nan_to_num().round().clamp(0, 255).to(torch.uint8)
    seen = network.look(pixels.view(-1, 1, size, size))
    probabilities, features = (torch.where(finite, part, torch.nan) for part in seen)
    return probabilities, features


def unseen_features(run: Run) -> Tensor:
    """Of the training images that taught the oracle nothing, (N, 64)."""

    def features() -> Tensor:
        others = halves(stored(images_run(run)).train)[1]
        return look(run, others.images[:].flatten(1).cpu().float())[1]

    return run.once("features of images", features)
