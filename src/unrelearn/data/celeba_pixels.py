"""The photographs of CelebA as pixels on disk."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from unrelearn.data import size_problems

CHUNK = 1024  # images in memory at a time


@dataclass(frozen=True)
class Square:
    """What is cut from an image.

    Args:
        crop: side in pixels of the square in the middle.
        size: its side after it was resized (bicubic, antialiased).
        whole: width and height in pixels of every image.
    """

    crop: int
    size: int
    whole: tuple[int, int] = (178, 218)

    def check(self) -> list[str]:
        problems = size_problems(self.size, 64)
        width, height = self.whole
        if not isinstance(self.crop, int) or not 1 <= self.crop <= width:
            problems.append(
                f"dataset.crop={self.crop}: must be 1 to {width} pixels, the images are"
                f" {width}x{height}; type dataset.crop={width}"
            )
        return problems

    def write(
        self, paths: list[Path], file: Path, progress: Callable[[int], None]
    ) -> dict[int, str]:
        """Decode images into one uint8 array (N, 3, size, size) on disk; a broken one is black.

        The array is written rather than mapped: the memory stays that of one chunk, and a full
        disk is an error instead of a crash.

        Returns:
            Position of each broken image -> what is wrong with it.
        """
        broken: dict[int, str] = {}
        shape = (3, self.size, self.size)
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *shape)}
        with open(file, "wb") as out, ThreadPoolExecutor() as pool:  # PIL works outside the lock
            np.lib.format.write_array_header_1_0(out, header)
            for start in range(0, len(paths), CHUNK):
                part = paths[start : start + CHUNK]
                chunk: np.ndarray = np.zeros((len(part), *shape), dtype=np.uint8)
                reasons = enumerate(pool.map(self.read, part, chunk), start)
                broken |= {place: reason for place, reason in reasons if reason}
                out.write(chunk.data)
                progress(len(chunk))
        return broken

    def read(self, path: Path, out: np.ndarray) -> str | None:
        """Fill out, uint8 (3, size, size); or say why not."""
        width, height = self.whole
        left, top = (width - self.crop) // 2, (height - self.crop) // 2
        try:
            with Image.open(path) as file:
                if file.size != self.whole:
                    return f"is {file.width}x{file.height} instead of {width}x{height}"
                image = file.convert("RGB").crop((left, top, left + self.crop, top + self.crop))
        except Exception as error:  # broken files raise almost anything in PIL
            return f"can not be decoded ({error})"
        resized = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        out[:] = np.asarray(resized).transpose(2, 0, 1)
        return None
