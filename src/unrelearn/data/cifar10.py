"""CIFAR-10: 60,000 colour photographs of 10 classes, 32x32 (Krizhevsky 2009, "Learning Multiple
Layers of Features").

Reads the python layout (cifar-10-batches-py), the binary one (cifar-10-batches-bin), or the
published archive of either. The decoded arrays are verified, not the files, so that every honest
way to obtain the data is accepted.
"""

import hashlib
import io
import pickle
import shlex
import tarfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from unrelearn.advice import typed
from unrelearn.data import ImageData, ImageSet, names_what_can_not_be_read
from unrelearn.data.download import fetch
from unrelearn.errors import UsageError
from unrelearn.ranges import ImageSize

TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CHECKSUM = "md5:c58f30108f718f92721af3b95e74349a"
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
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
        root: holds cifar-10-batches-py, cifar-10-batches-bin, cifar-10-python.tar.gz or
            cifar-10-binary.tar.gz.
        image_size: height and width in pixels; other than 32 means resized (bicubic, antialiased).
        download: whether load() may fetch the data when none of the four is there.
        verify: whether it must be the published data. False is for your own files in the same
            layout.
        classes: keep only these classes; their labels are 0, 1, ... in the order given here. None
            keeps all ten.
    """

    channels = 3
    horizontal_flip = True

    def __init__(
        self,
        root: str,
        image_size: ImageSize = 32,
        download: bool = True,
        verify: bool = True,
        classes: list[str] | None = None,
    ):
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.download = download
        self.verify = verify
        self.class_names = CLASS_NAMES if classes is None else tuple(classes)

    @names_what_can_not_be_read
    def check(self) -> list[str]:
        problems = []
        if not isinstance(self.image_size, int) or self.image_size < 1:
            problems.append(
                f"dataset.image_size={self.image_size}: must be a positive number of pixels; "
                "type dataset.image_size=32"
            )
        problems += self._check_classes()
        if not self.download and self.source() is None:
            problems.append(self._how_to_get())
        return problems

    def _check_classes(self) -> list[str]:
        known = list(dict.fromkeys(name for name in self.class_names if name in CLASS_NAMES))
        if len(known) >= 2 and len(known) == len(self.class_names):
            return []
        example = (known + [name for name in CLASS_NAMES if name not in known])[
            : max(2, len(known))
        ]
        return [
            f"dataset.classes=[{','.join(self.class_names)}]: must be at least two different names"
            f" of {', '.join(CLASS_NAMES)}; type {typed({'dataset.classes': example})}"
        ]

    @names_what_can_not_be_read
    def fingerprint(self) -> str:
        subset = "" if self.class_names == CLASS_NAMES else "-".join(("", *self.class_names))
        if self.verify:
            return (  # load() accepts nothing but the published data
                f"cifar10-{self.image_size}{subset}"
            )
        data = self.load()
        digest = hashlib.sha256(subset.encode())
        for part in (data.train, data.test):
            digest.update(repr(tuple(part.images.shape)).encode() + part.images.numpy().tobytes())
            digest.update(part.labels.numpy().tobytes())
        return digest.hexdigest()

    def _fetched(self) -> Path:
        if not self.download:
            raise UsageError(self._how_to_get())
        archive = self.root / "cifar-10-python.tar.gz"
        try:
            fetch([URL], CHECKSUM, archive)
        except UsageError as error:
            raise UsageError(f"{self._how_to_get()} ({error})") from error
        return archive

    @names_what_can_not_be_read
    def load(self) -> ImageData:
        if problems := self._check_classes():
            raise UsageError(problems)
        source = self.source() or self._fetched()
        batches = _read_archive(source) if source.is_file() else _read_folder(source)
        return ImageData(
            self._image_set("train", [batches[name] for name in TRAIN_BATCHES], source),
            self._image_set("test", [batches[name] for name in TEST_BATCHES], source),
            self.class_names,
        )

    def source(self) -> Path | None:
        """The folder or archive that load() reads, the first complete one; None if there is
        none.
        """
        for name in ("cifar-10-batches-py", "cifar-10-batches-bin"):
            if all((self.root / name / file).is_file() for file in _file_names(name)):
                return self.root / name
        archives = (self.root / "cifar-10-python.tar.gz", self.root / "cifar-10-binary.tar.gz")
        return next((archive for archive in archives if archive.is_file()), None)

    def _how_to_get(self) -> str:
        return (
            f"dataset.root={self.root}: no CIFAR-10 there; type {self._fetch_command()}, or put"
            " cifar-10-python.tar.gz, or the folder cifar-10-batches-py or cifar-10-batches-bin"
            f" with all six batches, into {self.root}, or type dataset.root=/path for a folder"
            " which holds it" + ("" if self.download else ", or dataset.download=true")
        )

    def _fetch_command(self) -> str:
        return f"python scripts/fetch_data.py cifar10 --root {shlex.quote(str(self.root))}"

    def _image_set(
        self, part: str, batches: list[tuple[np.ndarray, np.ndarray]], source: Path
    ) -> ImageSet:
        images = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([labels for _, labels in batches])
        if self.verify and (_sha256(images.transpose(0, 2, 3, 1)), _sha256(labels)) != SHA256[part]:
            raise UsageError(
                f"dataset.root={self.root}: the {part} images or labels in {source} are not the"
                f" published CIFAR-10; delete it and type {self._fetch_command()}, or type"
                " dataset.verify=false to use it as it is"
            )
        if self.class_names != CLASS_NAMES:
            chosen = np.array([CLASS_NAMES.index(name) for name in self.class_names])
            kept = np.isin(labels, chosen)
            images, labels = images[kept], (labels[kept, None] == chosen).argmax(axis=1)
        if self.image_size != 32:
            size = (self.image_size, self.image_size)
            resized = [
                Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
                for image in images.transpose(0, 2, 3, 1)
            ]
            images = np.stack(resized).transpose(0, 3, 1, 2)
        return ImageSet(
            torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels).long()
        )


def _file_names(folder: str) -> list[str]:
    return [
        name + (".bin" if folder.endswith("-bin") else "") for name in TRAIN_BATCHES + TEST_BATCHES
    ]


def _read_folder(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Batch name -> images uint8 (N, 3072), labels uint8 (N,)."""
    return dict(
        _decode(folder / name, (folder / name).read_bytes()) for name in _file_names(folder.name)
    )


def _read_archive(archive: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same, straight from the archive: nothing is unpacked, so nothing can be half unpacked."""
    folder = "cifar-10-batches-bin" if "binary" in archive.name else "cifar-10-batches-py"
    wanted = {f"{folder}/{name}" for name in _file_names(folder)}
    try:
        with tarfile.open(archive) as tar:
            members = [(member.name, tar.extractfile(member)) for member in tar]
            files = {name: file.read() for name, file in members if file and name in wanted}
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UsageError(
            f"{archive} cannot be read ({error}): delete it and fetch it again"
        ) from error
    if missing := wanted - files.keys():
        raise UsageError(
            f"{archive} lacks {', '.join(sorted(missing))}: delete it and fetch it again"
        )
    return dict(_decode(archive / name, raw) for name, raw in files.items())


def _decode(path: Path, raw: bytes) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    images, labels = (
        _decode_binary(path, raw) if path.suffix == ".bin" else _decode_pickle(path, raw)
    )
    if (
        images.ndim != 2
        or images.shape[1] != 3072
        or labels.shape != images.shape[:1]
        or labels.max(initial=0) > 9
    ):
        raise UsageError(
            f"{path} holds no CIFAR-10 batch (images {images.shape}, labels {labels.shape}):"
            " replace it"
        )
    return path.stem, (images, labels)


def _decode_binary(path: Path, raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte and 3072 channel-first image bytes."""
    if len(raw) % 3073:
        raise UsageError(
            f"{path} holds {len(raw)} bytes, which is no multiple of 3073: it is truncated;"
            " replace it"
        )
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3073)
    return records[:, 1:], records[:, 0].copy()


def _decode_pickle(path: Path, raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A dict with `data` uint8 (N, 3072), channel first, and `labels`, a list of ints, as Python 2
    pickled it.
    """
    try:
        batch = _ArrayUnpickler(io.BytesIO(raw), encoding="latin1").load()
        images, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
        if images.dtype != np.uint8 or (labels != labels.astype(np.uint8)).any():
            raise ValueError("data or labels are not bytes")
    except Exception as error:  # damaged pickle bytes can raise almost anything
        raise UsageError(f"{path} is refused as a CIFAR-10 batch ({error}): replace it") from error
    return images, labels.astype(np.uint8)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays, numbers, strings, lists and dicts; a plain pickle.load would run whatever
    code a file names.
    """

    # numpy 2 moved _reconstruct to numpy._core; asking an array for it works with every version.
    reconstruct = np.empty(0).__reduce__()[0]
    allowed: ClassVar = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no CIFAR-10 batch needs"
            )
        return self.allowed[module, name]


def _sha256(array: np.ndarray) -> str:
    digest = hashlib.sha256()
    for (
        row
    ) in array:  # bytes in order, a row at a time: a copy of all of them would double the memory
        digest.update(row.tobytes())
    return digest.hexdigest()
