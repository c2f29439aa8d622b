"""CelebA: classes from attributes, small JPEG files in the published layout, what is refused and
how it is said.
"""

import itertools
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unrelearn.data import MappedImages, celeba_pixels
from unrelearn.data.celeba import CelebA
from unrelearn.errors import UsageError

NAMES = ["5_o_Clock_Shadow", "Male", "Smiling", "Young"]
COUNT = 24
FILES = [f"{number:06d}.jpg" for number in range(1, COUNT + 1)]
# All 16 combinations come up in turn; the published split is by number as well: 16 train, 1 valid,
# 7 test.
VALUES = {
    name: [1 if index >> place & 1 else -1 for place in range(4)]
    for index, name in enumerate(FILES)
}
PARTITION = {name: 0 if index < 16 else 1 if index == 16 else 2 for index, name in enumerate(FILES)}
TRAIN, TEST = FILES[:16], FILES[17:]


def picture(index: int) -> Image.Image:
    """178x218: a slope across and one down, a level that tells the index, and a stripe at a place
    that does so too.
    """
    across, down = np.meshgrid(np.arange(178), np.arange(218))
    pixels = np.stack([across, down, np.full_like(across, 10 * index)], axis=-1).astype(np.uint8)
    pixels[:, 7 * index : 7 * index + 3] = 255
    return Image.fromarray(pixels)


def write_lists(
    top: Path, values: dict[str, list[int]], partition: dict[str, int], names: list[str] = NAMES
) -> None:
    """As published: columns padded with blanks."""
    rows = "".join(
        f"{file} " + " ".join(f"{v:2d}" for v in row) + "\n" for file, row in values.items()
    )
    (top / "list_attr_celeba.txt").write_text(f"{len(values)}\n{' '.join(names)} \n{rows}")
    (top / "list_eval_partition.txt").write_text(
        "".join(f"{file} {part}\n" for file, part in partition.items())
    )


def write_images(top: Path) -> None:
    (top / "img_align_celeba").mkdir(parents=True)
    for index, name in enumerate(FILES):
        picture(index).save(top / "img_align_celeba" / name, quality=95)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    write_images(root / "celeba")
    write_lists(root / "celeba", VALUES, PARTITION)
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(published, tmp_path / "data")
    return tmp_path / "data"


def new(root: Path, *condition: str, **arguments) -> CelebA:
    return CelebA(str(root), list(condition or ("Male", "Smiling")), **arguments)


def decoded(dataset: CelebA, folder: Path):
    folder.mkdir()
    dataset.decode(folder, lambda n: None)
    return dataset.open(folder)


def expected(path: Path, size: int = 64, crop: int = 178) -> torch.Tensor:
    """Independently of the code: the margins are removed by slicing the whole decoded picture."""
    left, top = (178 - crop) // 2, (218 - crop) // 2
    pixels = np.asarray(Image.open(path))[top : top + crop, left : left + crop]
    return torch.tensor(
        np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
    ).permute(2, 0, 1)


def label_of(name: str) -> int:
    return 2 * (VALUES[name][1] == 1) + (VALUES[name][2] == 1)


def the_problem(dataset: CelebA) -> str:
    """The only problem, which everything else refuses with as well."""
    (line,) = dataset.check()
    assert "\n" not in line and line.startswith("dataset.")
    assert (
        "ype dataset." in line or "ype 'dataset." in line
    )  # quoted for the shell, where it needs that
    for call in (
        dataset.fingerprint,
        lambda: dataset.decode(Path("/never/written"), lambda n: None),
    ):
        with pytest.raises(UsageError) as error:
            call()
        assert error.value.problems == [line]
    return line


# ---------------------------------------------------------------------------------- classes, groups


def test_classes_are_signed_combinations():
    dataset = CelebA("nowhere", ["Male", "Smiling"])
    assert dataset.class_names == (
        "-Male-Smiling",
        "-Male+Smiling",
        "+Male-Smiling",
        "+Male+Smiling",
    )
    assert (dataset.channels, dataset.image_size, dataset.horizontal_flip) == (3, 64, True)
    assert CelebA("nowhere", ["Young"]).class_names == ("-Young", "+Young")
    assert len(set(CelebA("nowhere", list("abcdef")).class_names)) == 64


def test_attributes_are_what_the_names_of_classes_say():
    dataset = new(Path(), "Male", "Smiling", "Young")
    signs = zip(*dataset.attributes.values(), strict=True)
    names = ["".join(s + n for s, n in zip(one, dataset.attributes, strict=True)) for one in signs]
    assert tuple(names) == dataset.class_names


def test_captions_name_what_a_face_has():
    captions = [text for (text,) in CelebA("nowhere", ["Male", "Smiling"]).captions]
    assert captions == [
        "a face",
        "a face with Smiling",
        "a face with Male",
        "a face with Male and Smiling",
    ]


def test_groups_of_two():
    assert new(Path()).groups == {
        "-Male-Smiling": [0],
        "-Male+Smiling": [1],
        "+Male-Smiling": [2],
        "+Male+Smiling": [3],
        "-Male": [0, 1],
        "+Male": [2, 3],
        "Male": [2, 3],
        "-Smiling": [0, 2],
        "+Smiling": [1, 3],
        "Smiling": [1, 3],
    }


def test_groups_hold_the_classes_whose_names_say_so():
    dataset = new(Path(), "Male", "Smiling", "Young")
    for name, classes in dataset.groups.items():
        words = (
            name.replace("+", " +").replace("-", " -").split() if name[0] in "+-" else [f"+{name}"]
        )
        assert classes == [
            label
            for label, full in enumerate(dataset.class_names)
            if all(word in full for word in words)
        ]
    assert (
        len(dataset.groups) == 3**3 - 1 + 3
        and {"+Male-Young", "-Smiling+Young", "Young"} <= dataset.groups.keys()
    )


def test_counterparts_by_name():
    dataset = new(Path())
    name = dataset.class_names.index

    def of(label: str, *forgotten: str) -> str:
        return dataset.class_names[dataset.counterpart(name(label), [name(f) for f in forgotten])]

    male = ("+Male-Smiling", "+Male+Smiling")
    assert (
        of("+Male+Smiling", *male) == "-Male+Smiling"
        and of("+Male-Smiling", *male) == "-Male-Smiling"
    )
    smiling = ("-Male+Smiling", "+Male+Smiling")
    assert (
        of("+Male+Smiling", *smiling) == "+Male-Smiling"
        and of("-Male+Smiling", *smiling) == "-Male-Smiling"
    )
    assert of("+Male+Smiling", "+Male+Smiling") == "-Male+Smiling"
    assert of("-Male-Smiling", "-Male-Smiling") == "+Male-Smiling"
    # nothing in common: the nearest that is kept, Male changed before Smiling
    assert of("+Male+Smiling", "+Male+Smiling", "-Male-Smiling") == "-Male+Smiling"
    assert of("+Male+Smiling", "+Male+Smiling", "-Male+Smiling", "+Male-Smiling") == "-Male-Smiling"
    assert of("-Male-Smiling", *male) == "-Male-Smiling"  # it is kept itself


def test_common_attributes_are_changed_first():
    dataset = new(Path(), "Male", "Smiling", "Young")
    # forgotten: 011 and 111 have Smiling and Young in common. For 011 both 001 and 010 are one step
    # away.
    assert dataset.counterpart(0b011, [0b011, 0b111]) == 0b001
    # forgotten: 001 and 111 have Young in common, Male comes first in the condition: for 111 all of
    # 011, 101, 110 are kept.
    assert dataset.counterpart(0b111, [0b001, 0b111]) == 0b110


def test_attributes_that_stand_first_are_changed_first():
    dataset = new(Path(), "Male", "Smiling", "Young", "Bald")
    kept = {
        0b0110,
        0b1001,
    }  # both two steps away, nothing common: the first and last attribute, or the two between
    assert dataset.counterpart(0b1111, sorted(set(range(16)) - kept)) == 0b0110


@pytest.mark.parametrize("n", [1, 2, 3])
def test_counterparts_of_every_forget_set(n: int):
    dataset = CelebA("nowhere", ["Male", "Smiling", "Young"][:n])
    classes = range(2**n)
    for forgotten in itertools.chain.from_iterable(
        itertools.combinations(classes, k) for k in range(1, 2**n)
    ):
        same = (2**n - 1) & ~(
            np.bitwise_or.reduce(forgotten) & ~np.bitwise_and.reduce(forgotten)
        )  # one value in all
        kept = set(classes) - set(forgotten)
        for label in forgotten:
            other = dataset.counterpart(label, list(forgotten))
            assert other in kept
            assert other == dataset.counterpart(label, list(reversed(forgotten)))
            steps = (other ^ label).bit_count()
            assert steps == min((c ^ label).bit_count() for c in kept)
            # changing one common attribute leaves the forget set: the first of them in the
            # condition
            if same:
                assert other ^ label == 1 << int(same).bit_length() - 1
        for label in kept:
            assert dataset.counterpart(label, list(forgotten)) == label


# ------------------------------------------------------------------------------------------- pixels


def test_pixels_labels_and_split(root: Path, tmp_path: Path):
    dataset = new(root)
    assert dataset.check() == [] and dataset.num_images() == 23
    data = decoded(dataset, tmp_path / "store")
    for part, names in ((data.train, TRAIN), (data.test, TEST)):
        assert (
            part.labels.tolist() == [label_of(name) for name in names]
            and part.labels.dtype == torch.int64
        )
        images = part.images[:]
        assert images.shape == (len(names), 3, 64, 64) and images.dtype == torch.uint8
        for image, name in zip(images, names, strict=True):
            assert torch.equal(image, expected(root / "celeba" / "img_align_celeba" / name)), name
    assert data.class_names == dataset.class_names


@pytest.mark.parametrize("size, crop", [(32, 140), (8, 101), (200, 178), (64, 64)])
def test_crop_and_size(root: Path, tmp_path: Path, size: int, crop: int):
    data = decoded(new(root, image_size=size, crop=crop), tmp_path / "store")
    for image, name in zip(data.train.images[:], TRAIN, strict=True):
        assert torch.equal(image, expected(root / "celeba" / "img_align_celeba" / name, size, crop))


def test_the_crop_is_central(root: Path, tmp_path: Path):
    first = (
        decoded(new(root, image_size=178), tmp_path / "store")
        .train.images[torch.tensor([5])][0]
        .float()
    )
    # the second channel counts the rows of the original, 0 to 217: rows 20 to 197 are kept. JPEG is
    # off by a little.
    assert (first[1, :, 100:].mean(dim=1) - torch.arange(20, 198)).abs().max() < 3


def test_chunks_do_not_show(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = new(root)
    whole = decoded(dataset, tmp_path / "whole")
    monkeypatch.setattr(celeba_pixels, "CHUNK", 5)
    (tmp_path / "pieces").mkdir()
    calls = []
    assert dataset.decode(tmp_path / "pieces", calls.append) == 0
    assert calls == [5, 5, 5, 5, 3]
    for file in ("images.npy", "labels.npz"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "pieces" / file).read_bytes()
    assert torch.equal(whole.test.images[:], dataset.open(tmp_path / "pieces").test.images[:])


def test_the_order_of_the_lines_does_not_show(root: Path, tmp_path: Path):
    before = decoded(new(root), tmp_path / "before")
    write_lists(root / "celeba", dict(reversed(VALUES.items())), dict(reversed(PARTITION.items())))
    after = decoded(new(root), tmp_path / "after")
    assert torch.equal(before.train.images[:], after.train.images[:]) and torch.equal(
        before.test.labels, after.test.labels
    )


def test_subsets_stay_on_disk(root: Path, tmp_path: Path):
    dataset = new(root)
    train = decoded(dataset, tmp_path / "store").train
    male = train.of_classes(dataset.groups["+Male"])
    rest = train.of_classes(dataset.groups["+Male"], keep=False)
    assert isinstance(male.images, MappedImages) and male.images.store is train.images.store
    assert len(male) + len(rest) == 16 and set(male.labels.tolist()) == {2, 3}
    names = [name for name in TRAIN if VALUES[name][1] == 1]
    for image, name in zip(male.images[:], names, strict=True):
        assert torch.equal(image, expected(root / "celeba" / "img_align_celeba" / name))


def test_memory_is_that_of_a_chunk(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """400 images of 95 KB, 38 MB in all, 32 at a time: decoding and opening them holds a small part
    of that.
    """
    files = [f"{number:06d}.jpg" for number in range(1, 401)]
    for index, name in enumerate(files[COUNT:], COUNT):
        shutil.copy(
            root / "celeba" / "img_align_celeba" / FILES[index % COUNT],
            root / "celeba" / "img_align_celeba" / name,
        )
    write_lists(
        root / "celeba",
        {name: VALUES[FILES[index % COUNT]] for index, name in enumerate(files)},
        {name: 2 * (index % 2) for index, name in enumerate(files)},
        NAMES,
    )
    monkeypatch.setattr(celeba_pixels, "CHUNK", 32)
    dataset = new(root, "Smiling", image_size=178)
    assert dataset.check() == []
    tracemalloc.start()
    try:
        data = decoded(dataset, tmp_path / "store")
        data.train.of_classes([1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "store" / "images.npy").stat().st_size > 38e6
    assert 32 * 3 * 178**2 < peak < 10e6  # numpy's arrays are traced


# ------------------------------------------------------------------------------------------ layouts


def test_files_directly_below_root(published: Path, tmp_path: Path):
    shutil.copytree(published / "celeba", tmp_path / "flat")
    flat = new(tmp_path / "flat")
    assert flat.check() == [] and flat.fingerprint() == new(published).fingerprint()


def test_kaggle_layout(root: Path, tmp_path: Path):
    before = new(root).fingerprint()
    top = root / "celeba"
    rows = [f"{name},{','.join(map(str, row))}" for name, row in VALUES.items()]
    (top / "list_attr_celeba.csv").write_text(
        "\n".join(["image_id," + ",".join(NAMES), *rows]) + "\n"
    )
    rows = [f"{name},{part}" for name, part in PARTITION.items()]
    (top / "list_eval_partition.csv").write_text("\n".join(["image_id,partition", *rows]) + "\n")
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        (top / name).unlink()
    (top / "img_align_celeba").rename(top / "within")
    (top / "img_align_celeba").mkdir()
    (top / "within").rename(top / "img_align_celeba" / "img_align_celeba")
    dataset = new(root)
    assert dataset.check() == [] and dataset.fingerprint() == before
    data = decoded(dataset, tmp_path / "store")
    assert data.train.labels.tolist() == [label_of(name) for name in TRAIN]
    assert torch.equal(
        data.test.images[:][3], expected(top / "img_align_celeba" / "img_align_celeba" / TEST[3])
    )


def test_fingerprint_follows_what_matters(root: Path, tmp_path: Path):
    before = new(root).fingerprint()
    assert new(root).fingerprint() == before
    shutil.copytree(root, tmp_path / "copy")
    assert new(tmp_path / "copy").fingerprint() == before
    others = [
        new(root, "Smiling", "Male"),
        new(root, "Male"),
        new(root, crop=140),
        new(root, image_size=32),
        new(root, skip_broken=True),
    ]
    assert len({before, *(other.fingerprint() for other in others)}) == 6

    top = root / "celeba"
    write_lists(top, dict(reversed(VALUES.items())), dict(reversed(PARTITION.items())))
    (top / "img_align_celeba" / "notes.txt").write_text("listed nowhere")
    assert new(root).fingerprint() == before  # the order of the lines says nothing
    write_lists(top, VALUES | {FILES[3]: [-v for v in VALUES[FILES[3]]]}, PARTITION)
    assert new(root).fingerprint() != before
    write_lists(top, VALUES, PARTITION | {FILES[16]: 0})
    assert new(root).fingerprint() != before
    write_lists(top, VALUES, PARTITION)
    assert new(root).fingerprint() == before
    image = top / "img_align_celeba" / FILES[0]
    image.write_bytes(image.read_bytes() + b"x")
    assert new(root).fingerprint() != before


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "arguments, given, typed",
    [
        ({"image_size": 0}, "dataset.image_size=0:", "type dataset.image_size=64"),
        ({"crop": 179}, "dataset.crop=179: must be 1 to 178", "type dataset.crop=178"),
        ({"crop": 0}, "dataset.crop=0: must be 1 to 178", "type dataset.crop=178"),
    ],
)
def test_impossible_numbers(root: Path, arguments: dict, given: str, typed: str):
    line = the_problem(new(root, **arguments))
    assert line.startswith(given) and typed in line


@pytest.mark.parametrize(
    "condition, said, typed",
    [
        (
            [],
            "dataset.condition=[]: 0 attributes, must be 1 to 6",
            "type 'dataset.condition=[Male,Smiling]'",
        ),
        (
            ["Male", "Young", "Male"],
            "dataset.condition=[Male,Young,Male]: names an attribute twice",
            "type 'dataset.condition=[Male,Young]'",
        ),
        (
            ["male", "Smilling"],
            (
                "dataset.condition=[male,Smilling]: no attribute male, Smilling; allowed:"
                " 5_o_Clock_Shadow, Male"
            ),
            "Type 'dataset.condition=[Male,Smiling]'",
        ),
        (["Young", "Xyzzy"], "no attribute Xyzzy;", "Type 'dataset.condition=[Young]'"),
        (["Xyzzy"], "no attribute Xyzzy;", "Type 'dataset.condition=[\"5_o_Clock_Shadow\"]'"),
    ],
)
def test_impossible_conditions(root: Path, condition: list[str], said: str, typed: str):
    line = the_problem(CelebA(str(root), condition))
    assert said in line and line.endswith(typed)


def test_seven_attributes(root: Path):
    names = list("abcdefg")
    write_lists(root / "celeba", {file: [1] * 7 for file in FILES}, PARTITION, names)
    line = the_problem(CelebA(str(root), names))
    assert "7 attributes, must be 1 to 6" in line and line.endswith(
        "type 'dataset.condition=[a,b,c,d,e,f]'"
    )


def test_missing_files_say_what_to_put_where(root: Path, tmp_path: Path):
    line = the_problem(new(tmp_path / "nowhere"))
    assert line.startswith(f"dataset.root={tmp_path / 'nowhere'}: missing img_align_celeba/")
    assert (
        "img_align_celeba.zip unpacked" in line
        and "list_attr_celeba.txt, list_eval_partition.txt" in line
    )
    assert f"put them into {tmp_path / 'nowhere' / 'celeba'}, or type dataset.root=/path" in line
    (root / "celeba" / "list_eval_partition.txt").unlink()
    line = the_problem(new(root))
    assert "missing list_eval_partition.txt;" in line
    both = new(tmp_path / "nowhere", crop=0).check()
    assert len(both) == 2 and "dataset.crop=0" in both[0]


def edit(root: Path, name: str, change) -> None:
    path = root / "celeba" / name
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


ATTR, SPLIT = "list_attr_celeba.txt", "list_eval_partition.txt"
SPOILED = {
    "a column less": (
        ATTR,
        lambda lines: lines.__setitem__(4, "000003.jpg -1  1 -1"),
        (
            "list_attr_celeba.txt has another number of columns in 1 line(s): 000003.jpg has 3"
            " values, not 4"
        ),
    ),
    "a zero": (
        ATTR,
        lambda lines: lines.__setitem__(4, "000003.jpg -1  0 -1 1"),
        "list_attr_celeba.txt has an unknown value in 1 line(s): 000003.jpg has '0', not -1 or 1",
    ),
    "a wrong count": (
        ATTR,
        lambda lines: lines.__setitem__(0, "202599"),
        "list_attr_celeba.txt says '202599' in its first line but lists 24 image(s)",
    ),
    "no count": (
        ATTR,
        lambda lines: lines.pop(0),
        "list_attr_celeba.txt has another number of columns",
    ),
    "an empty file": (
        ATTR,
        lambda lines: lines.clear(),
        "says '' in its first line but lists 0 image(s)",
    ),
    "a line twice": (
        ATTR,
        lambda lines: lines.append(lines[-1]),
        "a name for the second time in 1 line(s): 000024.jpg again",
    ),
    "a partition 3": (
        SPLIT,
        lambda lines: lines.__setitem__(0, "000001.jpg 3"),
        (
            "list_eval_partition.txt has an unknown value in 1 line(s): 000001.jpg has '3', not 0"
            " or 1 or 2"
        ),
    ),
    "no partition": (
        SPLIT,
        lambda lines: lines.__setitem__(slice(0, 3), [line.split()[0] for line in lines[:3]]),
        "has another number of columns in 3 line(s): 000001.jpg has 0 values, not 1",
    ),
    "seven without partition": (
        SPLIT,
        lambda lines: lines.__delitem__(slice(0, 7)),
        "list_attr_celeba.txt lists 7 image(s) that",
    ),
    "one without attributes": (
        SPLIT,
        lambda lines: lines.append("000025.jpg 0"),
        "list_eval_partition.txt lists 1 image(s) that",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_lists_that_are_wrong_or_disagree(root: Path, what: str):
    name, change, said = SPOILED[what]
    edit(root, name, change)
    line = the_problem(new(root))
    assert line.startswith(f"dataset.root={root}:") and said in line
    if what == "seven without partition":
        assert "lacks: 000001.jpg, 000002.jpg, 000003.jpg, 000004.jpg, 000005.jpg, ...;" in line
    if what == "one without attributes":
        assert "lacks: 000025.jpg;" in line


def test_images_that_do_not_exist(root: Path):
    for name in FILES[:6] + FILES[16:17]:  # the last is a validation image, which nobody needs
        (root / "celeba" / "img_align_celeba" / name).unlink()
    line = the_problem(new(root))
    assert (
        "lacks 6 of 23 images: 000001.jpg, 000002.jpg, 000003.jpg, 000004.jpg, 000005.jpg, ...;"
        in line
    )


def test_a_class_without_images(root: Path):
    write_lists(
        root / "celeba", {name: [v[0], v[1], v[1], v[3]] for name, v in VALUES.items()}, PARTITION
    )
    problems = new(root).check()
    assert len(problems) == 2
    assert problems[0].startswith(
        "dataset.condition=[Male,Smiling]: -Male+Smiling, +Male-Smiling without a training image;"
    )
    assert "without a test image; type 'dataset.condition=[Male]', or" in problems[1]


def test_lists_of_validation_images_alone(root: Path):
    write_lists(root / "celeba", VALUES, dict.fromkeys(FILES, 1))
    lines = new(root).check()
    assert len(lines) == 2 and all("no attribute is both there and not" in line for line in lines)


def test_the_lists_are_read_once(root: Path):
    dataset = new(root)
    assert dataset.check() == []
    before = dataset.fingerprint()
    edit(root, ATTR, lambda lines: lines.clear())
    assert dataset.check() == [] and dataset.fingerprint() == before and new(root).check() != []


# ------------------------------------------------------------------------------------ broken images


def break_three(root: Path) -> list[str]:
    """No picture at all, half of one, and one of another size; two in the training set, one in the
    test set.
    """
    folder = root / "celeba" / "img_align_celeba"
    (folder / FILES[0]).write_bytes(b"no picture")
    whole = (folder / FILES[9]).read_bytes()
    (folder / FILES[9]).write_bytes(whole[: len(whole) // 2])
    picture(23).resize((64, 64)).save(folder / FILES[23])
    return [FILES[0], FILES[9], FILES[23]]


def test_all_broken_images_come_in_one_line(root: Path, tmp_path: Path):
    break_three(root)
    dataset = new(root)
    assert dataset.check() == []  # it does not open them
    with pytest.raises(UsageError) as error:
        decoded(dataset, tmp_path / "store")
    (line,) = error.value.problems
    assert line.startswith(
        f"dataset.root={root}: 3 of 23 images in {root / 'celeba' / 'img_align_celeba'} can not be"
        " used: 000001.jpg, 000010.jpg, 000024.jpg; the first can not be decoded ("
    )
    assert line.endswith("Type dataset.skip_broken=true to leave them out") and "\n" not in line


def test_five_broken_images_are_named(root: Path, tmp_path: Path):
    for name in FILES[:7]:
        picture(0).crop((0, 0, 100, 100)).save(root / "celeba" / "img_align_celeba" / name)
    with pytest.raises(
        UsageError,
        match=r"7 of 23 images .* 000005.jpg, \.\.\.; the first is 100x100 instead of 178x218\.",
    ):
        decoded(new(root), tmp_path / "store")


def test_broken_images_are_left_out(root: Path, tmp_path: Path):
    broken = break_three(root)
    dataset = new(root, skip_broken=True)
    (tmp_path / "store").mkdir()
    assert dataset.decode(tmp_path / "store", lambda n: None) == 3
    data = dataset.open(tmp_path / "store")
    for part, names in ((data.train, TRAIN), (data.test, TEST)):
        names = [name for name in names if name not in broken]
        assert part.labels.tolist() == [label_of(name) for name in names] and len(
            part.images
        ) == len(names)
        for image, name in zip(part.images[:], names, strict=True):
            assert torch.equal(image, expected(root / "celeba" / "img_align_celeba" / name))
    assert (
        dataset.num_images() == 23 and dataset.decode(tmp_path / "store", lambda n: None) == 3
    )  # a second time alike


def test_nothing_is_left(root: Path, tmp_path: Path):
    for name in TEST:
        (root / "celeba" / "img_align_celeba" / name).write_bytes(b"")
    with pytest.raises(UsageError, match="without a test image") as error:
        decoded(new(root, skip_broken=True), tmp_path / "store")
    assert len(error.value.problems) == 1 and "put more images there" in error.value.problems[0]


def test_grey_files_become_three_channels(root: Path, tmp_path: Path):
    path = root / "celeba" / "img_align_celeba" / FILES[0]
    picture(4).convert("L").save(path)
    image = decoded(new(root), tmp_path / "store").train.images[:][0]
    assert (
        torch.equal(image[0], image[1])
        and torch.equal(image[0], image[2])
        and image.float().std() > 10
    )
