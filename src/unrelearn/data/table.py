"""Tables: rows of columns, continuous or categorical. What vertically split data are made of.

A data set of tables is one file here and one yaml, as of images, and offers `check`, `fingerprint`
and

    load() -> TableData
    columns: tuple[Column, ...]       known without loading
    image_size: int | None            where columns are pixels, row by row
    images: a data set of images | None   whose images the rows are, in the same order
"""

import csv
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unrelearn.advice import problem
from unrelearn.data import ImageSet
from unrelearn.errors import UsageError
from unrelearn.ranges import Share

SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Column:
    """
    Args:
        values: of a categorical column; () if it is continuous.
        public: (location, scale), known without looking at the rows; None if nobody knows them.
        bounds: (low, high), between which values are known to lie; None if nobody knows them.
        read: whether the values of a category were read from the rows, which no accountant sees.
    """

    name: str
    values: tuple[float, ...] = ()
    public: tuple[float, float] | None = None
    # what is no part of a fingerprint, as it changes nothing of the rows
    bounds: tuple[float, float] | None = field(default=None, repr=False)
    read: bool = field(default=False, repr=False)


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
    images: Any = None
    target: str | None = None
    party_columns: Sequence[Sequence[str]] = ()
    bounded: ClassVar[bool] = False

    def check(self) -> list[str]:
        return []

    def load(self) -> TableData:
        raise NotImplementedError

    def training_rows(self) -> int:
        """How many there are."""
        return len(self.load().train)

    def fingerprint(self) -> str:
        """sha256 of columns and rows."""
        data = self.load()
        digest = hashlib.sha256(repr((self.columns, self.target, self.bounded)).encode())
        for part in (data.train, data.test):
            digest.update(repr(tuple(part.shape)).encode() + part.numpy().tobytes())
        return digest.hexdigest()


def split(rows: Tensor, test_share: float) -> TableData:
    """A drawn part of the rows, always the same, is kept for testing.

    Raises: UsageError: a part would have none.
    """
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(rows)))
    count = round(test_share * len(rows))
    if not 0 < count < len(rows):
        key, why = "dataset.test_share", f"leaves {count} of {len(rows)} rows to test on"
        more = "Type dataset.root=/path/table.csv of more rows"
        raise UsageError(problem(key, test_share, why, {key: 0.5} if len(rows) > 1 else more))
    return TableData(rows[order[count:].sort().values], rows[order[:count].sort().values])


class PixelTables(Tables):
    """Images as tables: a column a pixel, values in [0, 255]."""

    bounded = True

    def __init__(self, images: Any):
        self.images, self.image_size = images, images.image_size
        image_size = images.image_size
        places = [(y, x) for y in range(image_size) for x in range(image_size)]
        self.columns = tuple(
            Column(f"y{y}x{x}", public=(127.5, 127.5), bounds=(0.0, 255.0)) for y, x in places
        )


def pixels(images: ImageSet) -> Tensor:
    """Images uint8 (N, 1, H, W) -> rows float32 (N, H * W)."""
    return images.images[:].flatten(1).float()


@dataclass(eq=False)
class Table(Tables):
    """Any CSV file with a line of names, separated by commas, semicolons or tabs.

    Args:
        root: the file; or a list of them, one a party, whose rows are the same individuals.
        names: of the columns that are used, in order; None: all.
        categorical: categories and their values, known without looking at the rows; of none, or of
            a list of names, they are read from the rows.
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
    categorical: dict[str, list[float]] | list[str] | None = None
    target: str | None = None
    test_share: Share = 0.2
    parties: list[list[str]] | None = None
    bounds: dict[str, list[float]] | None = None

    def __post_init__(self) -> None:
        roots = self.root if isinstance(self.root, list) else [self.root]
        self.files = [Path(one).expanduser() for one in roots]
        self.party_columns = self.parties or []
        self.known: dict[str, Sequence[float]] = {**self.ranges, **(self.bounds or {})}
        given = self.categorical or {}
        listed = given if isinstance(given, dict) else {name: [] for name in given}
        self.categories = {name: _exact(values) for name, values in listed.items()}
        self._rows: Tensor | None = None

    def check(self) -> list[str]:
        """Also of the rows, which are few enough to be read."""
        for file in self.files or [Path()]:
            if not file.is_file():
                why = "no such file; a CSV file with a line of names"
                return [problem("dataset.root", file, why, "Type dataset.root=/path/table.csv")]
        try:
            self.load()
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

        whole = self._joined()
        names = [str(name) for name in whole.columns]
        chosen = self.names or names
        self._check_names(names, chosen)
        if len(self.files) > 1:
            parties = self.party_columns
            self.party_columns = [[name for name in part if name in chosen] for part in parties]
        values = whole[chosen].apply(pd.to_numeric, errors="coerce").astype("float32")
        if bad := [name for name in chosen if not np.isfinite(values[name]).all()]:
            why = f"must hold finite numbers alone, and {', '.join(bad)} does not"
            raise UsageError(_without(bad, chosen, why))
        for name in filter(self.categories.get, chosen):
            listed = self.categories[name]
            if other := {*values[name].unique().tolist()} - {*listed}:
                key, why = "dataset.categorical", f"the rows have {min(other):g} as well"
                instead = {key: {name: sorted({*listed, *other})}}
                raise UsageError(problem(f"{key}.{name}", _list(listed), why, instead))
        self._rows = torch.tensor(values.to_numpy())
        self.columns = tuple(self._column(name, i) for i, name in enumerate(chosen))
        return self._rows

    def _joined(self) -> Any:
        """The columns of all files, side by side; sets those of each party."""
        frames = [_frame(file) for file in self.files]
        lengths, names = [len(f) for f in frames], [str(c) for f in frames for c in f.columns]
        if len(set(lengths)) > 1:
            why = f"parties must hold the same rows, and these have {lengths}"
            raise UsageError(problem("dataset.root", _list(self.files), why, "Align the files"))
        if not lengths[0]:
            why = "there are no rows below the line of names"
            raise UsageError(problem("dataset.root", _list(self.files), why, "Name another file"))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            why = f"a column has one party, and {', '.join(twice)} is in two"
            raise UsageError(problem("dataset.root", _list(self.files), why, "Rename one of them"))
        if len(frames) > 1:
            self.party_columns = [[*map(str, frame.columns)] for frame in frames]
        return frames[0].join(frames[1:])

    def _check_names(self, names: list[str], chosen: list[str]) -> None:
        """Raises: UsageError: a column that is not there, or bounds that are none."""
        given = (
            ("names", chosen),
            ("categorical", [*self.categories]),
            ("bounds", [*self.known]),
        )
        for word, listed in given:
            key = f"dataset.{word}"
            if unknown := [name for name in listed if name not in names]:
                why = f"there is no column {', '.join(unknown)}; there are {', '.join(names)}"
                raise UsageError(problem(key, _list(listed), why, {key: names[:2]}))
        if unnamed := [name for name in chosen if name.startswith("Unnamed: ")]:
            why = f"{', '.join(unnamed)} has no name, as numbers of rows have none"
            raise UsageError(_without(unnamed, chosen, why))
        if len(set(chosen)) < len(chosen):
            once = {"dataset.names": [*dict.fromkeys(chosen)]}
            raise UsageError(problem("dataset.names", _list(chosen), "each once", once))
        categories = [name for name in chosen if name in self.categories]
        if self.target is not None and self.target not in categories:
            why = "is no category; a classifier predicts one"
            instead = {"dataset.target": next(iter(categories), None)}
            raise UsageError(problem("dataset.target", self.target, why, instead))
        for name, pair in self.known.items():
            if len(pair) != 2 or not -math.inf < pair[0] < pair[1] < math.inf:
                key, why = f"dataset.bounds.{name}", "must be two numbers, the lower one first"
                raise UsageError(problem(key, _list(pair), why, {key: [0, 100]}))

    def _column(self, name: str, place: int) -> Column:
        assert self._rows is not None
        values, bounds = self.categories.get(name, ()), None
        read = name in self.categories and not values
        if read:
            values = tuple(self._rows[:, place].unique().tolist())
        if name in self.known:
            low, high = self.known[name]
            bounds = float(low), float(high)
        return Column(name, values, self.public.get(name), bounds, read)


def _exact(values: Sequence[float]) -> tuple[float, ...]:
    """As float32 has them, which rows are."""
    return tuple(dict.fromkeys(np.array(values, np.float32).tolist()))


def _frame(file: Path) -> Any:
    """Raises: UsageError: no table."""
    import pandas as pd

    def read(separator: str, **given: Any) -> Any:
        return pd.read_csv(file, sep=separator, engine="python", **given)

    try:
        # not guessed by pandas, which takes a letter for it where there is one column
        heads = {one: read(one, header=None, nrows=1, dtype=str).iloc[0] for one in SEPARATORS}
        separator = max(heads, key=lambda one: len(heads[one]))
        frame, names = read(separator), heads[separator]
    except (ValueError, csv.Error) as error:
        why = f"is no CSV file with a line of names ({error})"
        raise UsageError(problem("dataset.root", file, why, "Name another file")) from error
    if not isinstance(frame.index, pd.RangeIndex):
        why = "its rows hold more values than its first line has names"
        raise UsageError(problem("dataset.root", file, why, "Name every column in the file"))
    counted = names.tolist() == [str(place) for place in range(len(names))]  # pandas' own names
    if pd.to_numeric(names, errors="coerce").notna().all() and not counted:
        why = "its first line has numbers, where names of columns are read"
        raise UsageError(problem("dataset.root", file, why, "Put a line of names above them"))
    if twice := sorted({*names[names.duplicated() & names.notna()]}):
        why = f"it has two columns called {', '.join(twice)}"
        raise UsageError(problem("dataset.root", file, why, "Rename one of them"))
    return frame


def _without(bad: Sequence[str], chosen: Sequence[str], why: str) -> str:
    """The line of columns that can not be used."""
    others = [name for name in chosen if name not in bad]
    instead = {"dataset.names": others} if others else "Type dataset.root=/path/table.csv"
    return problem("dataset.names", _list(chosen), why, instead)


def _list(items: Sequence[object]) -> str:
    return f"[{','.join(map(str, items))}]"
