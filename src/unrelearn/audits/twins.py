"""Records that stand in a table twice: removing one of them removes nothing."""

import numpy as np


def twins(records: np.ndarray, target: int) -> np.ndarray:
    """Rows that equal the target, without itself."""
    same = (records == records[target]).all(1)
    same[target] = False
    return np.flatnonzero(same)


def duplicated(records: np.ndarray) -> np.ndarray:
    """Which of (N, D) records have a twin, bool (N,)."""
    _, group, sizes = np.unique(records, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(sizes[group.ravel()] > 1)
