"""Your own images: a folder with one sub-folder of image files per class.

    root/cat/1.png, root/dog/a.jpg, ...               split here: every class gives test_fraction of its images
    root/train/cat/1.png, root/test/cat/2.png, ...    your split, used when both folders exist

Labels count the sub-folders in alphabetical order, as torchvision's ImageFolder does (so "10" comes before "2").
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from unrelearn.data import ImageData, ImageSet
from unrelearn.errors import UsageError

GIVE_ROOT = "type dataset.root=/path for a folder with one sub-folder of images per class"


class Folder:
    """Images uint8 (N, C, image_size, image_size) in [0, 255], C = 1 if grayscale else 3.

    Args:
        root: the folder of the class folders. Hidden files (names with a leading dot) are ignored.
        image_size: height and width in pixels: centre crop to a square, resized (bicubic, antialiased).
        grayscale: one channel instead of three.
        test_fraction: share of each class's images that become test images, in (0, 1); at least one on either side.
            Not used with root/train and root/test.
        horizontal_flip: mirror training images at random.
    """

    def __init__(self, root: str, image_size: int, grayscale: bool = False, test_fraction: float = 0.2,
                 horizontal_flip: bool = False):
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.grayscale = grayscale
        self.test_fraction = test_fraction
        self.horizontal_flip = horizontal_flip
        self.channels = 1 if grayscale else 3

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(path.name for path in _visible(self._tops()[0]) if path.is_dir())

    def check(self) -> list[str]:
        problems = []
        if not isinstance(self.image_size, int) or self.image_size < 1:
            problems.append(f"dataset.image_size={self.image_size}: must be a positive number of pixels; "
                            "type dataset.image_size=64")
        if not isinstance(self.test_fraction, float) or not 0 < self.test_fraction < 1:
            problems.append(f"dataset.test_fraction={self.test_fraction}: must lie between 0 and 1; "
                            "type dataset.test_fraction=0.2")
        if not self.root.is_dir():
            return [*problems, f"dataset.root={self.root}: no such folder; {GIVE_ROOT}"]
        if len(self.class_names) < 2:
            problems.append(f"dataset.root={self.root}: {len(self.class_names)} class sub-folders, at least 2 needed; "
                            f"{GIVE_ROOT}")
        for top in self._tops():
            unknown = {path.name for path in _visible(top) if path.is_dir()} - set(self.class_names)
            problems += [f"dataset.root={self.root}: {top / name} is a class that {self._tops()[0]} lacks; "
                         "remove it or add training images" for name in sorted(unknown)]
            for name in self.class_names:
                problems += self._check_class(top / name)
        return problems

    def _check_class(self, folder: Path) -> list[str]:
        paths = _visible(folder)
        needed = 1 if len(self._tops()) == 2 else 2
        if len(paths) < needed:
            return [f"dataset.root={self.root}: {folder} holds {len(paths)} images, at least {needed} needed "
                    "(train and test); add images or remove the folder"]
        bad = [(path, reason) for path in paths if (reason := _why_unreadable(path))]
        if not bad:
            return []
        path, reason = bad[0]
        others = f" (and {len(bad) - 1} more in this folder)" if len(bad) > 1 else ""
        return [f"dataset.root={self.root}: {path} {reason}{others}; remove or convert it"]

    def fingerprint(self) -> str:
        """sha256 over every file's bytes, class and part of the split; where the folder lies does not matter."""
        digest = hashlib.sha256(repr((self.image_size, self.grayscale, self.class_names)).encode())
        for part, files in zip(("train", "test"), self._files(), strict=True):
            for path, label in files:
                digest.update(f"{part} {label} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()

    def load(self) -> ImageData:
        train, test = self._files()
        return ImageData(self._image_set(train), self._image_set(test), self.class_names)

    def _tops(self) -> list[Path]:
        """The folders that hold class folders: train and test, or the root alone."""
        own_split = [self.root / "train", self.root / "test"]
        return own_split if all(path.is_dir() for path in own_split) else [self.root]

    def _files(self) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
        """Training and test files with their labels; depends on names only, so a copy is split alike."""
        if problems := self.check():
            raise UsageError(problems)
        train, test = [], []
        for label, name in enumerate(self.class_names):
            parts = [_visible(top / name) for top in self._tops()]
            if len(parts) == 1:
                paths = np.random.RandomState(0).permutation(np.array(parts[0], dtype=object))
                n_test = min(max(1, round(self.test_fraction * len(paths))), len(paths) - 1)
                parts = [sorted(paths[n_test:]), sorted(paths[:n_test])]
            train += [(path, label) for path in parts[0]]
            test += [(path, label) for path in parts[1]]
        return train, test

    def _image_set(self, files: list[tuple[Path, int]]) -> ImageSet:
        with ThreadPoolExecutor() as pool:  # PIL decodes and resizes outside the interpreter lock
            images = np.stack(list(pool.map(self._decode, [path for path, _ in files])))
        images = np.ascontiguousarray(images)  # stack keeps PIL's channels-last order in memory
        return ImageSet(torch.from_numpy(images), torch.tensor([label for _, label in files]))

    def _decode(self, path: Path) -> np.ndarray:
        """uint8 (C, image_size, image_size)."""
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file).convert("L" if self.grayscale else "RGB")
        except Exception as error:  # broken files raise almost anything in PIL
            raise UsageError(f"dataset.root={self.root}: {path} cannot be decoded ({error}); remove it") from error
        image = ImageOps.fit(image, (self.image_size, self.image_size), method=Image.Resampling.BICUBIC)
        return np.asarray(image).reshape(self.image_size, self.image_size, self.channels).transpose(2, 0, 1)


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden files; [] if there is no such folder."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _why_unreadable(path: Path) -> str | None:
    """Reads the header only; None if all is well."""
    try:
        with Image.open(path) as image:
            deep = image.mode.startswith(("I", "F"))  # PIL would clip these to 8 bits: white images, silently
            return "has more than 8 bits per channel" if deep else None
    except Exception:  # broken files raise almost anything in PIL
        return "is not an image file"
