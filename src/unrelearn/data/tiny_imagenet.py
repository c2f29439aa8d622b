"""Tiny ImageNet: 110,000 labelled photographs of 200 classes, 64x64 (Le and Yang 2015, "Tiny
ImageNet Visual Recognition Challenge"; a part of ILSVRC 2012).

Reads the unpacked folder tiny-imagenet-200 as it is handed out. The official validation images are
the test set, all of them; the official test images have no labels.
"""

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unrelearn.data import ImageData, ImageSet, names_what_can_not_be_read, size_problems
from unrelearn.errors import UsageError

FOLDER = "tiny-imagenet-200"
LISTS = ("wnids.txt", "words.txt", "val/val_annotations.txt")
Files = list[tuple[Path, int]]  # with labels


class TinyImageNet:
    """100,000 training and 10,000 test images, uint8 (N, 3, image_size, image_size) in [0, 255].

    Labels count the WordNet ids in alphabetical order, as torchvision's ImageFolder does; the name
    of a class is its first word.

    Args:
        root: holds the folder tiny-imagenet-200, or is it.
        image_size: height and width in pixels; other than 64 means resized (bicubic, antialiased).
    """

    channels = 3
    colours = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as CIFAR10.colours
    horizontal_flip = True

    def __init__(self, root: str, image_size: int = 64):
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.folder = self.root if (self.root / LISTS[0]).is_file() else self.root / FOLDER

    @cached_property
    def ids(self) -> list[str]:
        """The WordNet ids of the classes, by label."""
        return sorted((self.folder / "wnids.txt").read_text().split())

    @property
    @names_what_can_not_be_read
    def class_names(self) -> tuple[str, ...]:
        lines = (self.folder / "words.txt").read_text().splitlines()
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
        first = [words.get(i, i).split(",")[0].strip() for i in self.ids]
        often = Counter(first)
        return tuple(
            name if often[name] == 1 else f"{name} {i}"
            for name, i in zip(first, self.ids, strict=True)
        )

    @names_what_can_not_be_read
    def check(self) -> list[str]:
        problems = size_problems(self.image_size, 64)
        missing = [name for name in LISTS if not (self.folder / name).is_file()]
        if not missing:
            folders = [f"train/{i}/images" for i in self.ids]
            missing = [name for name in folders if not (self.folder / name).is_dir()]
        if missing:
            others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            problems.append(
                f"dataset.root={self.root}: {self.folder} lacks {missing[0]}{others}; unpack"
                f" http://cs231n.stanford.edu/{FOLDER}.zip into {self.root}, or type"
                f" dataset.root=/path for a folder which holds {FOLDER}"
            )
        return problems

    @names_what_can_not_be_read
    def fingerprint(self) -> str:
        """sha256 over the bytes of every file, its label and its part of the split."""
        digest = hashlib.sha256(repr((self.image_size, self.class_names)).encode())
        for part, files in zip(("train", "test"), self._files(), strict=True):
            for path, label in files:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{part} {label} {content}\n".encode())
        return digest.hexdigest()

    @names_what_can_not_be_read
    def load(self) -> ImageData:
        train, test = self._files()
        return ImageData(self._image_set(train), self._image_set(test), self.class_names)

    def _files(self) -> tuple[Files, Files]:
        """Training and test files, by class and by name; in the order of the annotations."""
        if problems := self.check():
            raise UsageError(problems)
        train = []
        for label, i in enumerate(self.ids):
            paths = sorted((self.folder / "train" / i / "images").glob("*.JPEG"))
            train += [(path, label) for path in paths]
        lines = (self.folder / "val" / "val_annotations.txt").read_text().splitlines()
        return train, [self._annotated(line) for line in lines if line.strip()]

    def _annotated(self, line: str) -> tuple[Path, int]:
        """Of `val_0.JPEG<tab>n03444034<tab>0<tab>32<tab>44<tab>62`; the last four are a box."""
        name, identity = (*line.split("\t"), "")[:2]
        if identity not in self.ids:
            raise UsageError(
                f"{self.folder / LISTS[2]}: the line {line!r} names no class of wnids.txt; replace"
                " the file"
            )
        return self.folder / "val" / "images" / name, self.ids.index(identity)

    def _image_set(self, files: Files) -> ImageSet:
        size = self.image_size
        # 1.2 GB: not held twice
        images: np.ndarray = np.empty((len(files), 3, size, size), dtype=np.uint8)
        with ThreadPoolExecutor() as pool:  # PIL decodes and resizes outside the interpreter lock
            for row, image in enumerate(pool.map(self._decode, [path for path, _ in files])):
                images[row] = image
        return ImageSet(torch.from_numpy(images), torch.tensor([label for _, label in files]))

    def _decode(self, path: Path) -> np.ndarray:
        """uint8 (3, image_size, image_size); a few of the files are grey."""
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except Exception as error:  # broken files raise almost anything in PIL
            raise UsageError(f"{path} cannot be decoded ({error}); replace it") from error
        if image.size != (self.image_size, self.image_size):
            image = image.resize((self.image_size, self.image_size), Image.Resampling.BICUBIC)
        return np.asarray(image).transpose(2, 0, 1)
