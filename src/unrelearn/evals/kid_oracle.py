"""Kernel distance between generated and real images of the retained classes, in the oracle's features. Not KID proper.

Binkowski et al. 2018 (arXiv 1801.01401): unbiased squared MMD with the kernel (x.y / D + 1)^3, so its expectation does not
depend on N and may come out slightly negative. Ours: all images at once, where the paper averages over 100 subsets of 1000,
and the standard error by the jackknife over generated images. The floor takes real test images for the generated ones. On
Inception features it is KID, which evals/kid.py takes from here.
"""

from collections.abc import Iterator

from torch import Tensor, cat

from unrelearn.evals.evidence import Evidence, spread
from unrelearn.evals.fd_oracle import Source, features_of

BLOCK = 1 << 24  # kernel values held at once: 128 MiB


def kernel_blocks(x: Tensor, y: Tensor | None = None) -> Iterator[Tensor]:
    """k(x, y) (N, M) a few rows at a time; without y k(x, x), with zeros for k(x_i, x_i)."""
    other = x if y is None else y
    rows = max(1, BLOCK // len(other))
    for start in range(0, len(x), rows):
        block = (x[start:start + rows] @ other.T / x.shape[1] + 1.0) ** 3
        if y is None:
            block.diagonal(start).zero_()
        yield block


LARGEST_REFERENCE = 10_000  # the estimate is unbiased at any size, and the time grows with its square


def within(y: Tensor) -> float | None:
    """Mean of k over pairs of different rows."""
    m = len(y)
    return (sum(block.sum() for block in kernel_blocks(y)) / (m * (m - 1))).item() if m > 1 else None


def squared_mmd(x: Tensor, y: Tensor, within_y: float | None = None) -> tuple[float | None, float | None]:
    """Unbiased estimate and its jackknife standard error over x, for features x (N, D) and y (M, D), float64.

    The estimate needs two rows of each, the error three of x; else None. within_y: within(y), where it is known already.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        return None, None
    within_y = within(y) if within_y is None else within_y
    rows, cross = (cat([block.sum(1) for block in kernel_blocks(x, other)]) for other in (None, y))
    value = rows.sum() / (n * (n - 1)) + within_y - 2 * cross.sum() / (n * m)
    if n < 3:
        return value.item(), None
    left_out = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2)) + within_y - 2 * (cross.sum() - cross) / ((n - 1) * m)
    error = ((n - 1) / n * (left_out - left_out.mean()).square().sum()).sqrt()
    return value.item(), error.item()


def compare(evidence: Evidence, source: Source) -> dict:
    reference, test = (features_of(seen, source) for seen in (evidence.real_train, evidence.real_test))
    reference = spread(reference, LARGEST_REFERENCE)
    within_reference, result = within(reference), {}
    for scale, seen in evidence.retain.items():
        n = min(len(seen.labels), len(test))
        value, error = squared_mmd(spread(features_of(seen, source), n), reference, within_reference)
        result[scale] = {"value": value, "std": error, "n": n,
                         "floor": squared_mmd(spread(test, n), reference, within_reference)[0]}
    return result


def run(evidence: Evidence) -> dict:
    return compare(evidence, "oracle")
