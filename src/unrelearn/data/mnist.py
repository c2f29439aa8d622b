"""MNIST: 70,000 handwritten digits, 28x28 (LeCun, Bottou, Bengio and Haffner, Proc. IEEE 1998).

Reads the four published idx files, compressed or not. The checksums are those of the published
files.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from unrelearn.data import ImageData, ImageSet, idx, names_what_can_not_be_read, size_problems
from unrelearn.data.download import fetch
from unrelearn.errors import UsageError
from unrelearn.ranges import ImageSize


class MNIST:
    """60,000 training and 10,000 test images, uint8 (N, 1, image_size, image_size) in [0, 255].

    Args:
        root: the four idx files are looked for in root/MNIST/raw, then in root itself.
        image_size: height and width in pixels; other than 28 means resized (bicubic, antialiased).
        download: whether load() may fetch files that are missing.
        verify: whether the files must be the published ones. False is for your own files in the
            same layout.
    """

    folder = "MNIST"
    channels = 1
    horizontal_flip = False
    class_names: tuple[str, ...] = tuple("0123456789")
    mirrors: tuple[str, ...] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    # name: (md5 of the published .gz, md5 of what is in it)
    files: ClassVar = {
        "train-images-idx3-ubyte": (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "6bbc9ace898e44ae57da46a324031adb",
        ),
        "train-labels-idx1-ubyte": (
            "d53e105ee54ea40749a09fcbcd1e9432",
            "a25bea736e30d166cdddb491f175f624",
        ),
        "t10k-images-idx3-ubyte": (
            "9fb629c4189551a2d022fa330f9573f3",
            "2646ac647ad5339dbf082846283269ea",
        ),
        "t10k-labels-idx1-ubyte": (
            "ec29112dd5afa0611ce80d1b7f02629c",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    }

    def __init__(
        self, root: str, image_size: ImageSize = 28, download: bool = True, verify: bool = True
    ):
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.download = download
        self.verify = verify

    @names_what_can_not_be_read
    def check(self) -> list[str]:
        problems = size_problems(self.image_size, 28)
        if not self.download and self._missing():
            problems.append(self._how_to_get())
        return problems

    @names_what_can_not_be_read
    def fingerprint(self) -> str:
        if self.verify:
            # load() accepts nothing but the published files
            return f"{self.folder.lower()}-{self.image_size}"
        return self.load().digest()

    @names_what_can_not_be_read
    def load(self) -> ImageData:
        for name in self._missing():
            if not self.download:
                raise UsageError(self._how_to_get())
            try:
                fetch(
                    [f"{mirror}{name}.gz" for mirror in self.mirrors],
                    f"md5:{self.files[name][0]}",
                    self.root / self.folder / "raw" / f"{name}.gz",
                )
            except UsageError as error:
                raise UsageError(f"{self._how_to_get()} ({error})") from error
        return ImageData(self._image_set("train"), self._image_set("t10k"), self.class_names)

    def _find(self, name: str) -> Path | None:
        folders = (self.root / self.folder / "raw", self.root)
        paths = [folder / file for folder in folders for file in (name, f"{name}.gz")]
        return next((path for path in paths if path.is_file()), None)

    def _missing(self) -> list[str]:
        return [name for name in self.files if self._find(name) is None]

    def _how_to_get(self) -> str:
        return (
            f"dataset.root={self.root}: missing {', '.join(self._missing())}; put them (plain or"
            f" .gz) into {self.root / self.folder / 'raw'}, or type dataset.root=/path for a folder"
            " which holds them" + ("" if self.download else ", or dataset.download=true")
        )

    def _image_set(self, part: str) -> ImageSet:
        images, labels = (
            self._read(f"{part}-{name}") for name in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        if (
            images.ndim != 3
            or labels.shape != images.shape[:1]
            or labels.max(initial=0) >= len(self.class_names)
        ):
            raise UsageError(
                f"dataset.root={self.root}: {part} images {images.shape} and labels {labels.shape}"
                " do not belong together; there must be one label in"
                f" 0..{len(self.class_names) - 1} per image"
            )
        if images.shape[1:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            images = np.stack(
                [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in images]
            )
        return ImageSet(torch.tensor(images).unsqueeze(1), torch.tensor(labels, dtype=torch.int64))

    def _read(self, name: str) -> np.ndarray:
        path = self._find(name)
        if path is None:
            raise UsageError(self._how_to_get())
        return idx.read(path, md5=self.files[name][1] if self.verify else None)
