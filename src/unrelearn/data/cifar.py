"""Reader of the files of CIFAR-10 and CIFAR-100 (Krizhevsky 2009, "Learning Multiple Layers of
Features"): pickled dicts of Python 2, or records of bytes, in a folder or in the published archive;
or mosaics of ours.
"""

import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from unrelearn.data import mosaics
from unrelearn.errors import UsageError

PIXELS = 3 * 32 * 32
PARTS = ("train", "test")
Batch = tuple[np.ndarray, np.ndarray]  # images uint8 (N, 3072), labels uint8 (N,)


@dataclass(frozen=True)
class Layout:
    """How one of the two is laid out; its archives bear the names of its folders."""

    title: str
    python: str  # folder of the pickled batches
    binary: str  # folder of the batches of bytes, which end in .bin
    archives: tuple[str, str]  # of the python folder, of the binary one
    packed: str  # folder of mosaics
    train: tuple[str, ...]  # names of the batches
    test: tuple[str, ...]
    label: str  # what a pickled batch calls its labels
    label_bytes: int  # before the pixels of a record; the last one counts
    num_classes: int

    def source(self, root: Path) -> Path | None:
        """The folder or archive below root that is read, the first complete one; None if there is
        none.
        """
        for folder in (root / self.python, root / self.binary):
            if all((folder / name).is_file() for name in self.files(folder)):
                return folder
        if all(mosaics.files(root / self.packed, part) for part in PARTS):
            return root / self.packed
        archives = [root / name for name in self.archives]
        return next((archive for archive in archives if archive.is_file()), None)

    def files(self, folder: Path) -> list[str]:
        ending = ".bin" if folder.name == self.binary else ""
        return [name + ending for name in self.train + self.test]

    def read(self, source: Path) -> dict[str, Batch]:
        """Name of a batch -> its images and labels."""
        if source.name == self.packed:
            return self._unpacked(source)
        raw = self._from_archive(source) if source.is_file() else self._from_folder(source)
        return {path.stem: self._decode(path, content) for path, content in raw.items()}

    def _unpacked(self, folder: Path) -> dict[str, Batch]:
        train, test = (mosaics.read(folder, part) for part in PARTS)
        pieces = zip(*(np.array_split(array, len(self.train)) for array in train), strict=True)
        batches = dict(zip(self.train, pieces, strict=True)) | {self.test[0]: test}
        return {name: self._checked(folder, *batch) for name, batch in batches.items()}

    def _from_folder(self, folder: Path) -> dict[Path, bytes]:
        return {folder / name: (folder / name).read_bytes() for name in self.files(folder)}

    def _from_archive(self, archive: Path) -> dict[Path, bytes]:
        """Nothing is unpacked, so nothing can be half unpacked."""
        folder = Path(self.binary if archive.name == self.archives[1] else self.python)
        wanted = {f"{folder}/{name}" for name in self.files(folder)}
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
        return {archive / name: raw for name, raw in files.items()}

    def _decode(self, path: Path, raw: bytes) -> Batch:
        decode = self._decode_binary if path.suffix == ".bin" else self._decode_pickle
        return self._checked(path, *decode(path, raw))

    def _checked(self, path: Path, images: np.ndarray, labels: np.ndarray) -> Batch:
        if (
            images.ndim != 2
            or images.shape[1] != PIXELS
            or labels.shape != images.shape[:1]
            or labels.max(initial=0) >= self.num_classes
        ):
            raise UsageError(
                f"{path} holds no {self.title} batch (images {images.shape}, labels"
                f" {labels.shape}): replace it"
            )
        return images, labels

    def _decode_binary(self, path: Path, raw: bytes) -> Batch:
        """Records of one label byte or two, and 3072 channel-first image bytes."""
        length = self.label_bytes + PIXELS
        if len(raw) % length:
            raise UsageError(
                f"{path} holds {len(raw)} bytes, which is no multiple of {length}: it is truncated;"
                " replace it"
            )
        records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, length)
        return records[:, self.label_bytes :], records[:, self.label_bytes - 1].copy()

    def _decode_pickle(self, path: Path, raw: bytes) -> Batch:
        """A dict with `data` uint8 (N, 3072), channel first, and a list of ints, as Python 2
        pickled it.
        """
        try:
            batch = _ArrayUnpickler(io.BytesIO(raw), encoding="latin1").load()
            images, labels = np.asarray(batch["data"]), np.asarray(batch[self.label])
            if images.dtype != np.uint8 or (labels != labels.astype(np.uint8)).any():
                raise ValueError("data or labels are not bytes")
        except Exception as error:  # damaged pickle bytes can raise almost anything
            raise UsageError(
                f"{path} is refused as a {self.title} batch ({error}): replace it"
            ) from error
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
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return self.allowed[module, name]
