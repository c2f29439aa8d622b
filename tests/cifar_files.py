"""Small files in the published layouts of CIFAR-10."""

import struct
from pathlib import Path

import numpy as np


def cifar_batches(per_batch: int = 4) -> dict[str, tuple[np.ndarray, list[int]]]:
    rng = np.random.default_rng(1)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {
        name: (
            rng.integers(0, 256, (per_batch, 3072), dtype=np.uint8),
            rng.integers(0, 10, per_batch).tolist(),
        )
        for name in names
    }


def python2_pickle(name: str, images: np.ndarray, **labels: list[int]) -> bytes:
    """A batch, opcode by opcode as Python 2 and numpy 1 wrote the published files (protocol 2, byte
    strings).
    """

    def short(text: str) -> bytes:  # SHORT_BINSTRING
        return b"U" + bytes([len(text)]) + text.encode()

    def number(value: int) -> bytes:  # BININT2
        return b"M" + struct.pack("<H", value)

    raw = images.tobytes()
    # _reconstruct(ndarray, (0,), "b"), then its state: version, shape, dtype, not Fortran order,
    # bytes
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01"
        + number(images.shape[0])
        + number(images.shape[1])
        + b"\x86"
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T"
        + struct.pack("<i", len(raw))
        + raw
        + b"tb"
    )
    label_lists = b"".join(
        short(key) + b"](" + b"".join(b"K" + bytes([label]) for label in values) + b"e"
        for key, values in labels.items()
    )
    file_names = b"](" + b"".join(short(f"{index}.png") for index in range(len(images))) + b"e"
    return (
        b"\x80\x02}("
        + short("batch_label")
        + short(name)
        + label_lists
        + short("data")
        + array
        + short("filenames")
        + file_names
        + b"u."
    )


def write_cifar(root: Path, layout: str) -> None:
    folder = root / f"cifar-10-batches-{layout}"
    folder.mkdir(parents=True)
    for name, (images, labels) in cifar_batches().items():
        if layout == "py":
            (folder / name).write_bytes(python2_pickle(name, images, labels=labels))
        else:
            records = np.concatenate([np.array(labels, dtype=np.uint8)[:, None], images], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
