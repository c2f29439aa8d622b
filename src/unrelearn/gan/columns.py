"""Who holds which columns, and how rows become what generators make: scaled, and one-hot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unrelearn.advice import problem
from unrelearn.errors import UsageError


class Held(Protocol):
    """A column, as unrelearn.data.table has it."""

    @property
    def name(self) -> str: ...
    @property
    def values(self) -> tuple[float, ...]: ...
    @property
    def public(self) -> tuple[float, float] | None: ...
    @property
    def bounds(self) -> tuple[float, float] | None: ...


class HeldTable(Protocol):
    @property
    def columns(self) -> Sequence[Held]: ...
    @property
    def image_size(self) -> int | None: ...
    @property
    def party_columns(self) -> Sequence[Sequence[str]]: ...


def partition(kind: str, table: HeldTable) -> list[list[int]]:
    """The columns of each party, by their places in the table.

    kind: halves: the first and the second half, of an image top and bottom; left_right: of an
    image; interleaved: every other one; columns: as the data set lists them.

    Raises:
        UsageError: columns can not be shared like this.
    """
    names, key = [column.name for column in table.columns], "gan.partition"
    count, instead = len(names), {key: "halves"}
    if kind == "halves":
        return [[*range(count // 2)], [*range(count // 2, count)]]
    if kind == "interleaved":
        return [[*range(0, count, 2)], [*range(1, count, 2)]]
    if kind == "left_right":
        if table.image_size is None:
            raise UsageError(problem(key, kind, "these columns are no pixels", instead))
        size, half = table.image_size, table.image_size // 2
        left = [place for place in range(count) if place % size < half]
        return [left, sorted({*range(count)} - {*left})]
    listed = [name for part in table.party_columns for name in part]
    if not listed:
        why = "the data set lists no columns of parties"
        raise UsageError(problem(key, kind, why, instead))
    once = "List every column once in dataset.parties"
    for name in dict.fromkeys([*listed, *names]):
        if name not in names:
            raise UsageError(problem(key, kind, f"there is no column {name}", once))
        if listed.count(name) != 1:
            where = "two parties" if name in listed else "no party"
            raise UsageError(problem(key, kind, f"column {name} is in {where}", once))
    return [[names.index(name) for name in part] for part in table.party_columns]


@dataclass(frozen=True)
class Encoding:
    """Rows in their own units <-> what generators make.

    Args:
        values: of each column; () if it is continuous.
        location, scale: of each column.
    """

    values: tuple[tuple[float, ...], ...]
    location: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def of(cls, columns: Sequence[Held], rows: Tensor | None) -> "Encoding":
        """rows (N, columns): whose means and deviations are used; None: what is public."""
        scaling = []
        for place, column in enumerate(columns):
            at, spread = column.public or (0.0, 1.0)
            if rows is not None:
                at, spread = rows[:, place].mean().item(), rows[:, place].std().item()
            scaling.append((at, spread or 1.0))  # a constant column
        return cls.scaled(columns, scaling)

    @classmethod
    def scaled(cls, columns: Sequence[Held], scaling: list[tuple[float, float]]) -> "Encoding":
        """scaling: (location, scale) of each column."""
        location, scale = zip(*scaling, strict=True)
        return cls(tuple(c.values for c in columns), location, scale)

    @property
    def widths(self) -> tuple[int, ...]:
        """Places of each column: a categorical one has as many as values."""
        return tuple(max(1, len(values)) for values in self.values)

    def of_columns(self, places: list[int]) -> "Encoding":
        parts = (self.values, self.location, self.scale)
        chosen: list = [tuple(part[place] for place in places) for part in parts]
        return Encoding(*chosen)

    def encode(self, rows: Tensor) -> Tensor:
        """(..., columns) -> (..., places)."""
        parts = []
        for place, values in enumerate(self.values):
            column = rows[..., place : place + 1]
            if values:
                parts.append((column == column.new_tensor(values)).to(rows.dtype))
            else:
                parts.append((column - self.location[place]) / self.scale[place])
        return torch.cat(parts, -1)

    def decode(self, encoded: Tensor) -> Tensor:
        """(..., places) -> (..., columns)."""
        parts = []
        for place, part in enumerate(encoded.split(list(self.widths), dim=-1)):
            if self.values[place]:
                parts.append(part.new_tensor(self.values[place])[part.argmax(-1, keepdim=True)])
            else:
                parts.append(part * self.scale[place] + self.location[place])
        return torch.cat(parts, -1)
