"""SVHN in small files of the published layout."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from unrelearn.data.svhn import SVHN
from unrelearn.errors import UsageError

LABELS = {"train": [10, 1, 2, 9, 5], "test": [3, 10]}


def images(part: str) -> np.ndarray:
    """uint8 (32, 32, 3, N): height, width, colour, image."""
    rng = np.random.default_rng(len(part))
    return rng.integers(0, 256, (32, 32, 3, len(LABELS[part])), dtype=np.uint8)


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, labels in LABELS.items():
        y = np.array(labels, dtype=np.uint8)[:, None]
        savemat(folder / f"{part}_32x32.mat", {"X": images(part), "y": y})


def tiny(root: Path, **arguments) -> SVHN:
    return SVHN(str(root), download=False, verify=False, **arguments)


@pytest.mark.parametrize("below", [".", "svhn"])
def test_pixels_and_labels_are_read_and_ten_is_the_digit_0(tmp_path: Path, below: str):
    write(tmp_path / below)
    assert tiny(tmp_path).check() == []
    data = tiny(tmp_path).load()
    assert data.train.labels.tolist() == [0, 1, 2, 9, 5] and data.test.labels.tolist() == [3, 0]
    assert data.train.images.shape == (5, 3, 32, 32) and data.train.images.is_contiguous()
    assert np.array_equal(data.train.images[3, 2].numpy(), images("train")[:, :, 2, 3])


def test_the_fingerprint_is_the_content_or_the_published_files_name(tmp_path: Path):
    write(tmp_path)
    before = tiny(tmp_path).fingerprint()
    content = {"X": images("test"), "y": np.array([[3], [9]], dtype=np.uint8)}
    savemat(tmp_path / "test_32x32.mat", content)
    assert tiny(tmp_path).fingerprint() != before
    assert SVHN(str(tmp_path)).fingerprint() == "svhn"
    with pytest.raises(UsageError, match=r"train_32x32\.mat has md5 .*dataset\.verify=false"):
        SVHN(str(tmp_path)).load()


def test_missing_files_are_said_in_a_line(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "test_32x32.mat").unlink()
    (problem,) = tiny(tmp_path).check()
    assert "missing test_32x32.mat" in problem and "dataset.download=true" in problem
    with pytest.raises(UsageError, match=r"missing test_32x32\.mat"):
        tiny(tmp_path).load()
    assert SVHN(str(tmp_path)).check() == []  # whether it can be had is seen when it is tried


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[0], [1]])}, "y .N, 1. in 1..10"),
        ({"X": np.zeros((2, 32, 32, 3), np.uint8), "y": np.array([[1], [1]])}, "does not hold"),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.array([[1], [1]])}, "does not hold bytes"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "cannot be read"),
        (b"not a mat file", "cannot be read"),
    ],
)
def test_a_file_of_anything_else_is_named(tmp_path: Path, content: object, why: str):
    write(tmp_path)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(content) if isinstance(content, bytes) else savemat(path, content)
    with pytest.raises(UsageError, match=why) as error:
        tiny(tmp_path).load()
    assert str(path) in error.value.problems[0]
