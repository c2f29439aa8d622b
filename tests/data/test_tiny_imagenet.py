"""Tiny ImageNet in a small folder of the published layout."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unrelearn.data.tiny_imagenet import TinyImageNet
from unrelearn.errors import UsageError

WORDS = {  # by id; more than are used, as in the published file
    "n01443537": "goldfish, Carassius auratus",
    "n02012849": "crane",
    "n03126707": "crane",
    "n09999999": "of no class",
}
IDS = ["n03126707", "n01443537", "n02012849"]  # wnids.txt is not in order
VALIDATION = [("val_0.JPEG", "n02012849"), ("val_10.JPEG", "n01443537"), ("val_2.JPEG", IDS[0])]


def save(path: Path, grey: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (64, 64), grey if mode == "L" else (grey, 0, 255 - grey)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "tiny-imagenet-200"
    for k, i in enumerate(IDS):
        for n in range(2):
            save(top / "train" / i / "images" / f"{i}_{n}.JPEG", 40 * k + 20 * n)
        (top / "train" / i / f"{i}_boxes.txt").write_text(f"{i}_0.JPEG\t0\t10\t63\t58\n")
    for k, (name, _) in enumerate(VALIDATION):
        save(top / "val" / "images" / name, 50 * k, "L" if k == 1 else "RGB")
    lines = [f"{name}\t{i}\t0\t32\t44\t62\n" for name, i in VALIDATION]
    (top / "val" / "val_annotations.txt").write_text("".join(lines))
    save(top / "test" / "images" / "test_0.JPEG", 9)
    (top / "wnids.txt").write_text("\n".join(IDS))
    (top / "words.txt").write_text("".join(f"{i}\t{words}\n" for i, words in WORDS.items()))
    return top


def test_images_labels_and_names_are_read(folder: Path):
    dataset = TinyImageNet(str(folder.parent))
    assert dataset.check() == []
    # two classes of one word are told apart by their ids
    assert dataset.class_names == ("goldfish", "crane n02012849", "crane n03126707")
    data = dataset.load()
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.test.labels.tolist() == [1, 0, 2]
    assert data.train.images.shape == (6, 3, 64, 64)
    red = data.train.images[:, 0].float().mean((1, 2))
    assert np.allclose(red, [40, 60, 80, 100, 0, 20], atol=3)  # JPEG
    assert np.allclose(data.test.images[1].float().mean((1, 2)), 50, atol=3)  # a grey file


def test_the_folder_itself_may_be_the_root_and_images_are_resized(folder: Path):
    dataset = TinyImageNet(str(folder), image_size=32)
    assert dataset.load().test.images.shape == (3, 3, 32, 32)
    (problem,) = TinyImageNet(str(folder), image_size=0).check()
    assert problem.startswith("dataset.image_size=0:")


def test_the_fingerprint_knows_every_image_and_label(folder: Path):
    def fingerprint() -> str:
        return TinyImageNet(str(folder)).fingerprint()

    before = fingerprint()
    assert TinyImageNet(str(folder), image_size=32).fingerprint() != before
    annotations = folder / "val" / "val_annotations.txt"
    text = annotations.read_text()
    annotations.write_text(text.replace("val_0.JPEG\tn02012849", "val_0.JPEG\tn01443537"))
    assert fingerprint() != before
    annotations.write_text(text)
    assert fingerprint() == before
    save(folder / "train" / IDS[1] / "images" / f"{IDS[1]}_0.JPEG", 200)
    assert fingerprint() != before


@pytest.mark.parametrize(
    "gone", ["wnids.txt", "words.txt", "val/val_annotations.txt", f"train/{IDS[0]}"]
)
def test_what_is_missing_is_said_in_a_line(folder: Path, gone: str):
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    dataset = TinyImageNet(str(folder.parent))
    (problem,) = dataset.check()
    assert gone in problem and problem.startswith(f"dataset.root={folder.parent}:")
    assert "tiny-imagenet-200.zip" in problem
    with pytest.raises(UsageError):
        dataset.load()


def test_annotations_and_images_that_are_broken_are_named(folder: Path):
    annotations = folder / "val" / "val_annotations.txt"
    text = annotations.read_text()
    annotations.write_text(text + "val_3.JPEG\tn00000000\t0\t0\t1\t1\n")
    with pytest.raises(UsageError, match="names no class of"):
        TinyImageNet(str(folder)).load()
    annotations.write_text(text)
    (folder / "val" / "images" / "val_2.JPEG").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"val_2\.JPEG cannot be decoded"):
        TinyImageNet(str(folder)).load()
