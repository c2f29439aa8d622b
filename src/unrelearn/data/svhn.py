"""SVHN: 99,289 colour photographs of house numbers, cropped to one digit each, 32x32 (Netzer et al.
2011, "Reading Digits in Natural Images with Unsupervised Feature Learning").

Reads train_32x32.mat and test_32x32.mat; the 531,131 easier images of extra_32x32.mat are not used.
"""

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy.io import loadmat

from unrelearn.data import ImageData, ImageSet, names_what_can_not_be_read
from unrelearn.data.download import fetch
from unrelearn.errors import UsageError

URL = "http://ufldl.stanford.edu/housenumbers/"


class SVHN:
    """73,257 training and 26,032 test images, uint8 (N, 3, 32, 32) in [0, 255].

    Args:
        root: the two files are looked for in root/svhn, then in root itself.
        download: whether load() may fetch files that are missing.
        verify: whether the files must be the published ones. False is for your own files in the
            same layout.
    """

    image_size = 32
    channels = 3
    colours = (0.4377, 0.4438, 0.4728), (0.1201, 0.1231, 0.1052)  # as CIFAR10.colours
    horizontal_flip = False  # a mirrored digit is another sign
    class_names = tuple("0123456789")
    md5: ClassVar = {
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    }

    def __init__(self, root: str, download: bool = True, verify: bool = True):
        self.root = Path(root).expanduser()
        self.download = download
        self.verify = verify

    @names_what_can_not_be_read
    def check(self) -> list[str]:
        return [self._how_to_get()] if self._missing() and not self.download else []

    @names_what_can_not_be_read
    def fingerprint(self) -> str:
        return "svhn" if self.verify else self.load().digest()  # load() verifies

    @names_what_can_not_be_read
    def load(self) -> ImageData:
        train, test = (self._image_set(name) for name in self.md5)
        return ImageData(train, test, self.class_names)

    def _find(self, name: str) -> Path | None:
        paths = (self.root / "svhn" / name, self.root / name)
        return next((path for path in paths if path.is_file()), None)

    def _missing(self) -> list[str]:
        return [name for name in self.md5 if self._find(name) is None]

    def _fetched(self, name: str) -> Path:
        if not self.download:
            raise UsageError(self._how_to_get())
        path = self.root / "svhn" / name
        try:
            fetch([URL + name], f"md5:{self.md5[name]}", path)
        except UsageError as error:
            raise UsageError(f"{self._how_to_get()} ({error})") from error
        return path

    def _how_to_get(self) -> str:
        return (
            f"dataset.root={self.root}: missing {', '.join(self._missing())}; put them into"
            f" {self.root / 'svhn'}, or type dataset.root=/path for a folder which holds them"
            + ("" if self.download else ", or dataset.download=true")
        )

    def _image_set(self, name: str) -> ImageSet:
        path = self._find(name) or self._fetched(name)
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if self.verify and digest != self.md5[name]:
            raise UsageError(
                f"{path} has md5 {digest} where the published file has {self.md5[name]}:"
                " replace it, or type dataset.verify=false to use it as it is"
            )
        try:
            content = loadmat(path, variable_names=("X", "y"))
            images, labels = content["X"], content["y"].ravel()
        except Exception as error:  # broken files raise almost anything in scipy
            raise UsageError(f"{path} cannot be read ({error}): replace it") from error
        if (
            images.shape != (32, 32, 3, len(labels))
            or images.dtype != np.uint8
            or not np.isin(labels, range(1, 11)).all()
        ):
            raise UsageError(
                f"{path} does not hold bytes X (32, 32, 3, N) and y (N, 1) in 1..10, but"
                f" X {images.shape} and y {labels.shape}: replace it"
            )
        return ImageSet(
            torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1))),
            torch.from_numpy(labels.astype(np.int64) % 10),  # 10 stands for the digit 0
        )
