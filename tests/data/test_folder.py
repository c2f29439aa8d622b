"""A folder of one's own images: what transparency becomes, which folders are a split, and what each
fault is called.
"""

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import Cell

from unrelearn.config import forget_classes
from unrelearn.data.celeba import CelebA
from unrelearn.data.cifar10 import CIFAR10
from unrelearn.data.folder import Folder
from unrelearn.data.mnist import MNIST
from unrelearn.errors import UsageError
from unrelearn.words import read, unreadable

GREY = {"white": 255, "black": 0, "grey": 128}


def classes(root: Path, *names: str, images: int = 2) -> Path:
    """Opaque images of 4x4 pixels, each of another grey."""
    for k, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(images):
            Image.new("RGB", (4, 4), (10 * k + index,) * 3).save(root / name / f"{index}.png")
    return root


def problems(root: Path, **settings) -> list[str]:
    """What check says, each starting with the key; the same as load and fingerprint say."""
    dataset = Folder(str(root), **{"image_size": 4, **settings})
    found = dataset.check()
    for line in found:
        assert line.startswith(f"dataset.root={root}: ") and len(line.splitlines()) == 1, line
    for call in (dataset.load, dataset.fingerprint) if found else ():
        with pytest.raises(UsageError) as error:
            call()
        assert error.value.problems == found
    return found


# ------------------------------------------------------------------------------------- transparency


def half_transparent(mode: str, path: Path) -> None:
    """4x4 pixels: the left half opaque and of grey 100, the right half transparent, hiding grey
    30.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    visible = np.zeros((4, 4), dtype=bool)
    visible[:, :2] = True
    grey = Image.fromarray(np.where(visible, 100, 30).astype(np.uint8))
    alpha = Image.fromarray(np.where(visible, 255, 0).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        Image.merge(mode, [grey] * (len(mode) - 1) + [alpha]).save(path.with_suffix(".png"))
    elif mode == "PA":  # TIFF keeps this mode
        palette = Image.fromarray(np.where(visible, 1, 0).astype(np.uint8)).convert("P")
        palette.putpalette([30, 30, 30, 100, 100, 100])
        image = palette.convert("PA")
        image.putalpha(alpha)
        image.save(path.with_suffix(".tiff"))
    elif mode.startswith("P"):
        palette = Image.fromarray(np.where(visible, 1, 0).astype(np.uint8)).convert("P")
        palette.putpalette([30, 30, 30, 100, 100, 100])
        transparency = 0 if mode == "P one" else bytes([0, 255])
        palette.save(
            path.with_suffix(".gif" if mode == "P gif" else ".png"),
            transparency=0 if mode == "P gif" else transparency,
        )
    else:
        image = grey.convert(mode)
        image.save(path.with_suffix(".png"), transparency=30 if mode == "L" else (30, 30, 30))
    written = next(path.parent.glob(f"{path.stem}.*"))
    with Image.open(written) as image:
        assert image.mode == mode.split()[0] and image.has_transparency_data


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P one", "P table", "P gif", "L", "RGB"])
@pytest.mark.parametrize("grayscale", [False, True])
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str, grayscale: bool):
    for name in ("a/0", "a/1", "b/0", "b/1"):
        half_transparent(mode, tmp_path / name)
    for background, ground in GREY.items():
        images = (
            Folder(str(tmp_path), 4, grayscale=grayscale, background=background).load().train.images
        )
        assert images.shape == (2, 1 if grayscale else 3, 4, 4)
        assert (images[..., :2] == 100).all() and (images[..., 2:] == ground).all()


def test_shapes_drawn_in_the_alpha_channel_alone_are_seen(tmp_path: Path):
    for name, alpha in (("left", [255, 0]), ("right", [0, 255])):
        (tmp_path / name).mkdir()
        for index in range(2):
            picture = np.full((8, 8, 4), 200, dtype=np.uint8)
            picture[..., 3] = np.repeat(alpha, 4)
            Image.fromarray(picture).save(tmp_path / name / f"{index}.png")
    left, right = Folder(str(tmp_path), 8).load().train.images
    assert (
        left[0, 0].tolist() == [200] * 4 + [255] * 4
        and right[0, 0].tolist() == [255] * 4 + [200] * 4
    )


def test_a_half_transparent_pixel_is_mixed_before_the_image_is_made_smaller(tmp_path: Path):
    for name in ("a/0", "a/1", "b/0", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGBA", (16, 16), (0, 0, 0, 51)).save(
            tmp_path / f"{name}.png"
        )  # a fifth of black
    assert Folder(str(tmp_path), 4).load().train.images.unique().tolist() == [204]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("grayscale", [False, True])
def test_an_opaque_image_of_any_mode_is_what_a_viewer_shows(
    tmp_path: Path, mode: str, grayscale: bool
):
    """Left half white, right half black, which every mode can write."""
    picture = np.full((4, 4, 3), 255, dtype=np.uint8)
    picture[:, 2:] = 0
    image = Image.fromarray(picture)
    for name in ("a/0", "a/1", "b/0", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.convert(mode).save(tmp_path / f"{name}.tiff")
        with Image.open(tmp_path / f"{name}.tiff") as written:
            assert written.mode == mode
    images = {
        name: Folder(str(tmp_path), 4, grayscale=grayscale, background=name).load().train.images
        for name in GREY
    }
    assert all((seen == images["white"]).all() for seen in images.values())
    assert images["white"][..., :2].min() >= 250 and images["white"][..., 2:].max() <= 5


def test_the_background_is_part_of_the_fingerprint_and_one_of_three(tmp_path: Path):
    classes(tmp_path, "a", "b")
    assert len({Folder(str(tmp_path), 4, background=name).fingerprint() for name in GREY}) == 3
    [line] = Folder(str(tmp_path), 4, background="pink").check()
    assert (
        line == "dataset.background=pink: must be one of white, black, grey; type"
        " dataset.background=white"
    )


def test_the_background_is_a_key_of_the_configuration(compose, tmp_path: Path):
    given = [
        "dataset=folder",
        f"dataset.root={classes(tmp_path / 'x', 'a', 'b')}",
        "dataset.image_size=4",
        "model=unet_tiny",
        "forget=a",
    ]
    assert compose(*given)["dataset"]["background"] == "white"
    assert compose(*given, "dataset.background=grey")["dataset"]["background"] == "grey"
    with pytest.raises(UsageError) as error:
        compose(*given, "dataset.background=pink")
    [line] = error.value.problems
    assert (
        line == "dataset.background=pink: must be one of white, black, grey. Type"
        " dataset.background=white"
    )


# -------------------------------------------------------------------------------------------- split


@pytest.mark.parametrize(
    "train, test",
    [
        ("train", "test"),
        ("train", "val"),
        ("train", "valid"),
        ("train", "validation"),
        ("Train", "Test"),
    ],
)
def test_two_folders_of_the_same_classes_are_a_split(tmp_path: Path, train: str, test: str):
    classes(tmp_path / train, "cat", "dog", images=3)
    classes(tmp_path / test, "cat", "dog", images=1)
    assert problems(tmp_path) == []
    data = Folder(str(tmp_path), 4).load()
    assert data.class_names == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.test.labels.tolist() == [0, 1]


def test_test_is_taken_before_val_unless_it_has_no_classes(tmp_path: Path):
    for name, images in (("train", 3), ("val", 1), ("test", 2)):
        classes(tmp_path / name, "cat", "dog", images=images)
    assert len(Folder(str(tmp_path), 4).load().test) == 4
    shutil.rmtree(tmp_path / "test")
    classes(tmp_path / "test", "unsorted")
    assert problems(tmp_path) == [] and len(Folder(str(tmp_path), 4).load().test) == 2


def test_train_without_its_other_half_says_what_to_do(tmp_path: Path):
    classes(tmp_path / "train", "cat", "dog")
    [line] = problems(tmp_path)
    assert (
        "train holds folders (cat, dog, ...), and there is no folder test, val, valid, validation"
        " beside it; " in line
    )
    assert line.endswith(f"type dataset.root={tmp_path / 'train'} to split those")
    Image.new("RGB", (4, 4)).save(
        classes(tmp_path, "val") / "val" / "x.png"
    )  # as in ImageNet, unsorted
    [line] = problems(tmp_path)
    assert f"and {tmp_path / 'val'} holds no folder of the same name; " in line


def test_classes_called_train_and_test_are_classes(tmp_path: Path):
    classes(tmp_path, "train", "test", "car")
    assert problems(tmp_path) == [] and Folder(str(tmp_path), 4).class_names == (
        "car",
        "test",
        "train",
    )


@pytest.mark.parametrize("name", ["unpacked", "my pets", "müller"])
def test_one_folder_too_many_is_one_line(tmp_path: Path, name: str):
    classes(tmp_path / name, "cat", "dog")
    [line] = problems(tmp_path)
    assert f"holds the one folder {tmp_path / name}, which holds folders itself; type " in line
    (word,) = shlex.split(line.partition("; type ")[2])
    assert unreadable([word]) == [] and read(word.partition("=")[2]) == str(tmp_path / name)
    assert Folder(str(tmp_path), 4).class_names == ()


# ------------------------------------------------------------------------------------------- faults


def broken(kind: str, path: Path) -> None:
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(path.with_name("nowhere"))
        case "loop":
            path.symlink_to(path)
        case "empty":
            path.write_bytes(b"")
        case "pipe":
            os.mkfifo(path)
        case "text":
            path.write_text("not an image")
        case "deep":
            Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(path)


@pytest.mark.parametrize(
    "kind, said",
    [
        ("folder", "is a folder; move its images up"),
        ("link", "is a broken link; "),
        ("loop", "is a broken link; "),
        ("empty", "is empty; "),
        ("pipe", "is no file but a device, pipe or socket; "),
        ("text", "is not an image file; "),
        ("deep", "has more than 8 bits per channel; "),
    ],
)
def test_each_fault_is_called_what_it_is(tmp_path: Path, kind: str, said: str):
    classes(tmp_path, "cat", "dog", images=3)
    broken(kind, tmp_path / "cat" / "x.png")
    [line] = problems(tmp_path)
    assert line.startswith(f"dataset.root={tmp_path}: {tmp_path / 'cat' / 'x.png'} {said}")


def test_each_kind_of_fault_of_a_class_has_a_line(tmp_path: Path):
    classes(tmp_path, "cat", "dog", images=3)
    for kind in ("empty", "text", "link"):
        for index in range(2):
            broken(kind, tmp_path / "cat" / f"{kind}{index}.png")
    lines = problems(tmp_path)
    assert len(lines) == 3 and all(
        "0.png " in line and "(and 1 more in this folder)" in line for line in lines
    )


def test_an_image_that_is_too_large_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    classes(tmp_path, "cat", "dog", images=3)
    Image.new("RGB", (64, 64)).save(tmp_path / "cat" / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    [line] = problems(tmp_path)
    assert "x.png is too large, with more than 2,000 pixels; make it smaller or remove it" in line


def test_a_class_that_is_a_broken_link_is_not_left_out_in_silence(tmp_path: Path):
    classes(tmp_path, "cat", "dog")
    (tmp_path / "bird").symlink_to(tmp_path / "nowhere")
    [line] = problems(tmp_path)
    assert f"{tmp_path / 'bird'} is a broken link; " in line


def test_a_root_that_is_a_file_and_a_home_that_is_nobodys(tmp_path: Path):
    (tmp_path / "x.zip").write_text("")
    assert "x.zip: is a file; type dataset.root=/path" in problems(tmp_path / "x.zip")[0]
    [line] = Folder("~nobody-of-this-name/images", 4).check()
    assert line.startswith("dataset.root=~nobody-of-this-name/images: no such folder")


def forbid(monkeypatch: pytest.MonkeyPatch, forbidden: Path) -> None:
    """As for a user without permission; root, who runs these tests in a container, has every
    one.
    """

    def guard(function):
        def guarded(path, *arguments, **named):
            if str(path) == str(forbidden):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *arguments, **named)

        return guarded

    for name in ("iterdir", "read_bytes"):
        monkeypatch.setattr(Path, name, guard(getattr(Path, name)))
    monkeypatch.setattr(Image, "open", guard(Image.open))


@pytest.mark.parametrize("below", [".", "dog", "dog/0.png", "train/dog"])
def test_what_may_not_be_read_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
):
    root = classes(tmp_path / "pets", "cat", "dog")
    if below.startswith("train"):
        root = tmp_path / "split"
        shutil.copytree(tmp_path / "pets", root / "train")
        shutil.copytree(tmp_path / "pets", root / "test")
    forbid(monkeypatch, root / below)
    [line] = problems(root)
    assert line.startswith(
        f"dataset.root={root}: {root / below} can not be read (Permission denied); "
    )


def test_a_file_that_is_forbidden_only_later_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = Folder(str(classes(tmp_path, "cat", "dog")), 4)
    forbid(monkeypatch, tmp_path / "cat" / "0.png")
    monkeypatch.setattr(dataset, "check", list)
    for call in (dataset.load, dataset.fingerprint):
        with pytest.raises(UsageError) as error:
            call()
        assert error.value.problems[0].startswith(
            f"dataset.root={tmp_path}: {tmp_path / 'cat' / '0.png'} can not be read ("
        )


@pytest.mark.parametrize(
    "dataset",
    [
        lambda root: MNIST(root, download=False),
        lambda root: CIFAR10(root, download=False),
        lambda root: CelebA(root, condition=["Male"]),
    ],
    ids=["mnist", "cifar10", "celeba"],
)
def test_a_published_data_set_names_what_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Callable
):
    def forbidden(path: Path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", forbidden)
    monkeypatch.setattr(Path, "is_dir", forbidden)
    with pytest.raises(UsageError) as error:
        dataset(str(tmp_path)).check()
    [line] = error.value.problems
    assert (
        line.startswith(f"dataset.root={tmp_path}: {tmp_path}/")
        and " can not be read (Permission denied); " in line
    )


# -------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name, shown",
    [
        ("a\nb", r"a\nb"),
        ("a\r\tb\x1b[31m", r"a\r\tb\x1b[31m"),
        ("a\u2028b\x85", r"a\u2028b\x85"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
        ("größe 猫", "größe 猫"),
    ],
)
def test_a_name_does_not_break_the_line_that_it_stands_in(tmp_path: Path, name: str, shown: str):
    classes(tmp_path, name, "dog", images=3)
    dataset = Folder(str(tmp_path), 4)
    assert (
        set(dataset.class_names) == {name, "dog"}
        and dataset.check() == []
        and dataset.fingerprint()
    )
    (tmp_path / name / "x.png").write_text("not an image")
    [line] = dataset.check()
    assert f"{tmp_path}/{shown}/x.png is not an image file" in line and len(line.splitlines()) == 1
    with pytest.raises(UsageError) as error:
        forget_classes("fish", dataset)
    [line] = error.value.problems
    assert len(line.splitlines()) == 1 and shown in line


def test_a_run_that_forgets_a_hundred_classes_has_a_name_for_its_folder(compose, tmp_path: Path):
    root = classes(tmp_path / "x", *map(str, range(200, 302)))
    cfg = compose(
        "dataset=folder",
        f"dataset.root={root}",
        "dataset.image_size=4",
        "model=unet_tiny",
        f"forget={[str(name) for name in range(200, 300)]}",
        "sampler.num_images=100",
    )
    name = Cell(cfg, "").name
    assert "-forget0_and_99_more-" in name and len(name) < 200
