"""Image data sets: what every loader returns, and the forget / retain split.

A data set is one file here and one yaml of the same name in `conf/dataset/`. Its constructor takes
the yaml's keys; it then offers

    check() -> list[str]      cheap problems (missing files, broken folders), one line each; [] when
                              all is well
    fingerprint() -> str      what the content is, for the artefact key: changes whenever an image
                              or a label does
    load() -> ImageData       the decoded images
    image_size, channels, class_names, horizontal_flip      known without loading; the last: whether
                                                            training may mirror
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import torch
from torch import Tensor

from unrelearn.errors import UsageError


def unreadable(root: Path, error: OSError) -> str:
    """The line for a file or folder below dataset.root that may not or can not be read."""
    return (
        f"dataset.root={root}: {error.filename or root} can not be read"
        f" ({error.strerror or error}); make it readable, or type dataset.root=/path for another"
        " folder"
    )


def names_what_can_not_be_read(method: Callable) -> Callable:
    """A method of a data set whose errors of the file system become that line."""

    @wraps(method)
    def reading(self, *arguments, **named):
        try:
            return method(self, *arguments, **named)
        except OSError as error:
            raise UsageError(unreadable(self.root, error)) from error

    return reading


def size_problems(size: object, example: int) -> list[str]:
    """Of dataset.image_size."""
    if isinstance(size, int) and size >= 1:
        return []
    must = "must be a positive number of pixels"
    return [f"dataset.image_size={size}: {must}; type dataset.image_size={example}"]


class MappedImages:
    """Images uint8 (N, C, H, W) that stay in a memory map on disk: rows of a store, read only when
    indexed.

    Stands where ImageSet has a tensor, so that a data set larger than the memory can be split and
    drawn from.
    """

    device = torch.device("cpu")
    dtype = torch.uint8

    def __init__(self, store: Tensor, rows: Tensor | None = None):
        self.store = store
        self.rows = torch.arange(len(store)) if rows is None else rows

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self.store.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """The images themselves, uint8 on the CPU."""
        return self.store[self.rows[index]]

    def subset(self, index: Tensor) -> "MappedImages":
        """The images at an index (M,) or mask (N,), still on disk."""
        return MappedImages(self.store, self.rows[index])

    def split(self, size: int) -> Iterator[Tensor]:
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device | str) -> "MappedImages | Tensor":
        """Themselves for the CPU; else all of them, read in pieces, as a tensor on the device."""
        if torch.device(device).type == "cpu":
            return self
        whole = torch.empty(self.shape, dtype=self.dtype, device=device)
        for piece, rows in zip(whole.split(4096), self.rows.split(4096), strict=True):
            piece.copy_(self.store[rows])
        return whole


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images uint8 (N, C, H, W) in [0, 255] and labels int64 (N,), on one device; or the images
    mapped from disk.

    wordings: (N,) int64, which caption of its class each image has, where classes have several;
        None: the canonical one.
    """

    images: Tensor | MappedImages
    labels: Tensor
    wordings: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, mask: Tensor) -> "ImageSet":
        """The images whose mask (N,) bool is set, in order."""
        return self.take(mask)

    def take(self, index: Tensor) -> "ImageSet":
        """The images at index (M,) int64."""
        subset = (
            self.images.subset if isinstance(self.images, MappedImages) else self.images.__getitem__
        )
        wordings = None if self.wordings is None else self.wordings[index]
        return ImageSet(subset(index), self.labels[index], wordings)

    def of_classes(self, classes: list[int], *, keep: bool = True) -> "ImageSet":
        """The images of these classes, or with keep=False all the others: forget set and retain
        set.
        """
        member = torch.isin(self.labels, torch.tensor(classes, device=self.labels.device))
        return self.where(member == keep)

    @staticmethod
    def join(sets: list["ImageSet"]) -> "ImageSet":
        """One set after the other; they are all in memory, or all subsets of one mapped store."""
        images = [part.images for part in sets]
        mapped = isinstance(images[0], MappedImages)
        whole = (
            MappedImages(images[0].store, torch.cat([part.rows for part in images]))
            if mapped
            else torch.cat(images)
        )
        worded = [part.wordings for part in sets if part.wordings is not None]
        wordings = torch.cat(worded) if len(worded) == len(sets) else None
        return ImageSet(whole, torch.cat([part.labels for part in sets]), wordings)

    def to(self, device: torch.device | str) -> "ImageSet":
        wordings = None if self.wordings is None else self.wordings.to(device)
        return ImageSet(self.images.to(device), self.labels.to(device), wordings)


@dataclass(frozen=True)
class ImageData:
    """A decoded data set: training and test images with labels in range(len(class_names))."""

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    true_labels: Tensor | None = None  # of train, (N,), where some are wrong on purpose
    memorisation: Tensor | None = None  # of train, (N,), where it was asked for
    validation: ImageSet | None = None  # held out from train
    original: tuple[ImageSet, ImageSet] | None = None  # both, of the model that is to forget
    seen: Tensor | None = None  # of train, bool (N,): that model was trained on it; None: on all

    def digest(self, *settings: str) -> str:
        """sha256 of the settings, of every pixel and of every label."""
        digest = hashlib.sha256("".join(settings).encode())
        for part in (self.train, self.test):
            digest.update(
                repr(tuple(part.images.shape)).encode() + part.images[:].numpy().tobytes()
            )
            digest.update(part.labels.numpy().tobytes())
        return digest.hexdigest()


def to_model_range(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [-1, 1], the range diffusion models are trained on. Latents, which
    are kept as float16: as they are, in float32.
    """
    if images.is_floating_point():
        return images.float()
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(x_0: Tensor) -> Tensor:
    """float [-1, 1] -> uint8 [0, 255], clamped and rounded; no contrast stretching."""
    return x_0.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
