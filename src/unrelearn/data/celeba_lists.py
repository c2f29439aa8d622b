"""Where the files of CelebA lie, and what its two lists say: attributes, and parts of the split."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

LISTS = ("list_attr_celeba", "list_eval_partition")


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

    def columns(self, images: list[str]) -> dict[str, np.ndarray]:
        """Attribute -> 0 or 1 of each of these images, int64 (N,)."""
        rows = [[*map(int, self.attributes[name])] for name in images]
        table = np.array(rows, dtype=np.int64).reshape(len(images), len(self.names))
        return dict(zip(self.names, table.T, strict=True))


class Files:
    """In root/celeba, or else in root itself."""

    def __init__(self, root: Path):
        self.tops = (root / "celeba", root)

    @property
    def images(self) -> Path | None:
        """The folder of the images. Kaggle's archive unpacks into one of the same name within."""
        names = ("img_align_celeba/img_align_celeba", "img_align_celeba")
        folders = [top / name for top in self.tops for name in names]
        return next((folder for folder in folders if folder.is_dir()), None)

    def path(self, name: str) -> Path | None:
        """Of a list."""
        paths = [top / f"{name}{suffix}" for top in self.tops for suffix in (".txt", ".csv")]
        return next((path for path in paths if path.is_file()), None)

    def missing(self) -> list[str]:
        """What is not there, in the words of who hands it out."""
        images = ["img_align_celeba/ (img_align_celeba.zip unpacked)"] * (self.images is None)
        return images + [f"{name}.txt" for name in LISTS if self.path(name) is None]

    @cached_property
    def lists(self) -> Lists:
        """Read once: 0.2 million lines."""
        attributes, partition = (self.path(name) for name in LISTS)
        if attributes is None or partition is None:
            raise FileNotFoundError(*self.missing())
        return read_lists(attributes, partition)


def read_lists(attributes: Path, partition: Path) -> Lists:
    """Of the attributes and of the partition, each .txt as published or .csv as on Kaggle."""
    lines, split_lines = _fields(attributes), _fields(partition)
    count = None if attributes.suffix == ".csv" else next(lines, [])
    names = next(lines, [])
    if attributes.suffix == ".csv":  # there the first column has a name as well
        names = names[1:]
    if partition.suffix == ".csv":
        next(split_lines, None)
    values, problems = _table(lines, len(names), {"-1": "0", "1": "1"})
    parts, more = _table(split_lines, 1, {"0": "0", "1": "1", "2": "2"})
    problems = [f"{attributes} {problem}" for problem in problems]
    problems += [f"{partition} {problem}" for problem in more]
    if not problems and count not in (None, [str(len(values))]):
        problems = [
            f"{attributes} says '{' '.join(count)[:40]}' in its first line but lists"
            f" {len(values)} image(s)"
        ]
    problems = problems or _alone(values, parts, attributes, partition)
    problems = problems or _alone(parts, values, partition, attributes)
    return Lists(names, values, parts, problems)


def _alone(first: dict, second: dict, path: Path, other: Path) -> list[str]:
    alone = sorted(first.keys() - second.keys())
    if not alone:
        return []
    return [f"{path} lists {len(alone)} image(s) that {other} lacks: {some(alone)}"]


def some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _fields(path: Path) -> Iterator[list[str]]:
    """The columns of each line that is not blank: split at commas in a csv file, else at spaces."""
    separator = "," if path.suffix == ".csv" else None
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip():
                yield [field.strip() for field in line.split(separator)]


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
            count = f"{name} has {len(values)} values, not {columns}"
            wrong["another number of columns"].append(count)
        elif not letters.keys() >= set(values):
            odd = next(value for value in values if value not in letters)
            wrong["an unknown value"].append(f"{name} has '{odd[:20]}', not {' or '.join(letters)}")
        elif name in table:
            wrong["a name for the second time"].append(f"{name} again")
        else:
            table[name] = "".join([letters[value] for value in values])
    return table, [
        f"has {kind} in {len(each)} line(s): {each[0]}" for kind, each in wrong.items() if each
    ]
