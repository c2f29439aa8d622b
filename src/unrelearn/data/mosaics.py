"""Labelled images of 32x32 pixels in a few lossless WebP files, for computers without a network.

A file is one picture of 128 images a row, and below them a row of pixels, or more, whose grey
values are the labels, 255 where there is none: what can be lost or mixed up separately is not.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from unrelearn.errors import UsageError

SIDE, COLUMNS = 32, 128
WIDTH = SIDE * COLUMNS
NO_LABEL = 255
BYTES = 1800  # of one photograph of CIFAR-10, and a little more
NAME = re.compile(r"(\w+)-(\d+)-of-(\d+)\.webp")
Labelled = tuple[np.ndarray, np.ndarray]  # images uint8 (N, 3072) channel first, labels uint8 (N,)


def write(folder: Path, part: str, images: np.ndarray, labels: np.ndarray, largest: int) -> None:
    """PART-1-of-2.webp and so on, of about equally many images.

    Args:
        images: uint8 (N, 3072), channel first. labels: uint8 (N,) below 255.
        largest: bytes of a file.
    Raises:
        UsageError: a file is larger.
    """
    count = -(-len(images) * BYTES // largest)
    pieces = zip(np.array_split(images, count), np.array_split(labels, count), strict=True)
    for number, piece in enumerate(pieces, start=1):
        path = folder / f"{part}-{number}-of-{count}.webp"
        Image.fromarray(_mosaic(*piece)).save(path, lossless=True, method=3, quality=50)
        if path.stat().st_size > largest:
            raise UsageError(
                f"--max-mib {largest / 2**20:.3g}: {path.name} takes"
                f" {path.stat().st_size / 2**20:.3g} MiB. Type a larger number"
            )


def files(folder: Path, part: str) -> list[Path]:
    """All of them in their order; none where one is missing."""
    paths = {}
    for path in folder.glob(f"{part}-*.webp"):
        if match := NAME.fullmatch(path.name):
            paths[int(match[3]), int(match[2])] = path
    for count in {count for count, _ in paths}:
        wanted = [(count, number) for number in range(1, count + 1)]
        if all(key in paths for key in wanted):
            return [paths[key] for key in wanted]
    return []


def read(folder: Path, part: str) -> Labelled:
    """What was written.

    Raises:
        UsageError: a file is no such picture.
    """
    pieces = [_labelled(path) for path in files(folder, part)]
    images, labels = zip(*pieces, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _mosaic(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """uint8 (H, 4096, 3)."""
    rows, lines = -(-len(images) // COLUMNS), -(-len(labels) // WIDTH)
    tiles: np.ndarray = np.zeros((rows * COLUMNS, 3, SIDE, SIDE), np.uint8)
    tiles[: len(images)] = images.reshape(-1, 3, SIDE, SIDE)
    grid = tiles.reshape(rows, COLUMNS, 3, SIDE, SIDE).transpose(0, 3, 1, 4, 2)
    below: np.ndarray = np.full(lines * WIDTH, NO_LABEL, np.uint8)
    below[: len(labels)] = labels
    grey = np.repeat(below.reshape(lines, WIDTH, 1), 3, axis=2)
    return np.concatenate([grid.reshape(rows * SIDE, WIDTH, 3), grey])


def _labelled(path: Path) -> Labelled:
    try:
        picture = np.asarray(Image.open(path).convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UsageError(f"{path} cannot be read ({error}): replace it") from error
    rows = len(picture) // SIDE
    below = picture[rows * SIDE :, :, 0].ravel()
    labels = below[below != NO_LABEL]
    if picture.shape[1] != WIDTH or not rows or not 0 <= rows * COLUMNS - len(labels) < COLUMNS:
        raise UsageError(f"{path} of {picture.shape[1]}x{len(picture)} is no mosaic: replace it")
    grid = picture[: rows * SIDE].reshape(rows, SIDE, COLUMNS, SIDE, 3)
    return grid.transpose(0, 2, 4, 1, 3).reshape(-1, 3 * SIDE**2)[: len(labels)], labels
