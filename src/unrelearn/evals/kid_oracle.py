"""Kernel distance between generated and real images of the retained classes, in the oracle's features. Not KID proper.

Binkowski et al. 2018 (arXiv 1801.01401): unbiased squared MMD with the kernel (x.y / D + 1)^3, so its expectation does not
depend on N and may come out slightly negative. The standard error is by the jackknife over generated images; the floor
takes real test images for the generated ones.
"""

from torch import Tensor

from unrelearn.evals.evidence import Evidence, spread


def squared_mmd(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Unbiased estimate and its jackknife standard error over x, for features x (N, D) and y (M, D), float64."""
    n, m, d = len(x), len(y), x.shape[1]
    k_xx, k_xy, k_yy = ((p @ q.T / d + 1.0) ** 3 for p, q in ((x, x), (x, y), (y, y)))
    k_xx.fill_diagonal_(0)
    k_yy.fill_diagonal_(0)
    within_y = k_yy.sum() / (m * (m - 1))
    rows, cross = k_xx.sum(1), k_xy.sum(1)
    value = rows.sum() / (n * (n - 1)) + within_y - 2 * cross.sum() / (n * m)
    left_out = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2)) + within_y - 2 * (cross.sum() - cross) / ((n - 1) * m)
    error = ((n - 1) / n * (left_out - left_out.mean()).square().sum()).sqrt()
    return value.item(), error.item()


def run(evidence: Evidence) -> dict:
    reference, result = evidence.real_train.features, {}
    for scale, seen in evidence.retain.items():
        n = min(len(seen.features), len(evidence.real_test.features))
        value, error = squared_mmd(spread(seen.features, n), reference)
        result[scale] = {"value": value, "std": error, "n": n,
                         "floor": squared_mmd(spread(evidence.real_test.features, n), reference)[0]}
    return result
