"""CIFAR-10: 60,000 colour photographs of 10 classes, 32x32 (Krizhevsky 2009, "Learning Multiple
Layers of Features").

Reads the python layout (cifar-10-batches-py), the binary one (cifar-10-batches-bin), the published
archive of either, or what `scripts/fetch_data.py cifar10 --pack` wrote (cifar-10-webp). The decoded
arrays are verified, not the files, so that every honest way to obtain the data is accepted.
"""

import hashlib
import shlex
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unrelearn.advice import typed
from unrelearn.data import ImageData, ImageSet, names_what_can_not_be_read, size_problems
from unrelearn.data.cifar import Layout
from unrelearn.data.download import fetch
from unrelearn.errors import UsageError
from unrelearn.ranges import Count, ImageSize

TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CHECKSUM = "md5:c58f30108f718f92721af3b95e74349a"
NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
CLASS_NAMES: tuple[str, ...] = tuple(NAMES.split())
# sha256 of the decoded images as uint8 (N, 32, 32, 3), and of the labels as uint8 (N,)
SHA256 = {
    "train": (
        "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    ),
    "test": (
        "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
}


class CIFAR10:
    """50,000 training and 10,000 test images (a tenth per class), uint8 (N, 3, image_size,
    image_size) in [0, 255].

    Args:
        root: holds cifar-10-batches-py, cifar-10-batches-bin, cifar-10-webp, cifar-10-python.tar.gz
            or cifar-10-binary.tar.gz.
        image_size: height and width in pixels; other than 32 means resized (bicubic, antialiased).
        download: whether load() may fetch the data when none of them is there.
        verify: whether it must be the published data. False is for your own files in the same
            layout.
        classes: keep only these classes; their labels are 0, 1, ... in the order given here. None
            keeps all ten.
        train_images_per_class: keep only the first so many training images of each class. None
            keeps all.
    """

    channels = 3
    horizontal_flip = True
    names = CLASS_NAMES
    # mean and deviation of the training images in [0, 1], as Unlearn-Saliency has them
    colours = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    url, checksum = URL, CHECKSUM  # of layout.archives[0]
    layout = Layout(
        title="CIFAR-10",
        python="cifar-10-batches-py",
        binary="cifar-10-batches-bin",
        archives=("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),
        packed="cifar-10-webp",
        train=TRAIN_BATCHES,
        test=TEST_BATCHES,
        label="labels",
        label_bytes=1,
        num_classes=10,
    )

    def __init__(
        self,
        root: str,
        image_size: ImageSize = 32,
        download: bool = True,
        verify: bool = True,
        classes: list[str] | None = None,
        train_images_per_class: Count | None = None,
    ):
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.download = download
        self.verify = verify
        self.class_names = self.names if classes is None else tuple(classes)
        self.train_images_per_class = train_images_per_class

    @names_what_can_not_be_read
    def check(self) -> list[str]:
        problems = size_problems(self.image_size, 32)
        problems += self._check_classes()
        if not self.download and self.source() is None:
            problems.append(self._how_to_get())
        return problems

    def _check_classes(self) -> list[str]:
        known = list(dict.fromkeys(name for name in self.class_names if name in self.names))
        if len(known) >= 2 and len(known) == len(self.class_names):
            return []
        example = (known + [name for name in self.names if name not in known])[: max(2, len(known))]
        return [
            f"dataset.classes=[{','.join(self.class_names)}]: must be at least two different names"
            f" of {', '.join(self.names)}; type {typed({'dataset.classes': example})}"
        ]

    @names_what_can_not_be_read
    def fingerprint(self) -> str:
        subset = "" if self.class_names == self.names else "-".join(("", *self.class_names))
        subset += f"-{self.train_images_per_class}" if self.train_images_per_class else ""
        if self.verify:
            # load() accepts nothing but the published data
            return f"cifar10-{self.image_size}{subset}"
        return self.load().digest(subset)

    def _fetched(self) -> Path:
        if not self.download:
            raise UsageError(self._how_to_get())
        archive = self.root / self.layout.archives[0]
        try:
            fetch([self.url], self.checksum, archive)
        except UsageError as error:
            raise UsageError(f"{self._how_to_get()} ({error})") from error
        return archive

    @names_what_can_not_be_read
    def load(self) -> ImageData:
        if problems := self._check_classes():
            raise UsageError(problems)
        source = self.source() or self._fetched()
        batches = self.layout.read(source)
        return ImageData(
            self._image_set("train", [batches[name] for name in self.layout.train], source),
            self._image_set("test", [batches[name] for name in self.layout.test], source),
            self.class_names,
        )

    def source(self) -> Path | None:
        """The folder or archive that load() reads, the first complete one; None if there is
        none.
        """
        return self.layout.source(self.root)

    def _how_to_get(self) -> str:
        layout, ways = self.layout, self._fetch_command()
        return (
            f"dataset.root={self.root}: no {layout.title} there; {ways}put {layout.archives[0]}, or"
            f" the folder {layout.python}, {layout.binary} or {layout.packed} with all its files,"
            f" into {self.root}, or"
            " type dataset.root=/path for a folder which holds it"
            + ("" if self.download else ", or dataset.download=true")
        )

    def _fetch_command(self) -> str:
        root = shlex.quote(str(self.root))
        return f"type python scripts/fetch_data.py cifar10 --root {root}, or "

    def _image_set(
        self, part: str, batches: list[tuple[np.ndarray, np.ndarray]], source: Path
    ) -> ImageSet:
        images = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([labels for _, labels in batches])
        if self.verify and (_sha256(images.transpose(0, 2, 3, 1)), _sha256(labels)) != SHA256[part]:
            raise UsageError(
                f"dataset.root={self.root}: the {part} images or labels in {source} are not the"
                f" published CIFAR-10; delete it and {self._fetch_command()}type"
                " dataset.verify=false to use it as it is"
            )
        if self.class_names != self.names:
            chosen = np.array([self.names.index(name) for name in self.class_names])
            kept = np.isin(labels, chosen)
            images, labels = images[kept], (labels[kept, None] == chosen).argmax(axis=1)
        if part == "train" and self.train_images_per_class:
            kept = first_of_each(labels, self.train_images_per_class)
            images, labels = images[kept], labels[kept]
        if self.image_size != 32:
            images = resized(images, self.image_size)
        return ImageSet(
            torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels).long()
        )


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Indexes of the first so many of each label, ascending."""
    firsts = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(firsts))


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Colour images uint8 (N, 3, H, W) as (N, 3, size, size), bicubic and antialiased."""
    square: np.ndarray = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for row, image in zip(square, images.transpose(0, 2, 3, 1), strict=True):
        row[:] = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    return square.transpose(0, 3, 1, 2)


def _sha256(array: np.ndarray) -> str:
    digest = hashlib.sha256()
    # bytes in order, a row at a time: a copy of all of them would double the memory
    for row in array:
        digest.update(row.tobytes())
    return digest.hexdigest()
