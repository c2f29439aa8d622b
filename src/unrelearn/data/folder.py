"""Your own images: a folder with one sub-folder of image files per class.

    root/cat/1.png, root/dog/a.jpg, ...               split here: every class gives test_fraction of
                                                      its images
    root/train/cat/1.png, root/test/cat/2.png, ...    your split: train, and the first of test, val,
                                                      valid,
                                                      validation that holds classes of train

Labels count the sub-folders in alphabetical order, as torchvision's ImageFolder does (so "10" comes
before "2").
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from unrelearn.advice import typed
from unrelearn.data import (
    ImageData,
    ImageSet,
    names_what_can_not_be_read,
    size_problems,
    unreadable,
)
from unrelearn.errors import UsageError, one_line
from unrelearn.ranges import ImageSize, Share

GIVE_ROOT = "type dataset.root=/path for a folder with one sub-folder of images per class"
TEST_NAMES = ("test", "val", "valid", "validation")  # beside train; in any case of letters
BACKGROUNDS = ("white", "black", "grey")


class Folder:
    """Images uint8 (N, C, image_size, image_size) in [0, 255], C = 1 if grayscale else 3.

    Args:
        root: the folder of the class folders. Hidden files (names with a leading dot) are ignored.
        image_size: height and width in pixels: centre crop to a square, resized (bicubic,
            antialiased).
        grayscale: one channel instead of three.
        test_fraction: share of each class's images that become test images, in (0, 1); at least one
            on either side. Not used with a split of your own.
        horizontal_flip: mirror training images at random.
        background: the ground that transparent images are laid on.
    """

    def __init__(
        self,
        root: str,
        image_size: ImageSize,
        grayscale: bool = False,
        test_fraction: Share = 0.2,
        horizontal_flip: bool = False,
        background: Literal["white", "black", "grey"] = "white",
    ):
        # Path.expanduser raises where there is no such user
        self.root = Path(os.path.expanduser(root))
        self.image_size = image_size
        self.grayscale = grayscale
        self.test_fraction = test_fraction
        self.horizontal_flip = horizontal_flip
        self.background = background
        self.channels = 1 if grayscale else 3

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.folders

    @property
    @names_what_can_not_be_read
    def folders(self) -> tuple[str, ...]:
        """The names of the folders of the classes, in the order of labels."""
        if self._check_layout():  # what lies there are no classes
            return ()
        return tuple(path.name for path in _folders(self._tops()[0]))

    def check(self) -> list[str]:
        problems = _check_settings(self)
        try:
            problems += self._check_layout() or self._check_classes()
        except OSError as error:
            problems.append(unreadable(self.root, error))
        return [one_line(problem) for problem in problems]

    def _check_layout(self) -> list[str]:
        """What is wrong with the folders above the classes, in one line: whatever follows from it
        is not said.
        """
        if not self.root.is_dir():
            return [
                f"dataset.root={self.root}:"
                f" {'is a file' if self.root.is_file() else 'no such folder'}; {GIVE_ROOT}"
            ]
        tops, folders = self._tops(), _folders(self.root)
        train = _called(folders, "train")
        if len(tops) == 1 and train and _holds_folders_only(train):
            others = [path for name in TEST_NAMES if (path := _called(folders, name))]
            missing = (
                f"{others[0]} holds no folder of the same name"
                if others
                else f"there is no folder {', '.join(TEST_NAMES)} beside it"
            )
            classes = ", ".join(path.name for path in _folders(train)[:3])
            return [
                f"dataset.root={self.root}: {train} holds folders ({classes}, ...), and {missing}; "
                f"add the test images in such folders, or {_type_root(train)} to split those"
            ]
        if len(tops) == 1 and len(folders) == 1 and _holds_folders_only(folders[0]):
            return [
                f"dataset.root={self.root}: holds the one folder {folders[0]}, which holds folders"
                f" itself; {_type_root(folders[0])}"
            ]
        return []

    def _check_classes(self) -> list[str]:
        problems, tops = [], self._tops()
        names = [path.name for path in _folders(tops[0])]
        if len(names) < 2:
            problems.append(
                f"dataset.root={self.root}: {len(names)} class sub-folders, at least 2 needed;"
                f" {GIVE_ROOT}"
            )
        for top in tops:
            unknown = {path.name for path in _folders(top)} - set(names)
            problems += [
                f"dataset.root={self.root}: {top / name} is a class that {tops[0]} lacks; "
                "remove it or add training images"
                for name in sorted(unknown)
            ]
            problems += [
                f"dataset.root={self.root}: {path} is a broken link; remove it or link it anew"
                for path in _visible(top)
                if path.is_symlink() and not path.exists()
            ]
            for name in names:
                try:
                    problems += self._check_class(top / name, needed=1 if len(tops) == 2 else 2)
                except OSError as error:
                    problems.append(unreadable(self.root, error))
        return problems

    def _check_class(self, folder: Path, needed: int) -> list[str]:
        paths = _visible(folder)
        if len(paths) < needed:
            return [
                f"dataset.root={self.root}: {folder} holds {len(paths)} images, at least {needed}"
                " needed (train and test); add images or remove the folder"
            ]
        faults: dict[tuple[str, str], list[Path]] = {}
        for path in paths:
            if fault := _fault(path):
                faults.setdefault(fault, []).append(path)
        problems = []
        for (what, remedy), bad in faults.items():
            others = f" (and {len(bad) - 1} more in this folder)" if len(bad) > 1 else ""
            problems.append(f"dataset.root={self.root}: {bad[0]} {what}{others}; {remedy}")
        return problems

    @names_what_can_not_be_read
    def fingerprint(self) -> str:
        """sha256 over every file's bytes, class and part of the split; where the folder lies does
        not matter.
        """
        settings = (self.image_size, self.grayscale, self.background, self.class_names)
        digest = hashlib.sha256(repr(settings).encode())
        for part, files in zip(("train", "test"), self._files(), strict=True):
            for path, label in files:
                digest.update(
                    f"{part} {label} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
                )
        return digest.hexdigest()

    @names_what_can_not_be_read
    def load(self) -> ImageData:
        train, test = self._files()
        return ImageData(self._image_set(train), self._image_set(test), self.class_names)

    def _tops(self) -> list[Path]:
        """The folders that hold class folders: train and test (or val, ...), or the root alone."""
        folders = _folders(self.root)
        train = _called(folders, "train")
        classes = {path.name for path in _folders(train)} if train else set()
        for name in TEST_NAMES:
            test = _called(folders, name)
            if train and test and classes & {path.name for path in _folders(test)}:
                return [train, test]
        return [self.root]

    def _files(self) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
        """Training and test files with their labels; depends on names only, so a copy is split
        alike.
        """
        if problems := self.check():
            raise UsageError(problems)
        train, test, tops = [], [], self._tops()
        for label, name in enumerate(self.folders):
            parts = [_visible(top / name) for top in tops]
            if len(parts) == 1:
                paths = np.random.RandomState(0).permutation(np.array(parts[0], dtype=object))
                n_test = min(max(1, round(self.test_fraction * len(paths))), len(paths) - 1)
                parts = [sorted(paths[n_test:]), sorted(paths[:n_test])]
            train += [(path, label) for path in parts[0]]
            test += [(path, label) for path in parts[1]]
        return train, test

    def _decode(self, path: Path) -> np.ndarray:
        """uint8 (C, image_size, image_size)."""
        try:
            with Image.open(path) as file:
                image = opaque(ImageOps.exif_transpose(file), self.background)
                image = image.convert("L" if self.grayscale else "RGB")
        except Exception as error:  # broken files raise almost anything in PIL
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise UsageError(
                f"dataset.root={self.root}: {path} cannot be decoded ({error}); remove it"
            ) from error
        size = (self.image_size, self.image_size)
        image = ImageOps.fit(image, size, method=Image.Resampling.BICUBIC)
        return np.asarray(image).reshape(*size, self.channels).transpose(2, 0, 1)

    def _image_set(self, files: list[tuple[Path, int]]) -> ImageSet:
        with ThreadPoolExecutor() as pool:  # PIL decodes and resizes outside the interpreter lock
            images = np.stack(list(pool.map(self._decode, [path for path, _ in files])))
        images = np.ascontiguousarray(images)  # stack keeps PIL's channels-last order in memory
        return ImageSet(torch.from_numpy(images), torch.tensor([label for _, label in files]))


def _check_settings(data: Folder) -> list[str]:
    problems = size_problems(data.image_size, 64)
    if not isinstance(data.test_fraction, float) or not 0 < data.test_fraction < 1:
        problems.append(
            f"dataset.test_fraction={data.test_fraction}: must lie between 0 and 1; "
            "type dataset.test_fraction=0.2"
        )
    if data.background not in BACKGROUNDS:
        problems.append(
            f"dataset.background={data.background}: must be one of {', '.join(BACKGROUNDS)}; "
            "type dataset.background=white"
        )
    return problems


def opaque(image: Image.Image, background: str) -> Image.Image:
    """An image of any mode as "L" or "RGB", as a viewer shows it on the background.

    Without a ground, convert() shows the colours that lie hidden under transparent pixels. Colour
    profiles are not applied, as in torchvision.
    """
    if image.has_transparency_data:  # alpha, or a transparent entry of a palette, grey or colour
        ground = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    if image.mode == "LAB":
        return image.convert("RGB")  # PIL knows no way from there to grey
    return image


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden files; [] if there is no such folder."""
    return (
        sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if folder.is_dir()
        else []
    )


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _called(folders: list[Path], name: str) -> Path | None:
    return next((path for path in folders if path.name.lower() == name), None)


def _holds_folders_only(folder: Path) -> bool:
    inside = _visible(folder)
    return bool(inside) and all(path.is_dir() for path in inside)


def _type_root(folder: Path) -> str:
    return f"type {typed({'dataset.root': str(folder)})}"


def _fault(path: Path) -> tuple[str, str] | None:
    """What is wrong with a file among the images of a class, and what to do; None if all is well.

    Only its header is read.
    """
    try:
        if path.is_dir():
            return "is a folder", "move its images up into the folder of their class, or remove it"
        if path.is_symlink() and not path.exists():
            return "is a broken link", "remove it or link it anew"
        if not path.is_file():
            return "is no file but a device, pipe or socket", "remove it"
        if path.stat().st_size == 0:
            return "is empty", "remove it or copy it anew"
        with Image.open(path) as image:
            # PIL would clip these to 8 bits: white images, silently
            if image.mode.startswith(("I", "F")):
                return "has more than 8 bits per channel", "remove or convert it"
    except Image.DecompressionBombError:
        return (
            f"is too large, with more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels",
            "make it smaller or remove it",
        )
    except Exception as error:  # broken files raise almost anything in PIL
        if (
            isinstance(error, OSError)
            and not isinstance(error, UnidentifiedImageError)
            and error.strerror
        ):
            return f"can not be read ({error.strerror})", "make it readable or remove it"
        return "is not an image file", "remove or convert it"
    return None
