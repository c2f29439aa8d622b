"""The data sets: what they load, what they refuse and how they say it. Small files in the published
layouts.
"""

import gzip
import hashlib
import http.server
import inspect
import os
import pickle
import shutil
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cifar_files import cifar_batches, write_cifar
from PIL import Image

from unrelearn.data import ImageSet, idx, to_model_range, to_uint8
from unrelearn.data.cifar10 import CIFAR10
from unrelearn.data.cifar100 import CIFAR100
from unrelearn.data.digits import Digits
from unrelearn.data.download import fetch
from unrelearn.data.fashion_mnist import FashionMNIST
from unrelearn.data.folder import Folder
from unrelearn.data.mnist import MNIST
from unrelearn.data.svhn import SVHN
from unrelearn.data.tiny_imagenet import TinyImageNet
from unrelearn.errors import UsageError

CONF = Path(__file__).parents[2] / "conf" / "dataset"
REAL_DATA = os.environ.get("UNRELEARN_DATA")
needs_real_data = pytest.mark.skipif(
    not REAL_DATA, reason="UNRELEARN_DATA does not name a folder with the real data"
)


def one_line(error: pytest.ExceptionInfo) -> str:
    """The single line that a UsageError carries."""
    assert len(error.value.problems) == 1
    line = error.value.problems[0]
    assert "\n" not in line
    return line


# ------------------------------------------------------------------------------------------- ranges


def test_uint8_survives_the_model_range():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    scaled = to_model_range(levels)
    assert scaled.dtype == torch.float32 and scaled.min() == -1 and scaled.max() == 1
    assert torch.equal(to_uint8(scaled), levels)


def test_to_uint8_clamps():
    assert to_uint8(torch.tensor([-7.0, -1.0, 1.0, 7.0])).tolist() == [0, 0, 255, 255]


def test_of_classes_partitions():
    labels = torch.arange(60) % 6
    images = torch.arange(60, dtype=torch.uint8).reshape(60, 1, 1, 1)
    whole = ImageSet(images, labels)
    forget, retain = whole.of_classes([2, 5]), whole.of_classes([2, 5], keep=False)
    assert set(forget.labels.tolist()) == {2, 5} and set(retain.labels.tolist()) == {0, 1, 3, 4}
    assert sorted(forget.images.flatten().tolist() + retain.images.flatten().tolist()) == list(
        range(60)
    )
    assert torch.equal(whole.take(torch.tensor([3, 1])).labels, torch.tensor([3, 1]))


# ------------------------------------------------------------------------------------------- digits


def test_digits_facts():
    digits = Digits()
    assert digits.check() == []
    data = digits.load()
    assert (len(data.train), len(data.test)) == (1297, 500)
    assert data.test.labels.bincount().tolist() == [50] * 10
    everything = torch.cat([data.train.labels, data.test.labels])
    assert everything.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for part in (data.train, data.test):
        assert part.images.shape[1:] == (digits.channels, digits.image_size, digits.image_size)
        assert part.images.dtype == torch.uint8 and part.labels.dtype == torch.int64
        assert part.images.min() == 0 and part.images.max() == 255
    assert data.class_names == digits.class_names


def test_digits_split_is_disjoint_and_fixed():
    data = Digits().load()
    train, test = (
        {image.numpy().tobytes() for image in part.images} for part in (data.train, data.test)
    )
    assert len(train) == 1297 and len(test) == 500  # no image occurs twice in the data set
    assert not train & test
    # Pinned: another split would silently be another benchmark.
    assert (
        hashlib.sha256(data.test.images.numpy().tobytes())
        .hexdigest()
        .startswith("19c297ead9d57070")
    )


# ------------------------------------------------------------------------------ idx, MNIST, Fashion


def idx_bytes(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write_mnist(folder: Path, *, compressed: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    folder.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for name, array in arrays.items():
        raw = idx_bytes(array)
        (folder / f"{name}{'.gz' if compressed else ''}").write_bytes(
            gzip.compress(raw) if compressed else raw
        )
    return arrays


def tiny_mnist(root: Path, **arguments) -> MNIST:
    return MNIST(str(root), download=False, verify=False, **arguments)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_round_trip(tmp_path: Path, suffix: str):
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    raw = idx_bytes(array)
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix else raw)
    assert np.array_equal(idx.read(path, md5=hashlib.md5(raw).hexdigest()), array)
    with pytest.raises(UsageError, match=r"dataset.verify=false"):
        idx.read(path, md5="0" * 32)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kept_bytes", [0, 3, 6, 20])
def test_truncated_idx_is_named(tmp_path: Path, suffix: str, kept_bytes: int):
    raw = idx_bytes(np.zeros((5, 28, 28), dtype=np.uint8))
    path = tmp_path / f"file{suffix}"
    path.write_bytes((gzip.compress(raw) if suffix else raw)[:kept_bytes])
    with pytest.raises(UsageError) as error:
        idx.read(path)
    assert str(path) in one_line(error) and "delete it" in one_line(error)


def test_idx_refuses_other_types_and_trailing_bytes(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0, 13, 1]) + bytes(8))  # 13: float32
    with pytest.raises(UsageError, match="not an idx file of bytes"):
        idx.read(path)
    path.write_bytes(idx_bytes(np.zeros(3, dtype=np.uint8)) + b"?")
    with pytest.raises(UsageError, match="damaged"):
        idx.read(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("place", ["MNIST/raw", "."])
def test_mnist_layouts(tmp_path: Path, compressed: bool, place: str):
    root = tmp_path / "data"
    arrays = write_mnist(root / place, compressed=compressed)
    dataset = tiny_mnist(root)
    assert dataset.check() == []
    data = dataset.load()
    assert np.array_equal(data.train.images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    assert np.array_equal(data.test.labels.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert data.train.images.shape == (20, 1, 28, 28) and data.test.labels.dtype == torch.int64


def test_mnist_resizes(tmp_path: Path):
    write_mnist(tmp_path / "data", compressed=False)
    small = tiny_mnist(tmp_path / "data", image_size=14)
    images = small.load().train.images
    assert images.shape == (20, 1, 14, 14) and images.dtype == torch.uint8
    # Antialiased: averaging four independent pixels at least halves their spread; picking one would
    # keep it.
    full = tiny_mnist(tmp_path / "data").load().train.images
    assert images.float().std() < 0.75 * full.float().std()
    assert small.fingerprint() != tiny_mnist(tmp_path / "data").fingerprint()


def test_mnist_fingerprints(tmp_path: Path):
    assert MNIST(str(tmp_path)).fingerprint() == "mnist-28"
    assert FashionMNIST(str(tmp_path), image_size=16).fingerprint() == "fashionmnist-16"
    write_mnist(tmp_path / "a", compressed=False)
    before = tiny_mnist(tmp_path / "a").fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert tiny_mnist(tmp_path / "b").fingerprint() == before
    labels = tmp_path / "b" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x03")
    assert tiny_mnist(tmp_path / "b").fingerprint() != before


def test_mnist_refuses_files_that_are_not_the_published_ones(tmp_path: Path):
    write_mnist(tmp_path / "data", compressed=True)
    with pytest.raises(UsageError, match="where the published file has"):
        MNIST(str(tmp_path / "data"), download=False).load()


def test_mnist_labels_must_fit(tmp_path: Path):
    write_mnist(tmp_path / "data", compressed=False)
    (tmp_path / "data" / "t10k-labels-idx1-ubyte").write_bytes(
        idx_bytes(np.full(10, 10, dtype=np.uint8))
    )
    with pytest.raises(UsageError, match=r"one label in 0\.\.9 per image"):
        tiny_mnist(tmp_path / "data").load()


@pytest.mark.parametrize("dataset_class", [MNIST, FashionMNIST, CIFAR10])
def test_missing_files_say_what_to_do(
    tmp_path: Path, dataset_class: type, monkeypatch: pytest.MonkeyPatch
):
    forbidden = dataset_class(str(tmp_path), download=False)
    problems = forbidden.check()
    assert (
        len(problems) == 1
        and f"dataset.root={tmp_path}" in problems[0]
        and "dataset.download=true" in problems[0]
    )
    with pytest.raises(UsageError) as error:
        forbidden.load()
    assert error.value.problems == problems

    allowed = dataset_class(str(tmp_path))
    assert allowed.check() == []  # whether it can be downloaded is seen only when it is tried
    nowhere = "http://127.0.0.1:9/"  # the discard port: refused at once
    monkeypatch.setattr(MNIST, "mirrors", (nowhere,))
    monkeypatch.setattr(FashionMNIST, "mirrors", (nowhere,))
    monkeypatch.setattr(CIFAR10, "url", f"{nowhere}cifar-10-python.tar.gz")
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UsageError) as error:
        allowed.load()
    assert "type dataset.root=/path" in one_line(error) and nowhere in one_line(error)
    assert "dataset.download" not in one_line(error)


@pytest.mark.parametrize("size", [0, -3, "big", 1.5])
def test_bad_image_size_is_a_problem(tmp_path: Path, size: object):
    for dataset_class in (MNIST, CIFAR10, Folder):
        problems = dataset_class(str(tmp_path), image_size=size).check()
        assert any(f"dataset.image_size={size}" in line for line in problems)


# ----------------------------------------------------------------------------------------- CIFAR-10


def tiny_cifar(root: Path, **arguments) -> CIFAR10:
    return CIFAR10(str(root), download=False, verify=False, **arguments)


def test_cifar_layouts_agree(tmp_path: Path):
    batches = cifar_batches()
    train = [batches[f"data_batch_{number}"] for number in range(1, 6)]
    expected = np.concatenate([images for images, _ in train]).reshape(20, 3, 32, 32)
    for layout in ("py", "bin"):
        write_cifar(tmp_path / layout, layout)
        data = tiny_cifar(tmp_path / layout).load()
        assert np.array_equal(data.train.images.numpy(), expected)
        assert data.train.labels.tolist() == [label for _, labels in train for label in labels]
        assert data.test.labels.tolist() == batches["test_batch"][1]
    assert tiny_cifar(tmp_path / "py").fingerprint() == tiny_cifar(tmp_path / "bin").fingerprint()


@pytest.mark.parametrize(
    ("layout", "archive"), [("py", "cifar-10-python.tar.gz"), ("bin", "cifar-10-binary.tar.gz")]
)
def test_cifar_is_read_from_its_archive(tmp_path: Path, layout: str, archive: str):
    write_cifar(tmp_path, layout)
    expected = tiny_cifar(tmp_path).fingerprint()
    folder = tmp_path / f"cifar-10-batches-{layout}"
    with tarfile.open(tmp_path / archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    shutil.rmtree(folder)
    assert tiny_cifar(tmp_path).fingerprint() == expected
    whole = (tmp_path / archive).read_bytes()
    (tmp_path / archive).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="cannot be read"):
        tiny_cifar(tmp_path).load()


def test_cifar_resizes_every_channel_alone(tmp_path: Path):
    write_cifar(tmp_path, "bin")
    image = np.full((4, 3, 32, 32), 7, dtype=np.uint8)
    image[:, 1] = 200
    image[:, 2, :, 16:] = 100  # the right half: height and width must not change places
    records = np.concatenate([np.zeros((4, 1), dtype=np.uint8), image.reshape(4, 3072)], axis=1)
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(records.tobytes())
    images = tiny_cifar(tmp_path, image_size=16).load().test.images
    assert images.shape == (4, 3, 16, 16) and images.is_contiguous()
    assert [images[:, channel].unique().tolist() for channel in range(2)] == [[7], [200]]
    assert (images[:, 2, :, :6] == 7).all() and (images[:, 2, :, 10:] == 100).all()


def test_cifar_verifies_by_default(tmp_path: Path):
    write_cifar(tmp_path, "py")
    dataset = CIFAR10(str(tmp_path), download=False)
    assert dataset.fingerprint() == "cifar10-32"
    with pytest.raises(UsageError) as error:
        dataset.load()
    assert "not the published CIFAR-10" in one_line(error) and "dataset.verify=false" in one_line(
        error
    )


class Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_malicious_pickle_is_refused(tmp_path: Path):
    write_cifar(tmp_path, "py")
    bomb = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    bomb.write_bytes(pickle.dumps({"data": Malicious(tmp_path / "owned"), "labels": [0]}))
    with pytest.raises(UsageError, match="mkdir") as error:
        tiny_cifar(tmp_path).load()
    assert "data_batch_3" in one_line(error)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("layout", ["py", "bin"])
def test_truncated_batch_is_named(tmp_path: Path, layout: str):
    write_cifar(tmp_path, layout)
    path = next((tmp_path / f"cifar-10-batches-{layout}").glob("data_batch_2*"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError) as error:
        tiny_cifar(tmp_path).load()
    assert str(path) in one_line(error)


# ------------------------------------------------------------------------------------------- folder


def write_image(
    path: Path, value: int, size: tuple[int, int] = (20, 20), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = {"L": value, "RGB": (value,) * 3, "RGBA": (value,) * 3 + (255,)}[mode]
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes, ten images each: png, jpg, grey, with alpha, odd sizes."""
    root = tmp_path / "pets"
    for index in range(10):
        suffix, mode = [
            ("png", "RGB"),
            ("jpg", "RGB"),
            ("png", "L"),
            ("bmp", "RGB"),
            ("png", "RGBA"),
        ][index % 5]
        write_image(root / "cat" / f"{index}.{suffix}", 10 * index, (17 + index, 40 - index), mode)
        write_image(root / "dog" / f"{index}.{suffix}", 255 - 10 * index, (64, 33), mode)
    return root


def test_folder_loads_what_pil_opens(pets: Path):
    dataset = Folder(str(pets), image_size=16)
    assert dataset.check() == [] and dataset.class_names == ("cat", "dog")
    data = dataset.load()
    assert data.train.images.shape == (16, 3, 16, 16) and data.test.images.shape == (4, 3, 16, 16)
    assert data.train.images.dtype == torch.uint8 and data.train.images.is_contiguous()
    assert data.train.labels.bincount().tolist() == [
        8,
        8,
    ] and data.test.labels.bincount().tolist() == [2, 2]
    cats = torch.cat([part.of_classes([0]).images for part in (data.train, data.test)])
    assert sorted(cats[:, 0, 0, 0].tolist()) == [
        10 * index for index in range(10)
    ]  # each once: the split is disjoint


def test_folder_grayscale(pets: Path):
    dataset = Folder(str(pets), image_size=8, grayscale=True, test_fraction=0.5)
    assert dataset.channels == 1
    data = dataset.load()
    assert data.train.images.shape == data.test.images.shape == (10, 1, 8, 8)


def test_folder_crops_the_centre(tmp_path: Path):
    for name in ("a/0", "a/1", "b/0", "b/1"):
        write_image(tmp_path / f"{name}.png", 0, (32, 8))
        image = Image.open(tmp_path / f"{name}.png")
        image.paste((255, 255, 255), (12, 0, 20, 8))
        image.save(tmp_path / f"{name}.png")
    assert Folder(str(tmp_path), image_size=8).load().train.images.unique().tolist() == [255]


def test_folder_turns_photographs_upright(tmp_path: Path):
    for name in ("a/0", "a/1", "b/0", "b/1"):
        write_image(tmp_path / f"{name}.png", 0, (8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate by a quarter turn
    image = Image.new("L", (8, 8))
    image.paste(255, (0, 0, 4, 8))
    image.save(tmp_path / "a" / "0.png", exif=exif)
    image.save(tmp_path / "a" / "1.png", exif=exif)
    shown = Folder(str(tmp_path), image_size=8, grayscale=True).load().train.images[0, 0]
    assert (shown[:4] == 255).all() and (shown[4:] == 0).all()


def test_folder_with_its_own_split(tmp_path: Path):
    for index in range(3):
        write_image(tmp_path / "train" / "a" / f"{index}.png", 1)
        write_image(tmp_path / "train" / "b" / f"{index}.png", 2)
    write_image(tmp_path / "test" / "a" / "0.png", 3)
    write_image(tmp_path / "test" / "b" / "0.png", 4)
    dataset = Folder(str(tmp_path), image_size=8)
    assert dataset.check() == [] and dataset.class_names == ("a", "b")
    data = dataset.load()
    assert data.train.images[:, 0, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]
    assert data.test.images[:, 0, 0, 0].tolist() == [3, 4] and data.test.labels.tolist() == [0, 1]

    write_image(tmp_path / "test" / "c" / "0.png", 5)
    shutil.rmtree(tmp_path / "test" / "b")
    problems = dataset.check()
    assert len(problems) == 2
    assert any("test/c is a class that" in line for line in problems)
    assert any("test/b holds 0 images" in line for line in problems)


def test_folder_problems_come_all_at_once(pets: Path):
    (pets / "cat" / "notes.txt").write_text("not an image")
    (pets / "cat" / "list.txt").write_text("not one either")
    (pets / "cat" / ".hidden").write_text("ignored")
    (pets / "bird").mkdir()
    (pets / "README").write_text("a file beside the classes is no class")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(pets / "dog" / "deep.png")
    dataset = Folder(str(pets), image_size=-1, test_fraction=1.0)
    problems = dataset.check()
    assert len(problems) == 5
    for expected in (
        "dataset.image_size=-1",
        "dataset.test_fraction=1.0",
        "bird holds 0 images",
        "list.txt is not an image file (and 1 more in this folder)",
        "deep.png has more than 8 bits per channel",
    ):
        assert any(expected in line for line in problems), expected
    for call in (dataset.load, dataset.fingerprint):
        with pytest.raises(UsageError) as error:
            call()
        assert error.value.problems == problems


def test_folder_without_root_or_classes(tmp_path: Path):
    dataset = Folder(str(tmp_path / "nowhere"), image_size=8)
    assert dataset.class_names == ()
    assert dataset.check() == [
        line for line in dataset.check() if "no such folder; type dataset.root=/path" in line
    ]
    write_image(tmp_path / "only" / "0.png", 1)
    write_image(tmp_path / "only" / "1.png", 1)
    assert any(
        "1 class sub-folders, at least 2" in line
        for line in Folder(str(tmp_path), image_size=8).check()
    )


def test_folder_names_an_image_that_breaks_off(pets: Path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(pets / "cat" / "broken.png")
    whole = (pets / "cat" / "broken.png").read_bytes()
    (pets / "cat" / "broken.png").write_bytes(whole[: len(whole) // 2])
    dataset = Folder(str(pets), image_size=8)
    assert dataset.check() == []  # the header is sound
    with pytest.raises(UsageError) as error:
        dataset.load()
    assert "broken.png cannot be decoded" in one_line(error)


def test_folder_fingerprint_follows_content_only(pets: Path, tmp_path: Path):
    before = Folder(str(pets), image_size=8).fingerprint()
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(pets, copy)
    assert Folder(str(copy), image_size=8).fingerprint() == before
    data, copied = Folder(str(pets), image_size=8).load(), Folder(str(copy), image_size=8).load()
    assert torch.equal(data.train.images, copied.train.images) and torch.equal(
        data.test.labels, copied.test.labels
    )

    assert Folder(str(pets), image_size=16).fingerprint() != before
    assert Folder(str(pets), image_size=8, grayscale=True).fingerprint() != before
    assert Folder(str(pets), image_size=8, test_fraction=0.4).fingerprint() != before

    write_image(copy / "cat" / "0.png", 1, (17, 40))  # one image changes by one grey level
    changed = Folder(str(copy), image_size=8).fingerprint()
    assert changed != before
    (copy / "cat" / "0.png").rename(copy / "dog" / "moved.png")  # its label changes
    assert Folder(str(copy), image_size=8).fingerprint() not in (before, changed)


def test_folder_fingerprint_sees_where_a_class_ends(tmp_path: Path):
    for name in ("train/a/0", "train/a/1", "train/b/1", "test/a/0", "test/b/0"):
        write_image(tmp_path / f"{name}.png", 9)
    write_image(tmp_path / "train" / "a" / "9.png", 50)
    before = Folder(str(tmp_path), image_size=8).fingerprint()
    (tmp_path / "train" / "a" / "9.png").rename(
        tmp_path / "train" / "b" / "0.png"
    )  # same images in the same order
    assert Folder(str(tmp_path), image_size=8).fingerprint() != before


# ----------------------------------------------------------------------------------------- download


PAYLOAD = np.random.default_rng(2).bytes(700_000)
PAYLOAD_SHA256 = f"sha256:{hashlib.sha256(PAYLOAD).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    """/file resumes, /whole ignores Range, /short breaks off in the middle, /wrong has other bytes,
    the rest is 404.
    """

    asked: list[tuple[str, str | None]]

    def do_GET(self):
        start = self.headers.get("Range")
        self.asked.append((self.path, start))
        body = {
            "/file": PAYLOAD,
            "/whole": PAYLOAD,
            "/short": PAYLOAD,
            "/wrong": PAYLOAD[::-1],
        }.get(self.path)
        if body is None:
            self.send_error(404)
            return
        offset = (
            int(start.removeprefix("bytes=").rstrip("-")) if start and self.path != "/whole" else 0
        )
        if offset >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if offset else 200)
        self.send_header("Content-Length", str(len(body) - offset))
        self.end_headers()
        self.wfile.write(body[offset : offset + 1000] if self.path == "/short" else body[offset:])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    """(base url, list of (path, Range) asked for) of a local web server."""
    monkeypatch.setenv("no_proxy", "*")
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", Handler.asked
        running.shutdown()
        thread.join()


def test_download_tries_mirrors_in_order(server: tuple, tmp_path: Path):
    url, asked = server
    destination = tmp_path / "new" / "file.gz"
    fetch([f"{url}/none", f"{url}/file", f"{url}/whole"], PAYLOAD_SHA256, destination)
    assert destination.read_bytes() == PAYLOAD
    assert asked == [("/none", None), ("/file", None)]
    assert not destination.with_name("file.gz.part").exists()
    fetch([f"{url}/file"], PAYLOAD_SHA256, destination)
    assert len(asked) == 2  # it is there: nothing is asked again


def test_download_resumes_a_half_file(server: tuple, tmp_path: Path):
    url, asked = server
    destination = tmp_path / "file.gz"
    (tmp_path / "file.gz.part").write_bytes(PAYLOAD[:300_000])
    fetch([f"{url}/file"], PAYLOAD_SHA256, destination)
    assert destination.read_bytes() == PAYLOAD and asked == [("/file", "bytes=300000-")]


def test_download_by_several_at_once_happens_once(server: tuple, tmp_path: Path):
    url, asked = server
    threads = [
        threading.Thread(target=fetch, args=([f"{url}/file"], PAYLOAD_SHA256, tmp_path / "f"))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "f").read_bytes() == PAYLOAD and asked == [("/file", None)]


def test_download_goes_on_at_the_next_mirror(server: tuple, tmp_path: Path):
    url, asked = server
    fetch([f"{url}/short", f"{url}/file"], PAYLOAD_SHA256, tmp_path / "file.gz")
    assert (tmp_path / "file.gz").read_bytes() == PAYLOAD
    assert asked == [("/short", None), ("/file", "bytes=1000-")]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/whole", PAYLOAD[:300_000]),  # the server does not resume
        ("/file", b"x" * 300_000),  # the half file is rubbish
        ("/file", PAYLOAD),  # complete, but never renamed
        ("/file", PAYLOAD + b"too long"),
    ],
)
def test_download_survives_any_half_file(server: tuple, tmp_path: Path, path: str, part: bytes):
    (tmp_path / "file.gz.part").write_bytes(part)
    fetch([f"{server[0]}{path}"], PAYLOAD_SHA256, tmp_path / "file.gz")
    assert (tmp_path / "file.gz").read_bytes() == PAYLOAD


def test_wrong_checksum_leaves_no_file(server: tuple, tmp_path: Path):
    url, _ = server
    with pytest.raises(UsageError) as error:
        fetch([f"{url}/wrong", f"{url}/none"], PAYLOAD_SHA256, tmp_path / "file.gz")
    line = one_line(error)
    assert (
        "cannot download file.gz" in line
        and f"instead of {PAYLOAD_SHA256}" in line
        and "404" in line
    )
    assert not (tmp_path / "file.gz").exists() and not (tmp_path / "file.gz.part").exists()


def test_mnist_downloads_what_is_missing(
    server: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_mnist(tmp_path / "data", compressed=True)
    (tmp_path / "data" / "t10k-labels-idx1-ubyte.gz").unlink()
    labels = gzip.compress(idx_bytes(np.arange(10, dtype=np.uint8)))
    monkeypatch.setattr(
        Handler,
        "do_GET",
        lambda self: (
            self.asked.append(self.path),
            self.send_response(200),
            self.end_headers(),
            self.wfile.write(labels),
        ),
    )
    files = MNIST.files | {"t10k-labels-idx1-ubyte": (hashlib.md5(labels).hexdigest(), "")}
    monkeypatch.setattr(MNIST, "files", files)
    monkeypatch.setattr(MNIST, "mirrors", (f"{server[0]}/",))
    data = MNIST(str(tmp_path / "data"), verify=False).load()
    assert server[1] == ["/t10k-labels-idx1-ubyte.gz"]
    assert data.test.labels.tolist() == list(range(10))


def test_download_into_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("a file where a folder is needed")
    with pytest.raises(UsageError, match=r"cannot download x\.gz"):
        fetch([], PAYLOAD_SHA256, tmp_path / "file" / "x.gz")


# ------------------------------------------------------------------------------- configs, real data


@pytest.mark.parametrize(
    "dataset_class",
    [Digits, MNIST, FashionMNIST, CIFAR10, CIFAR100, SVHN, TinyImageNet, Folder],
)
def test_yaml_lists_every_argument_with_its_default(dataset_class: type):
    module = dataset_class.__module__
    text = (CONF / f"{module.rpartition('.')[2]}.yaml").read_text()
    assert text.startswith("# ")
    keys = yaml.safe_load(text)
    keys.pop("defaults", None)
    assert keys.pop("_target_") == f"{module}.{dataset_class.__name__}"
    arguments = inspect.signature(dataset_class).parameters
    assert set(keys) == set(arguments)
    for name, argument in arguments.items():
        if argument.default is not inspect.Parameter.empty:
            assert keys[name] == argument.default
        else:
            assert keys[name] in ("${paths.data}", "???")


def skip_unless_there(dataset) -> None:
    if problems := dataset.check():
        pytest.skip(problems[0])


@needs_real_data
@pytest.mark.parametrize("dataset_class", [MNIST, FashionMNIST])
def test_real_mnist(dataset_class: type):
    dataset = dataset_class(REAL_DATA, download=False)
    skip_unless_there(dataset)
    data = dataset.load()
    assert data.train.images.shape == (60000, 1, 28, 28) and data.test.images.shape == (
        10000,
        1,
        28,
        28,
    )
    assert data.train.labels.bincount(minlength=10).min() > 5000


@needs_real_data
def test_real_cifar10():
    dataset = CIFAR10(REAL_DATA, download=False)
    skip_unless_there(dataset)
    data = dataset.load()  # images, labels and their order are verified by their checksums
    assert (
        data.train.labels.bincount().tolist() == [5000] * 10
        and data.test.labels.bincount().tolist() == [1000] * 10
    )
    mean = data.train.images.double().mean(dim=(0, 2, 3)) / 255
    assert torch.allclose(
        mean, torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64), atol=1e-4
    )
