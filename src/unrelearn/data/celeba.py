"""CelebA: 202,599 aligned photographs of 10,177 people with 40 yes/no attributes (Liu, Luo, Wang
and Tang 2015, "Deep Learning Face Attributes in the Wild", arXiv:1411.7766). For non-commercial
research; nothing is downloaded here.

The classes are the combinations of a few chosen attributes, so that a face can be asked for with an
attribute or without: condition [Male, Smiling] makes -Male-Smiling, -Male+Smiling, +Male-Smiling
and +Male+Smiling. There is no established class-conditional protocol for CelebA; this one is ours.
Training images are partition 0 of the published split, test images partition 2; the validation
images are not read.

The whole set at 64x64 is 2.2 GB decoded. So there is no load(): the pipeline has decode() write the
pixels into a folder of its own once, and open() maps them from there.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from unrelearn.advice import typed
from unrelearn.data import ImageData, ImageSet, MappedImages, names_what_can_not_be_read
from unrelearn.data.celeba_classes import Combinations
from unrelearn.data.celeba_lists import Files, some
from unrelearn.data.celeba_pixels import Square
from unrelearn.errors import UsageError
from unrelearn.ranges import ImageSize

TRAIN, TEST = "0", "2"  # in list_eval_partition; "1" is validation


class CelebA:
    """162,770 training and 19,962 test images, uint8 (N, 3, image_size, image_size) in [0, 255], on
    disk.

    Args:
        root: img_align_celeba/ (images, also one folder deeper), list_attr_celeba and
            list_eval_partition (.txt as published or .csv as on Kaggle) are looked for in
            root/celeba, then in root itself.
        condition: 1 to 6 attributes. With n of them there are 2**n classes; the first is the most
            significant bit.
        image_size: height and width in pixels.
        crop: side in pixels of the square cut from the centre of the 178x218 image and resized
            (bicubic, antialiased).
        skip_broken: leave out images that can not be decoded, instead of refusing to go on.
    """

    channels = 3
    horizontal_flip = True
    whole = (178, 218)  # width and height in pixels of every image
    example = ("Male", "Smiling")  # a condition
    again = "unpack img_align_celeba.zip there again"  # where some images are missing

    def __init__(
        self,
        root: str,
        condition: list[str],
        image_size: ImageSize = 64,
        crop: Annotated[int, Field(ge=1, le=178)] = 178,
        skip_broken: bool = False,
    ):
        self.root = Path(root).expanduser()
        self.condition = condition
        self.image_size = image_size
        self.crop = crop
        self.skip_broken = skip_broken
        self.classes = Combinations(condition)
        self.files = Files(self.root)
        self.square = Square(crop, image_size, self.whole)

    # what can be asked for

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes.names

    @property
    def groups(self) -> dict[str, list[int]]:
        """What `forget=` may name -> its classes."""
        return self.classes.groups

    @property
    def attributes(self) -> dict[str, list[str]]:
        """Attribute -> its value in each class, "+" or "-"."""
        return self.classes.shown

    @property
    def captions(self) -> list[list[str]]:
        """For a model that reads them: one of each class."""
        return self.classes.captions

    def counterpart(self, label: int, forgotten: list[int]) -> int:
        """The retained class under which DiMUM's alternative images for `label` are taken."""
        return self.classes.counterpart(label, forgotten)

    # what is there

    @property
    def source(self) -> str:
        """What to do where there is nothing."""
        return f"put them into {self.root / 'celeba'}"

    @names_what_can_not_be_read
    def check(self) -> list[str]:
        problems = self.square.check() + self.classes.check_number([*self.example])
        if missing := self.files.missing():
            return [
                *problems,
                f"dataset.root={self.root}: missing {', '.join(missing)}; {self.source}, or type"
                " dataset.root=/path for a folder which holds them",
            ]
        lists = self.files.lists
        give = "replace it by the published file, or type dataset.root=/path for a folder which"
        wrong = [f"dataset.root={self.root}: {p}; {give} holds that" for p in lists.problems]
        problems += wrong or self.classes.check_names(lists.names)
        return problems or self._check_images()

    @names_what_can_not_be_read
    def fingerprint(self) -> str:
        """sha256 over the arguments, what the two lists say, and the name and size in bytes of
        every image.

        The images themselves are not read: one that is replaced by another of the same size goes
        unnoticed.
        """
        if problems := self.check():
            raise UsageError(problems)
        lists = self.files.lists
        with os.scandir(self.files.images) as entries:
            sizes = {e.name: e.stat().st_size for e in entries if e.name in lists.partition}
        settings = (self.crop, self.image_size, self.condition, self.skip_broken)
        digest = hashlib.sha256(repr(("celeba", *settings, lists.names)).encode())
        for name, values in sorted(lists.attributes.items()):
            line = f"{name} {values} {lists.partition[name]} {sizes.get(name)}\n"
            digest.update(line.encode())
        return digest.hexdigest()

    def num_images(self) -> int:
        """Training and test images; reads the lists only. Of a data set whose check() is []."""
        return len(self._images[0])

    # the pixels

    def decode(self, folder: Path, progress: Callable[[int], None]) -> int:
        """Decode every training and test image, in the order of their names, into folder/images.npy
        and labels.npz.

        Args:
            folder: an existing folder. What an interrupted call left there is overwritten.
            progress: called with the number of images decoded since its last call.

        Returns:
            How many broken images were left out; 0 unless skip_broken.

        Raises:
            UsageError: what check() says; or images are broken, all of them in one line.
        """
        if problems := self.check():
            raise UsageError(problems)
        names, labels, partition = self._images
        images = self.files.images or Path()  # check() has found it
        paths = [images / name for name in names]
        broken = self.square.write(paths, folder / "images.npy", progress)
        if broken and not self.skip_broken:
            raise UsageError(
                f"dataset.root={self.root}: {len(broken)} of {len(names)} images in {images} can"
                f" not be used: {some([names[i] for i in broken])}; the first"
                f" {next(iter(broken.values()))}. Replace them. Type dataset.skip_broken=true to"
                " leave them out"
            )
        partition = partition.copy()
        partition[list(broken)] = -1
        if problems := self._check_classes(labels, partition):
            raise UsageError(problems)
        np.savez(folder / "labels.npz", labels=labels, partition=partition)
        return len(broken)

    def open(self, folder: Path) -> ImageData:
        """What decode() wrote into folder. The images stay there and are read when they are
        indexed.
        """
        # "c", a private copy of what is written to: torch warns of tensors that must not be written
        # to
        store = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
        with np.load(folder / "labels.npz") as arrays:
            labels, partition = (torch.from_numpy(arrays[name]) for name in ("labels", "partition"))

        def part(number: str) -> ImageSet:
            rows = torch.where(partition == int(number))[0]
            return ImageSet(MappedImages(store, rows), labels[rows])

        return ImageData(part(TRAIN), part(TEST), self.class_names)

    # the files

    @cached_property
    def _images(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """File names of the training and test images, sorted; labels int64 (N,); partition int64
        (N,), 0 or 2.
        """
        lists = self.files.lists
        columns = [lists.names.index(name) for name in self.condition]
        names = sorted(name for name, part in lists.partition.items() if part in (TRAIN, TEST))
        bits = ["".join(lists.attributes[name][column] for column in columns) for name in names]
        labels = np.array([int(each, 2) for each in bits], dtype=np.int64)
        return names, labels, np.array([int(lists.partition[name]) for name in names])

    def _check_images(self) -> list[str]:
        names, labels, partition = self._images
        there = set(os.listdir(self.files.images))  # one listing, not a question per image
        if missing := [name for name in names if name not in there]:
            lacks = f"{self.files.images} lacks {len(missing)} of {len(names)} images"
            return [
                f"dataset.root={self.root}: {lacks}: {some(missing)}; {self.again}, or type"
                " dataset.root=/path for a folder which holds them"
            ]
        return self._check_classes(labels, partition)

    def _check_classes(self, labels: np.ndarray, partition: np.ndarray) -> list[str]:
        """A class without images can be neither trained nor measured."""
        problems = []
        for word, part in (("training", TRAIN), ("test", TEST)):
            there = set(labels[partition == int(part)].tolist())
            empty = [name for label, name in enumerate(self.class_names) if label not in there]
            if empty:
                columns = self.files.lists.columns(self._images[0])
                advice = without_gaps(self.condition, labels, partition, columns)
                lacks = f"{', '.join(empty)} without a {word} image"
                problems.append(f"{self.classes.given}: {lacks}; {advice}")
        return problems


def without_gaps(
    condition: list[str], labels: np.ndarray, partition: np.ndarray, others: dict[str, np.ndarray]
) -> str:
    """What to type: the longest beginning of a condition whose classes all have training and test
    images, else another attribute of which that is so, if there is one.

    Args:
        labels: int64 (N,), classes of the condition. partition: (N,), 0 or 2.
        others: attribute -> 0 or 1 of each image, (N,).
    """
    bits = len(condition)
    options = [(condition[:n], labels >> (bits - n)) for n in range(bits - 1, 0, -1)]
    for chosen, values in [*options, *(([name], column) for name, column in others.items())]:
        parts = (values[partition == int(part)] for part in (TRAIN, TEST))
        if all(len(np.unique(part)) == 2 ** len(chosen) for part in parts):
            return f"type {typed({'dataset.condition': chosen})}, or others as frequent"
    return "no attribute is both there and not; put more images there"
