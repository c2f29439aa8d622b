"""Image data sets: what every loader returns, and the forget / retain split.

A data set is one file here and one yaml of the same name in `conf/dataset/`. Its constructor takes the yaml's keys;
it then offers

    check() -> list[str]      cheap problems (missing files, broken folders), one line each; [] when all is well
    fingerprint() -> str      what the content is, for the artefact key: changes whenever an image or a label does
    load() -> ImageData       the decoded images
    image_size, channels, class_names, horizontal_flip      known without loading; the last: whether training may mirror
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 (N, C, H, W) in [0, 255] and labels int64 (N,), on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, mask: Tensor) -> "ImageSet":
        """The images whose mask (N,) bool is set, in order."""
        return ImageSet(self.images[mask], self.labels[mask])

    def take(self, index: Tensor) -> "ImageSet":
        """The images at index (M,) int64."""
        return ImageSet(self.images[index], self.labels[index])

    def of_classes(self, classes: list[int], *, keep: bool = True) -> "ImageSet":
        """The images of these classes, or with keep=False all the others: forget set and retain set."""
        member = torch.isin(self.labels, torch.tensor(classes, device=self.labels.device))
        return self.where(member == keep)

    def to(self, device: torch.device | str) -> "ImageSet":
        return ImageSet(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageData:
    """A decoded data set: training and test images with labels in range(len(class_names))."""

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]


def to_model_range(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [-1, 1], the range diffusion models are trained on."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(x_0: Tensor) -> Tensor:
    """float [-1, 1] -> uint8 [0, 255], clamped and rounded; no contrast stretching."""
    return x_0.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
