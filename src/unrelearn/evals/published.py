"""What measurements of published tables read, and how they say what they found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class PublishedTables:
    """Rows as a model sees them: continuous columns scaled, categorical ones one-hot; the scale is
    that of the real training rows, for all tables alike.

    Args:
        real: what tables are compared with, a table a replica, (R, N, d).
        test: real rows that no training saw, (M, d).
        tables: published, (R, N', d).
        parties: places of each party's columns among the d.
        target: places of the column to predict, if there is one.
        names: of columns, each with its places and whether it is categorical.
        real_features, features: of rows that are images, as the oracle sees them: of real ones and
            of each table, (R, N, F) and (R, N', F), where a measurement reads them.
    """

    real: Tensor
    test: Tensor
    tables: Tensor
    parties: list[list[int]]
    target: list[int]
    names: list[tuple[str, list[int], bool]]
    real_features: Tensor | None = None
    features: Tensor | None = None

    def each(self, measure: Callable[[Tensor, Tensor], float]) -> dict[str, Any]:
        """Mean, deviation over replicas and the values of measure(real, table)."""
        pairs = zip(self.real, self.tables, strict=True)
        return over_replicas([measure(real, table) for real, table in pairs])


def over_replicas(values: list[float]) -> dict[str, Any]:
    """A table that is not finite has no value; sd is null of a single one."""
    known = [value for value in values if np.isfinite(value)]
    return {
        "value": float(np.mean(known)) if known else None,
        "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": [value if np.isfinite(value) else None for value in values],
    }


def correlations(rows: Tensor) -> Tensor:
    """Pearson's, (d, d); 0 where a column is constant."""
    centred = rows.double() - rows.double().mean(0)
    norms = centred.square().sum(0).sqrt()
    scaled = centred / torch.where(norms > 1e-9, norms, torch.inf)
    return scaled.T @ scaled


def block_error(real: Tensor, table: Tensor, blocks: list[tuple[list[int], list[int]]]) -> float:
    """Mean |difference of correlations| over blocks of pairs of columns, each pair once; nan of a
    table that is not finite, and of no block.
    """
    if not (blocks and table.isfinite().all()):
        return float("nan")
    difference = (correlations(real) - correlations(table)).abs()
    parts = []
    for rows, columns in blocks:
        block = difference[rows][:, columns]
        inner = rows == columns
        parts.append(
            block[tuple(torch.triu_indices(*block.shape, 1))] if inner else block.flatten()
        )
    return torch.cat(parts).mean().item()
