"""CIFAR-100 in small files of the published layouts."""

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from cifar_files import python2_pickle
from test_data import Malicious

from unrelearn.data.cifar100 import CIFAR100, CLASS_NAMES
from unrelearn.errors import UsageError

SIZES = {"train": 6, "test": 4}


def batch(name: str) -> dict:
    """Labels, coarse labels and pixels, by the names of the published files."""
    rng, n = np.random.default_rng(len(name)), SIZES[name]
    return {
        "fine_labels": rng.integers(0, 100, n).tolist(),
        "coarse_labels": rng.integers(0, 20, n).tolist(),
        "data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
    }


def write(root: Path, layout: str) -> Path:
    folder = root / f"cifar-100-{layout}"
    folder.mkdir(parents=True)
    for name in SIZES:
        content = batch(name)
        if layout == "python":
            pixels = content.pop("data")
            (folder / name).write_bytes(python2_pickle(f"{name} of 1", pixels, **content))
        else:
            labels = np.array([content["coarse_labels"], content["fine_labels"]], dtype=np.uint8)
            records = np.concatenate([labels.T, content["data"]], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


@pytest.mark.parametrize("layout", ["python", "binary"])
@pytest.mark.parametrize("packed", [False, True])
def test_fine_labels_and_pixels_are_read_from_each_layout(
    tmp_path: Path, layout: str, packed: bool
):
    folder = write(tmp_path, layout)
    if packed:
        with tarfile.open(tmp_path / f"{folder.name}.tar.gz", "w:gz") as tar:
            tar.add(folder, arcname=folder.name)
        folder.rename(tmp_path / "away")
    dataset = CIFAR100(str(tmp_path), download=False)
    assert dataset.check() == []
    data = dataset.load()
    for name, part in (("train", data.train), ("test", data.test)):
        assert part.labels.tolist() == batch(name)["fine_labels"]
        assert np.array_equal(part.images.flatten(1).numpy(), batch(name)["data"])
        assert part.images.shape[1:] == (3, 32, 32)
    assert len(data.class_names) == 100


def test_the_fingerprint_is_of_the_content_whatever_the_layout(tmp_path: Path):
    for layout in ("python", "binary"):
        write(tmp_path / layout, layout)
    python, binary = (CIFAR100(str(tmp_path / layout)) for layout in ("python", "binary"))
    assert python.fingerprint() == binary.fingerprint()
    path = tmp_path / "binary" / "cifar-100-binary" / "test.bin"
    raw = bytearray(path.read_bytes())
    raw[1] ^= 1  # one fine label
    path.write_bytes(raw)
    assert python.fingerprint() != binary.fingerprint()


def test_classes_are_kept_by_name_and_images_resized(tmp_path: Path):
    write(tmp_path, "python")
    labels = batch("train")["fine_labels"]
    chosen = [CLASS_NAMES[labels[4]], CLASS_NAMES[labels[1]]]
    data = CIFAR100(str(tmp_path), image_size=8, classes=chosen).load()
    assert data.train.labels[data.train.labels == 0].shape[0] == labels.count(labels[4])
    assert data.train.images.shape[1:] == (3, 8, 8) and data.class_names == tuple(chosen)
    (problem,) = CIFAR100(str(tmp_path), classes=["apple", "aple"]).check()
    assert problem.startswith("dataset.classes=[apple,aple]:")


def test_missing_files_are_said_in_a_line(tmp_path: Path):
    dataset = CIFAR100(str(tmp_path), download=False)
    (problem,) = dataset.check()
    for part in (f"dataset.root={tmp_path}", "cifar-100-python.tar.gz", "dataset.download=true"):
        assert part in problem
    assert "fetch_data.py" not in problem
    with pytest.raises(UsageError, match="no CIFAR-100 there"):
        dataset.load()


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path):
    folder = write(tmp_path, "python")
    bad = {**batch("test"), "data": Malicious(tmp_path / "owned")}
    (folder / "test").write_bytes(pickle.dumps(bad, protocol=2))
    with pytest.raises(UsageError, match="mkdir"):
        CIFAR100(str(tmp_path)).load()
    assert not (tmp_path / "owned").exists()


def test_a_batch_of_another_kind_is_named(tmp_path: Path):
    folder = write(tmp_path, "binary")
    (folder / "test.bin").write_bytes(bytes(3073))  # a record of CIFAR-10
    with pytest.raises(UsageError, match=r"test\.bin .* no multiple of 3074"):
        CIFAR100(str(tmp_path)).load()
    (folder / "test.bin").write_bytes(bytes([0, 100]) + bytes(3072))
    with pytest.raises(UsageError, match=r"test\.bin holds no CIFAR-100 batch"):
        CIFAR100(str(tmp_path)).load()
