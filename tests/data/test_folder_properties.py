"""Folders of generated contents: whatever lies there, a line that names it, or every image under
its own label.

Small numbers of tiny files, but a thousand folders of them: what nobody thought of is found by
chance, and stays found, as the choice of examples is fixed.
"""

import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from unrelearn.data.folder import Folder
from unrelearn.errors import UsageError

MODES = (
    "1",
    "L",
    "LA",
    "P",
    "P transparent",
    "PA",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "I",
    "I;16",
    "F",
)
DEEP = ("I", "I;16", "F")
SUFFIX = dict.fromkeys(("PA", "CMYK", "YCbCr", "LAB", "I", "F"), "tiff")  # modes that PNG lacks
FAULTS = ("folder", "link", "loop", "empty", "text", "cut", "pipe")
LINKS = ("link to image", "link to folder")
# what a file system takes: no slash, no NUL, not . or .., at most 255 bytes
NAMES = st.one_of(
    st.sampled_from(
        [
            "cat",
            "dog",
            "train",
            "test",
            "val",
            "Valid",
            "a\nb",
            "$5",
            "1e3",
            "null",
            "猫",
            "[x]",
            "~",
            "-m",
            "a b",
            "\udce9",
            ".hidden",
            "__MACOSX",
            "x.png",
        ]
    ),
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=8
    ),
)
NAMES = NAMES.filter(lambda name: name not in (".", ".."))
CONTENTS = st.sampled_from([*MODES * 3, *FAULTS, *LINKS, "hidden"])
CLASSES = st.dictionaries(NAMES, st.lists(CONTENTS, max_size=3), max_size=4)
GOOD = st.dictionaries(
    NAMES,
    st.lists(
        st.sampled_from([mode for mode in MODES if mode not in DEEP] + ["hidden", *LINKS]),
        min_size=2,
        max_size=4,
    ),
    min_size=2,
    max_size=4,
)
# one folder of classes; a split, maybe under other names; or folders within folders
TREES = st.one_of(
    CLASSES,
    GOOD,
    st.builds(
        lambda classes, other, name: {"train": classes, name: other}, CLASSES, CLASSES, NAMES
    ),
    st.builds(
        lambda classes, name: {"train": classes, name: classes},
        GOOD,
        st.sampled_from(["test", "val", "valid"]),
    ),
    st.dictionaries(NAMES, CLASSES, max_size=2),
)
MEMORY = (
    "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
)  # else wherever temporary files lie: a few seconds more
CHECKED = settings(
    max_examples=1000,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def picture(mode: str, colour: int) -> Image.Image:
    """An opaque image of the grey `colour` (a multiple of 51), between 2x2 and 8x8 pixels."""
    size = (2 + colour % 7, 2 + colour % 5)
    if mode.startswith("P"):
        image = Image.new("P", size, 1)
        image.putpalette([255 - colour] * 3 + [colour] * 3)
        return image.convert("PA") if mode == "PA" else image
    if mode in DEEP or mode == "1":
        return Image.new(mode, size, colour)  # of "1": white unless it is 0
    grey = Image.new("L", size, colour)
    if mode in ("LA", "RGBA"):
        return Image.merge(mode, [grey] * (len(mode) - 1) + [Image.new("L", size, 255)])
    return grey.convert("RGB").convert(mode) if mode != "L" else grey


FILES: dict[
    tuple[str, int], bytes
] = {}  # mode and colour -> the bytes of the file: written once, used by many examples


def write(kind: str, path: Path, colour: int) -> None:
    """One thing in a folder of images; `path` has no ending yet."""
    path = path.with_name(f"{path.name}.{SUFFIX.get(kind, 'png')}")
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(path.name)
        case "empty":
            path.touch()
        case "text":
            path.write_text("not an image")
        case "pipe":
            os.mkfifo(path)
        case "cut":
            path.write_bytes(content("RGB", colour)[:-20])
        case "hidden":
            path.with_name(f".{path.name}").write_text("ignored")
        case "link to image":
            target = path.with_name(f".{path.name}")
            target.write_bytes(content("RGB", colour))
            path.symlink_to(target.name)
        case "link to folder":
            path.symlink_to("..")
        case _:
            path.write_bytes(content(kind, colour))


def content(mode: str, colour: int) -> bytes:
    if (mode, colour) not in FILES:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"x.{SUFFIX.get(mode, 'png')}"
            picture(mode, colour).save(
                file, **({"transparency": 0} if mode == "P transparent" else {})
            )
            FILES[mode, colour] = file.read_bytes()
    return FILES[mode, colour]


def build(tree: dict | list, folder: Path, colours: itertools.count) -> None:
    """The files of a tree: dictionaries are folders, a list is what lies in a class."""
    folder.mkdir()
    if isinstance(tree, list):
        colour = 51 * (next(colours) % 6)  # of all images of one class
        for index, kind in enumerate(tree):
            write(kind, folder / str(index), colour)
        return
    for name, below in tree.items():
        # names that are one on this file system, or too long for it
        if len(os.fsencode(name)) <= 255 and not os.path.lexists(folder / name):
            build(below, folder / name, colours)


def expected(root: Path, dataset: Folder) -> dict[str, list[int]]:
    """Class -> the grey of each of its images, read from the files by a way of its own."""
    both = [
        next((path for path in root.iterdir() if path.name.lower() == name), None)
        for name in ("train", "test", "val", "valid", "validation")
    ]
    held = [path for path in both if path is not None and path.is_dir()]
    classes = {}
    for name in dataset.class_names:
        tops = [root] if (root / name).is_dir() and not _split(held) else held
        files = [path for top in tops if (top / name).is_dir() for path in (top / name).iterdir()]
        classes[name] = sorted(_grey(path) for path in files if not path.name.startswith("."))
    return classes


def _split(held: list[Path]) -> bool:
    names = [
        {path.name for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")}
        for top in held
    ]
    return (
        len(held) >= 2
        and held[0].name.lower() == "train"
        and any(names[0] & other for other in names[1:])
    )


def _grey(path: Path) -> int:
    with Image.open(path) as image:
        return int(
            np.asarray(image.convert("RGBA" if image.mode in ("P", "PA", "LA") else "RGB"))[0, 0, 0]
        )


def check_folder(root: Path, grayscale: bool) -> bool:
    """Whether it loads; asserts that it does so rightly, or says why not in lines."""
    dataset = Folder(str(root), 4, grayscale=grayscale, test_fraction=0.5)
    problems = dataset.check()
    loaded = None
    try:
        loaded = dataset.load()
    except UsageError as error:
        problems = problems or error.problems
        assert problems == error.problems or "cannot be decoded" in problems[0]
    assert (loaded is None) == bool(problems)
    for line in problems:
        assert len(line.splitlines()) == 1 and line.isprintable(), line
        assert line.startswith(f"dataset.root={root}: ")
    if loaded is None:
        return False
    assert (
        loaded.class_names == dataset.class_names == tuple(sorted(loaded.class_names))
        and dataset.fingerprint()
    )
    assert (
        set(loaded.train.labels.tolist())
        == set(loaded.test.labels.tolist())
        == set(range(len(loaded.class_names)))
    )
    values: dict[str, list[int]] = {name: [] for name in loaded.class_names}
    for part in (loaded.train, loaded.test):
        assert part.images.shape[1:] == (1 if grayscale else 3, 4, 4)
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            assert int(image.max()) - int(image.min()) <= 3  # LAB and CMYK are rounded
            values[loaded.class_names[label]].append(int(image[0, 0, 0]))
    for name, greys in expected(root, dataset).items():
        assert len(greys) == len(values[name])
        assert np.allclose(greys, sorted(values[name]), atol=3), name
    return True


LOADED: list[bool] = []


@CHECKED
@given(tree=TREES, grayscale=st.booleans())
@example(tree={"a\nb": ["RGBA", "L"], "b": ["PA", "LAB"]}, grayscale=True)
@example(
    tree={"train": {"a": ["L"], "b": ["LA"]}, "val": {"a": ["P"], "b": ["1"]}}, grayscale=False
)
@example(tree={"x": {"a": ["L", "L"], "b": ["L", "L"]}}, grayscale=False)
@example(tree={"a": list(FAULTS), "b": list(MODES)}, grayscale=False)
def visit(tree: dict, grayscale: bool) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        root = Path(place) / "root"
        build(tree, root, itertools.count(1))
        LOADED.append(check_folder(root, grayscale))


def test_a_folder_of_anything_is_loaded_rightly_or_refused_in_lines():
    LOADED.clear()
    visit()
    assert len(LOADED) >= 1000 and sum(LOADED) >= 100  # neither path is hardly ever taken


def test_a_wrong_label_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build({"a": ["L", "RGB"], "b": ["L", "RGBA"]}, tmp_path / "root", itertools.count(1))
    assert check_folder(tmp_path / "root", grayscale=False)
    right = Folder._files
    monkeypatch.setattr(
        Folder,
        "_files",
        lambda self: tuple([(path, 1 - label) for path, label in part] for part in right(self)),
    )
    with pytest.raises(AssertionError):
        check_folder(tmp_path / "root", grayscale=False)
