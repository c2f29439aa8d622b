"""Tables: rows of columns, continuous or categorical. What vertically split data are made of.

A data set of tables is one file here and one yaml, as of images, and offers `check`, `fingerprint`
and

    load() -> TableData
    columns: tuple[Column, ...]       known without loading
    image_size: int | None            where columns are pixels, row by row
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unrelearn.advice import problem
from unrelearn.data import ImageSet
from unrelearn.errors import UsageError
from unrelearn.ranges import Share


@dataclass(frozen=True)
class Column:
    """
    Args:
        values: of a categorical column; () if it is continuous.
        public: (location, scale), known without looking at the rows; None if nobody knows them.
        bounds: (low, high), between which values are known to lie; None if nobody knows them.
    """

    name: str
    values: tuple[float, ...] = ()
    public: tuple[float, float] | None = None
    bounds: tuple[float, float] | None = field(default=None, repr=False)  # nothing of the rows


@dataclass(frozen=True)
class TableData:
    """Rows float32 (N, columns), in the columns' own units; of a category its value."""

    train: Tensor
    test: Tensor


class Tables:
    """What every data set of tables has.

    Attributes:
        target: name of the column that a classifier is to predict; None: none.
        party_columns: names of each party's columns, for gan.partition=columns.
        bounded: whether values, less location, over scale, lie in [-1, 1].
    """

    horizontal_flip = False
    class_names: tuple[str, ...] = ()
    columns: tuple[Column, ...]
    image_size: int | None = None
    target: str | None = None
    party_columns: Sequence[Sequence[str]] = ()
    bounded: ClassVar[bool] = False

    def check(self) -> list[str]:
        return []

    def load(self) -> TableData:
        raise NotImplementedError

    def fingerprint(self) -> str:
        """sha256 of columns and rows."""
        data = self.load()
        digest = hashlib.sha256(repr((self.columns, self.target, self.bounded)).encode())
        for part in (data.train, data.test):
            digest.update(repr(tuple(part.shape)).encode() + part.numpy().tobytes())
        return digest.hexdigest()


def split(rows: Tensor, test_share: float) -> TableData:
    """A drawn part of the rows, always the same, is kept for testing."""
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(rows)))
    count = round(test_share * len(rows))
    return TableData(rows[order[count:].sort().values], rows[order[:count].sort().values])


class PixelTables(Tables):
    """Images as tables: a column a pixel, values in [0, 255]."""

    bounded = True

    def __init__(self, image_size: int):
        self.image_size = image_size
        places = [(y, x) for y in range(image_size) for x in range(image_size)]
        self.columns = tuple(
            Column(f"y{y}x{x}", public=(127.5, 127.5), bounds=(0.0, 255.0)) for y, x in places
        )


def pixels(images: ImageSet) -> Tensor:
    """Images uint8 (N, 1, H, W) -> rows float32 (N, H * W)."""
    return images.images[:].flatten(1).float()


@dataclass(eq=False)
class Table(Tables):
    """Any CSV file with a line of names, separated by commas or semicolons.

    Args:
        root: the file; or a list of them, one a party, whose rows are the same individuals.
        names: of the columns that are used, in order; None: all.
        categorical: names of those that are categories.
        target: name of the categorical column that a classifier is to predict.
        test_share: of the rows, kept for measuring.
        parties: names of each party's columns, for gan.partition=columns; of several files it is
            the files that say so.
        bounds: (low, high) of columns, known without looking at the rows, which
            gan.statistics=dp needs of all that are no categories.
    """

    public: ClassVar[dict[str, tuple[float, float]]] = {}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}  # bounds of a known data set

    root: str | list[str]
    names: list[str] | None = None
    categorical: list[str] | None = None
    target: str | None = None
    test_share: Share = 0.2
    parties: list[list[str]] | None = None
    bounds: dict[str, list[float]] | None = None

    def __post_init__(self) -> None:
        roots = self.root if isinstance(self.root, list) else [self.root]
        self.files = [Path(one).expanduser() for one in roots]
        self.party_columns = self.parties or []
        self.known: dict[str, Sequence[float]] = {**self.ranges, **(self.bounds or {})}
        self._rows: Tensor | None = None

    def check(self) -> list[str]:
        """Also of the rows, which are few enough to be read."""
        for file in self.files:
            if not file.is_file():
                why = "no such file; a CSV file with a line of names"
                return [problem("dataset.root", file, why, "Type dataset.root=/path/table.csv")]
        try:
            self._read()
        except UsageError as error:
            return error.problems
        return []

    def load(self) -> TableData:
        return split(self._read(), self.test_share)

    def _read(self) -> Tensor:
        """All rows; sets the columns."""
        if self._rows is not None:
            return self._rows
        import pandas as pd

        frames = [pd.read_csv(file, sep=None, engine="python") for file in self.files]
        lengths, names = [len(f) for f in frames], [str(c) for f in frames for c in f.columns]
        if len(set(lengths)) > 1:
            why = f"parties must hold the same rows, and these have {lengths}"
            raise UsageError(problem("dataset.root", _list(self.files), why, "Align the files"))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            why = f"a column has one party, and {', '.join(twice)} is in two"
            raise UsageError(problem("dataset.root", _list(self.files), why, "Rename one of them"))
        if len(frames) > 1:
            self.party_columns = [[*map(str, frame.columns)] for frame in frames]
        whole = pd.concat(frames, axis=1)
        chosen = self.names or names
        given = (
            ("names", chosen),
            ("categorical", self.categorical or []),
            ("bounds", [*self.known]),
        )
        for key, listed in given:
            if unknown := [name for name in listed if name not in names]:
                why = f"there is no column {', '.join(unknown)}; there are {', '.join(names)}"
                key = f"dataset.{key}"
                raise UsageError(problem(key, _list(listed), why, {key: names[:2]}))
        for name, pair in self.known.items():
            if len(pair) != 2 or not pair[0] < pair[1]:
                key, why = f"dataset.bounds.{name}", "must be two numbers, the lower one first"
                raise UsageError(problem(key, _list(pair), why, {key: [0, 100]}))
        values = whole[chosen].apply(pd.to_numeric, errors="coerce")
        if bad := [str(name) for name in chosen if values[name].isna().any()]:
            why = f"must hold numbers alone, and {', '.join(bad)} does not"
            raise UsageError(problem("dataset.names", _list(chosen), why, "Leave it out"))
        self._rows = torch.tensor(values.to_numpy(), dtype=torch.float32)
        self.columns = tuple(self._column(name, i) for i, name in enumerate(chosen))
        return self._rows

    def _column(self, name: str, place: int) -> Column:
        assert self._rows is not None
        values, bounds = (), None
        if name in (self.categorical or []):
            values = tuple(self._rows[:, place].unique().tolist())
        if name in self.known:
            low, high = self.known[name]
            bounds = float(low), float(high)
        return Column(name, values, self.public.get(name), bounds)


def _list(items: Sequence[object]) -> str:
    return f"[{','.join(map(str, items))}]"
