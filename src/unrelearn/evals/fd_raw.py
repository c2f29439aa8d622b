"""Frechet distance of the columns themselves, of no network's features: never an FID."""

from typing import Any

import numpy as np
from torch import Tensor

from unrelearn.evals.published import PublishedTables


def frechet(real: Tensor, table: Tensor) -> float:
    """Of two normal distributions with the tables' means and covariances (Dowson and Landau 1982),
    by eigenvalues, as covariances of one-hot columns are singular; nan of a table not finite.
    """
    if not table.isfinite().all():
        return float("nan")
    x, y = real.double().numpy(), table.double().numpy()
    a, b = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (x, y))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(min=0)).sum()
    shift = np.square(x.mean(0) - y.mean(0)).sum()
    return float(shift + np.trace(a) + np.trace(b) - 2 * cross)


def run(evidence: PublishedTables) -> dict[str, Any]:
    return evidence.each(frechet)
