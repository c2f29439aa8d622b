"""What a published set shows, as a vector of a fixed length: for an attack on many replicas.

Tables are (N, D), numbers. Which columns there are, and their ranges, are public: nothing is scaled
by what is in the set itself. Images come as what a classifier sees in them.
"""

from collections.abc import Sequence

import numpy as np

BINS = 45  # of a histogram, as the groundhog toolkit has it
NEAREST = (1, 3, 5, 10, 20, 40)


def naive(table: np.ndarray) -> np.ndarray:
    """Mean, median and variance of each column, (3 D,) (Stadler et al. 2022, "Synthetic data:
    anonymisation groundhog day", arXiv:2011.07018).
    """
    return np.concatenate([table.mean(0), np.median(table, 0), table.var(0)])


def correlations(table: np.ndarray) -> np.ndarray:
    """Pearson correlations of each two columns, (D (D - 1) / 2,); 0 where one is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.atleast_2d(np.corrcoef(table, rowvar=False))
    return np.nan_to_num(matrix[np.triu_indices(table.shape[1], 1)])


def histogram(table: np.ndarray, ranges: Sequence[tuple[float, float]]) -> np.ndarray:
    """Share of rows in each of 45 bins a column, (45 D,), over public ranges; what lies beyond
    counts in the outer bins.
    """
    shares = []
    for column, (low, high) in zip(table.T, ranges, strict=True):
        counts, _ = np.histogram(np.clip(column, low, high), BINS, (low, high))
        shares.append(counts / len(table))
    return np.concatenate(shares)


def nearest(table: np.ndarray, target: np.ndarray, counts: Sequence[int] = NEAREST) -> np.ndarray:
    """Minus the sum of squared distances of the target (D,) to its k nearest rows, for each k: the
    nearer, the higher. A k beyond the table counts all of it.
    """
    squared = np.sort(((table - target) ** 2).sum(1))
    sums = np.cumsum(squared)
    return -np.array([sums[min(k, len(sums)) - 1] for k in counts])


def of_table(
    table: np.ndarray, target: np.ndarray, ranges: Sequence[tuple[float, float]]
) -> np.ndarray:
    """All of the above, one after the other."""
    known = naive(table), correlations(table), histogram(table, ranges), nearest(table, target)
    return np.concatenate(known)


def of_images(probabilities: np.ndarray, seen: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What a classifier sees in published images, (K + F + F (F - 1) / 2 + 6,): the share of each
    class, means and correlations of its features, and how near the target is in these.

    Args:
        probabilities: of classes (N, K).
        seen: features (N, F), and of the target (F,).
    """
    counts = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
    known = counts / len(seen), seen.mean(0), correlations(seen), nearest(seen, target)
    return np.concatenate(known)
