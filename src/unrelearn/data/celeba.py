"""CelebA: 202,599 aligned photographs of 10,177 people with 40 yes/no attributes (Liu, Luo, Wang
and Tang 2015, "Deep Learning Face Attributes in the Wild", arXiv:1411.7766). For non-commercial
research; nothing is downloaded here.

The classes are the combinations of a few chosen attributes, so that a face can be asked for with an
attribute or
without: condition [Male, Smiling] makes -Male-Smiling, -Male+Smiling, +Male-Smiling and
+Male+Smiling. There is no established class-conditional protocol for CelebA; this one is ours.
Training images are partition 0 of the published split, test images partition 2; the validation
images are not read.

The whole set at 64x64 is 2.2 GB decoded. So there is no load(): the pipeline has decode() write the
pixels into a folder of its own once, and open() maps them from there.
"""

import difflib
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from unrelearn.advice import typed
from unrelearn.data import ImageData, ImageSet, MappedImages, names_what_can_not_be_read
from unrelearn.errors import UsageError
from unrelearn.ranges import ImageSize

WIDTH, HEIGHT = 178, 218  # of every aligned image
TRAIN, TEST = "0", "2"  # in list_eval_partition; "1" is validation
LISTS = ("list_attr_celeba", "list_eval_partition")
CHUNK = 1024  # images in memory at a time


@dataclass(frozen=True)
class Lists:
    """What the two lists say.

    Args:
        names: the attributes, in the order of their columns.
        attributes: file name -> one character per attribute, "1" or "0".
        partition: file name -> "0", "1" or "2".
        problems: what is wrong with them, one line each; the other fields are then of no use.
    """

    names: list[str]
    attributes: dict[str, str]
    partition: dict[str, str]
    problems: list[str]


class CelebA:
    """162,770 training and 19,962 test images, uint8 (N, 3, image_size, image_size) in [0, 255], on
    disk.

    Args: root: img_align_celeba/ (images, also one folder deeper), list_attr_celeba and
        list_eval_partition (.txt as
            published or .csv as on Kaggle) are looked for in root/celeba, then in root itself.
        condition: 1 to 6 attributes. With n of them there are 2**n classes; the first is the most
            significant bit.
        image_size: height and width in pixels.
        crop: side in pixels of the square cut from the centre of the 178x218 image and resized
            (bicubic, antialiased).
        skip_broken: leave out images that can not be decoded, instead of refusing to go on.
    """

    channels = 3
    horizontal_flip = True

    def __init__(
        self,
        root: str,
        condition: list[str],
        image_size: ImageSize = 64,
        crop: Annotated[int, Field(ge=1, le=178)] = 178,
        skip_broken: bool = False,
    ):
        self.root = Path(root).expanduser()
        self.condition = condition
        self.image_size = image_size
        self.crop = crop
        self.skip_broken = skip_broken

    # what can be asked for

    @property
    def _values(self) -> list[tuple[int, ...]]:
        """The attributes' values, 0 or 1, of each class."""
        return list(itertools.product((0, 1), repeat=len(self.condition)))

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._signed(values) for values in self._values)

    @property
    def groups(self) -> dict[str, list[int]]:
        """What `forget=` may name -> its classes: every signed combination of some or all of the
        attributes, in the order of the condition ("+Male", "-Male", "-Male+Smiling"), and "Male"
        for "+Male"."""
        groups = {}
        for signs in itertools.product((None, 0, 1), repeat=len(self.condition)):
            groups[self._signed(signs)] = [
                label
                for label, values in enumerate(self._values)
                if all(sign in (None, value) for sign, value in zip(signs, values, strict=True))
            ]
        del groups[""]  # no attribute at all: every class
        return groups | {name: groups[f"+{name}"] for name in self.condition}

    def counterpart(self, label: int, forgotten: list[int]) -> int:
        """The retained class under which DiMUM's alternative images for `label` are taken; `label`
        itself if retained.

        It differs from `label` in as few attributes as possible. Among several, attributes with one
        value in all the
        forgotten classes are changed before others, then those that stand first in the condition:
        with +Male forgotten, +Male+Smiling becomes -Male+Smiling; with +Male+Smiling alone
        forgotten too.

        Args:
            forgotten: not every class.
        """
        values = self._values
        common = {
            place
            for place, column in enumerate(zip(*(values[c] for c in forgotten), strict=True))
            if len(set(column)) == 1
        }

        def cost(other: int) -> tuple:
            changed = [
                place
                for place, pair in enumerate(zip(values[label], values[other], strict=True))
                if len(set(pair)) == 2
            ]
            return len(changed), len(set(changed) - common), changed

        return min((c for c in range(len(values)) if c not in forgotten), key=cost)

    def _signed(self, signs: tuple[int | None, ...]) -> str:
        return "".join(
            "-+"[sign] + name
            for sign, name in zip(signs, self.condition, strict=True)
            if sign is not None
        )

    # what is there

    @names_what_can_not_be_read
    def check(self) -> list[str]:
        problems = []
        if not isinstance(self.image_size, int) or self.image_size < 1:
            problems.append(
                f"dataset.image_size={self.image_size}: must be a positive number of pixels; "
                "type dataset.image_size=64"
            )
        if not isinstance(self.crop, int) or not 1 <= self.crop <= WIDTH:
            problems.append(
                f"dataset.crop={self.crop}: must be 1 to {WIDTH} pixels, the images are"
                f" {WIDTH}x{HEIGHT}; type dataset.crop={WIDTH}"
            )
        if not 1 <= len(self.condition) <= 6:
            problems.append(
                f"{self._given}: {len(self.condition)} attributes, must be 1 to 6; "
                f"type {typed({'dataset.condition': self.condition[:6] or ['Male', 'Smiling']})}"
            )
        if len(set(self.condition)) < len(self.condition):
            problems.append(
                f"{self._given}: names an attribute twice; "
                f"type {typed({'dataset.condition': list(dict.fromkeys(self.condition))})}"
            )
        missing = (
            ["img_align_celeba/ (img_align_celeba.zip unpacked)"] if self._folder is None else []
        )
        missing += [f"{name}.txt" for name in LISTS if self._list(name) is None]
        if missing:
            return [
                *problems,
                (
                    f"dataset.root={self.root}: missing {', '.join(missing)}; put them into"
                    f" {self.root / 'celeba'}, or type dataset.root=/path for a folder which holds"
                    " them"
                ),
            ]
        problems += self._lists.problems or self._check_names()
        return problems or self._check_images()

    @names_what_can_not_be_read
    def fingerprint(self) -> str:
        """sha256 over the arguments, what the two lists say, and the name and size in bytes of
        every image.

        The images themselves are not read: one that is replaced by another of the same size goes
            unnoticed.
        """
        if problems := self.check():
            raise UsageError(problems)
        with os.scandir(self._folder) as entries:
            sizes = {
                entry.name: entry.stat().st_size
                for entry in entries
                if entry.name in self._lists.partition
            }
        digest = hashlib.sha256(
            repr(
                (
                    "celeba",
                    self.crop,
                    self.image_size,
                    self.condition,
                    self.skip_broken,
                    self._lists.names,
                )
            ).encode()
        )
        for name, values in sorted(self._lists.attributes.items()):
            digest.update(
                f"{name} {values} {self._lists.partition[name]} {sizes.get(name)}\n".encode()
            )
        return digest.hexdigest()

    def num_images(self) -> int:
        """How many training and test images there are; reads the lists only. For a data set whose
        check() is [].
        """
        return len(self._images[0])

    # the pixels

    def decode(self, folder: Path, progress: Callable[[int], None]) -> int:
        """Decode every training and test image, in the order of their names, into folder/images.npy
        and labels.npz.

        Args:
            folder: an existing folder. What an interrupted call left there is overwritten.
            progress: called with the number of images decoded since its last call.

        Returns:
            How many broken images were left out; 0 unless skip_broken.

        Raises:
            UsageError: what check() says; or images are broken, all of them in one line.
        """
        if problems := self.check():
            raise UsageError(problems)
        names, labels, partition = self._images
        images = self._folder
        broken: dict[int, str] = {}
        # Written rather than mapped: the memory stays that of one chunk, and a full disk is an
        # error instead of a crash.
        with (
            open(folder / "images.npy", "wb") as file,
            ThreadPoolExecutor() as pool,
        ):  # PIL works outside the interpreter lock
            shape = (3, self.image_size, self.image_size)
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (len(names), *shape)}
            )
            for start in range(0, len(names), CHUNK):
                chunk = np.zeros(
                    (min(CHUNK, len(names) - start), *shape), dtype=np.uint8
                )  # a broken image stays black
                for place, reason in enumerate(
                    pool.map(
                        self._decode,
                        [images / name for name in names[start : start + CHUNK]],
                        chunk,
                    ),
                    start,
                ):
                    if reason:
                        broken[place] = reason
                file.write(chunk.data)
                progress(len(chunk))
        if broken and not self.skip_broken:
            raise UsageError(
                f"dataset.root={self.root}: {len(broken)} of {len(names)} images in {images} can"
                f" not be used: {_some([names[i] for i in broken])}; the first"
                f" {next(iter(broken.values()))}. Replace them. Type dataset.skip_broken=true to"
                " leave them out"
            )
        partition = partition.copy()
        partition[list(broken)] = -1
        if problems := self._check_classes(labels, partition):
            raise UsageError(problems)
        np.savez(folder / "labels.npz", labels=labels, partition=partition)
        return len(broken)

    def open(self, folder: Path) -> ImageData:
        """What decode() wrote into folder. The images stay there and are read when they are
        indexed.
        """
        # "c", a private copy of what is written to: torch warns of tensors that must not be written
        # to
        store = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
        with np.load(folder / "labels.npz") as arrays:
            labels, partition = (torch.from_numpy(arrays[name]) for name in ("labels", "partition"))

        def part(number: str) -> ImageSet:
            rows = torch.where(partition == int(number))[0]
            return ImageSet(MappedImages(store, rows), labels[rows])

        return ImageData(part(TRAIN), part(TEST), self.class_names)

    def _decode(self, path: Path, out: np.ndarray) -> str | None:
        """Fill out, uint8 (3, image_size, image_size); or say why not."""
        left, top = (WIDTH - self.crop) // 2, (HEIGHT - self.crop) // 2
        try:
            with Image.open(path) as file:
                if file.size != (WIDTH, HEIGHT):
                    return f"is {file.width}x{file.height} instead of {WIDTH}x{HEIGHT}"
                image = file.convert("RGB").crop((left, top, left + self.crop, top + self.crop))
        except Exception as error:  # broken files raise almost anything in PIL
            return f"can not be decoded ({error})"
        size = (self.image_size, self.image_size)
        out[:] = np.asarray(image.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        return None

    # the files

    @property
    def _tops(self) -> tuple[Path, Path]:
        return self.root / "celeba", self.root

    @property
    def _folder(self) -> Path | None:
        """Of the images. Kaggle's archive unpacks into a folder of the same name within."""
        folders = [
            top / name
            for top in self._tops
            for name in ("img_align_celeba/img_align_celeba", "img_align_celeba")
        ]
        return next((folder for folder in folders if folder.is_dir()), None)

    def _list(self, name: str) -> Path | None:
        paths = [top / f"{name}{suffix}" for top in self._tops for suffix in (".txt", ".csv")]
        return next((path for path in paths if path.is_file()), None)

    @cached_property
    def _lists(self) -> Lists:
        """Read once: 0.2 million lines."""
        attr, split = (self._list(name) for name in LISTS)
        lines, split_lines = _fields(attr), _fields(split)
        count = None if attr.suffix == ".csv" else next(lines, [])
        names = next(lines, [])
        names = (
            names[1:] if attr.suffix == ".csv" else names
        )  # in a csv file the first column has a name as well
        if split.suffix == ".csv":
            next(split_lines, None)
        attributes, problems = _table(lines, len(names), {"-1": "0", "1": "1"})
        partition, split_problems = _table(split_lines, 1, {"0": "0", "1": "1", "2": "2"})
        problems = [f"{attr} {problem}" for problem in problems] + [
            f"{split} {problem}" for problem in split_problems
        ]
        if not problems and count not in (None, [str(len(attributes))]):
            problems = [
                f"{attr} says '{' '.join(count)[:40]}' in its first line but lists"
                f" {len(attributes)} image(s)"
            ]
        for first, second, path, other in (
            (attributes, partition, attr, split),
            (partition, attributes, split, attr),
        ):
            if not problems and (alone := sorted(first.keys() - second.keys())):
                problems.append(
                    f"{path} lists {len(alone)} image(s) that {other} lacks: {_some(alone)}"
                )
        give = (
            "replace it by the published file, or type dataset.root=/path for a folder which holds"
            " that"
        )
        return Lists(
            names,
            attributes,
            partition,
            [f"dataset.root={self.root}: {problem}; {give}" for problem in problems],
        )

    @cached_property
    def _images(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """File names of the training and test images, sorted; labels int64 (N,); partition int64
        (N,), 0 or 2.
        """
        columns = [self._lists.names.index(name) for name in self.condition]
        names = sorted(
            name for name, part in self._lists.partition.items() if part in (TRAIN, TEST)
        )
        labels = [
            int("".join(self._lists.attributes[name][column] for column in columns), 2)
            for name in names
        ]
        return (
            names,
            np.array(labels, dtype=np.int64),
            np.array([int(self._lists.partition[name]) for name in names]),
        )

    @property
    def _given(self) -> str:
        return f"dataset.condition=[{','.join(self.condition)}]"

    def _check_names(self) -> list[str]:
        known = self._lists.names
        unknown = [name for name in self.condition if name not in known]
        if not unknown:
            return []
        close = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.5) for name in unknown}
        meant = [guess for name in self.condition for guess in close.get(name, [name])] or known[:1]
        return [
            f"{self._given}: no attribute {', '.join(unknown)}; allowed: {', '.join(known)}. "
            f"Type {typed({'dataset.condition': list(dict.fromkeys(meant))})}"
        ]

    def _check_images(self) -> list[str]:
        names, labels, partition = self._images
        there = set(os.listdir(self._folder))  # one listing, not a question per image
        if missing := [name for name in names if name not in there]:
            return [
                f"dataset.root={self.root}: {self._folder} lacks {len(missing)} of {len(names)}"
                f" images: {_some(missing)}; unpack img_align_celeba.zip there again, or type"
                " dataset.root=/path for a folder which holds them"
            ]
        return self._check_classes(labels, partition)

    def _check_classes(self, labels: np.ndarray, partition: np.ndarray) -> list[str]:
        """A class without images can be neither trained nor measured."""
        return [
            f"{self._given}: {', '.join(empty)} without a {word} image; type"
            " 'dataset.condition=[Male,Smiling]', or fewer or more frequent attributes"
            for word, part in (("training", TRAIN), ("test", TEST))
            if (
                empty := [
                    name
                    for label, name in enumerate(self.class_names)
                    if label not in labels[partition == int(part)]
                ]
            )
        ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _fields(path: Path) -> Iterator[list[str]]:
    """The columns of each line that is not blank: split at commas in a csv file, else at spaces."""
    separator = "," if path.suffix == ".csv" else None
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip():
                yield (
                    [field.strip() for field in line.split(separator)]
                    if separator
                    else line.split()
                )


def _table(
    lines: Iterator[list[str]], columns: int, letters: dict[str, str]
) -> tuple[dict[str, str], list[str]]:
    """First column -> the other columns as one letter each; and what is wrong, one line for each
    kind.
    """
    table: dict[str, str] = {}
    wrong: dict[str, list[str]] = {
        "another number of columns": [],
        "an unknown value": [],
        "a name for the second time": [],
    }
    for name, *values in lines:
        if len(values) != columns:
            wrong["another number of columns"].append(
                f"{name} has {len(values)} values, not {columns}"
            )
        elif not letters.keys() >= set(values):
            odd = next(value for value in values if value not in letters)
            wrong["an unknown value"].append(f"{name} has '{odd[:20]}', not {' or '.join(letters)}")
        elif name in table:
            wrong["a name for the second time"].append(f"{name} again")
        else:
            table[name] = "".join([letters[value] for value in values])
    return table, [
        f"has {kind} in {len(found)} line(s): {found[0]}" for kind, found in wrong.items() if found
    ]
