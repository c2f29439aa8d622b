"""Reader of idx files, the format of MNIST and its relatives.

Format (LeCun, Cortes and Burges, "The MNIST database"): two zero bytes, a type byte (8 means
uint8), the number of dimensions, each dimension as a big-endian uint32, then the values in C order.
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from unrelearn.errors import UsageError

UINT8 = 8


def read(path: Path, md5: str | None = None) -> np.ndarray:
    """The uint8 array in an idx file, plain or (name ends in .gz) compressed.

    md5 is that of the uncompressed bytes: re-compressed copies of the same data pass too.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): delete it and fetch it again"
        ) from error
    if len(raw) < 4 or raw[:3] != bytes([0, 0, UINT8]):
        raise UsageError(f"{path} is not an idx file of bytes: delete it and fetch it again")
    header = 4 + 4 * raw[3]
    if len(raw) < header:
        raise UsageError(f"{path} is truncated within its header: delete it and fetch it again")
    shape = struct.unpack(f">{raw[3]}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        raise UsageError(
            f"{path} holds {len(raw)} bytes where its header promises {expected}: "
            "it is truncated or damaged; delete it and fetch it again"
        )
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if md5 is not None and digest != md5:
        raise UsageError(
            f"{path} has md5 {digest} where the published file has {md5}: replace it, or type "
            "dataset.root=/path for another folder, or dataset.verify=false to use it as it is"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)
