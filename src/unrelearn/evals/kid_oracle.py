"""Kernel distance between generated and real images of the retained classes, in the oracle's
features. Not KID proper.

Binkowski et al. 2018 (arXiv 1801.01401): unbiased squared MMD with the kernel (x.y / D + 1)^3, so
its expectation does not depend on N and may come out slightly negative. Ours: all images at once,
where the paper averages over 100 subsets of 1000, and pairs weighted by class: images are drawn in
equal numbers of each class, so that pairs of one class are rarer than among as many independent
images, and the plain mean over pairs is biased downwards (by 0.03 on the digits, ten standard
errors). With k_ab the mean of k over pairs of an image of class a and one of class b, and pi the
shares of the classes in the reference,

    MMD^2 = sum_ab pi_a pi_b (k_ab(x, x) + k_ab(y, y) - 2 k_ab(x, y)),

pairs of an image with itself left out. The standard error is the delete-one jackknife of stratified
samples (Shao & Tu 1995, section 6.2) over both sides. The floor takes real test images for the
generated ones. On Inception features it is KID, which evals/kid.py takes from here.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, cat

from unrelearn.evals.evidence import Evidence, Predictions, spread
from unrelearn.evals.fd_oracle import Source, features_of

BLOCK = 1 << 24  # kernel values held at once: 128 MiB


def kernel_blocks(x: Tensor, y: Tensor | None = None) -> Iterator[Tensor]:
    """k(x, y) (N, M) a few rows at a time; without y k(x, x), with zeros for k(x_i, x_i)."""
    other = x if y is None else y
    rows = max(1, BLOCK // max(1, len(other)))
    for start in range(0, len(x), rows):
        block = (x[start : start + rows] @ other.T / x.shape[1] + 1.0) ** 3
        if y is None:
            block.diagonal(start).zero_()
        yield block


# the estimate is unbiased at any size, and the time grows with its square
LARGEST_REFERENCE = 10_000


def membership(labels: Tensor, classes: Tensor) -> Tensor:
    """(N, C) float64: 1 where a label is the class."""
    return (labels[:, None] == classes).double()


def within(x: Tensor, member: Tensor) -> Tensor:
    """(N, C): the sum of k over the pairs of each row with the other rows of each class."""
    return cat([member[:0], *(block @ member for block in kernel_blocks(x))])


def between(x: Tensor, member_x: Tensor, y: Tensor, member_y: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C) and (M, C): the sums of k over the pairs of each row of x with y's rows of each class,
    and the other way round.
    """
    of_x, of_y, start = [member_y[:0]], torch.zeros_like(member_y), 0
    for block in kernel_blocks(x, y):
        of_x.append(block @ member_y)
        of_y += block.T @ member_x[start : start + len(block)]
        start += len(block)
    return cat(of_x), of_y


def _means(sums: Tensor, member: Tensor) -> Tensor:
    """(C, C): means of k over pairs of different rows of two classes, from the sums of `within`."""
    n = member.sum(0)
    return member.T @ sums / (torch.outer(n, n) - n.diag()).clamp(min=1)


def _variance(own: Tensor, other: Tensor, member: Tensor, m: Tensor, share: Tensor) -> Tensor:
    """Of the estimate, by the jackknife over one side: what it is without row i differs among the
    rows of a class by this.

    own, other (N, C): the sums of `within` and `between` of this side. m (C): rows of the other
    side. share (C): pi.
    """
    n = member.sum(0)
    pairs = torch.where(member > 0, n - 2, n).clamp(min=1)
    without = (share * (own / pairs - other / m.clamp(min=1))).sum(1) * (
        member @ (-2 * share / (n - 1).clamp(min=1))
    )
    mean = member @ (member.T @ without / n.clamp(min=1))
    return ((member @ ((n - 1) / n.clamp(min=1))) * (without - mean).square()).sum()


def squared_mmd(
    x: Tensor,
    y: Tensor,
    x_labels: Tensor | None = None,
    y_labels: Tensor | None = None,
    within_y: Tensor | None = None,
) -> tuple[float | None, float | None]:
    """Unbiased estimate and its standard error, for features x (N, D) and y (M, D), float64, with
    labels (N,) and (M,).

    Without labels all rows are of one class. Classes of y with fewer than two rows on a side are
    left out; the estimate is None where none is left, the error where one that is left has fewer
    than three rows on a side. within_y: within(y, membership of y's classes in order), where it is
    known already.
    """
    x_labels, y_labels = (
        torch.zeros(len(z), dtype=torch.long) if labels is None else labels
        for z, labels in ((x, x_labels), (y, y_labels))
    )
    classes = y_labels.unique()
    member_x, member_y = membership(x_labels, classes), membership(y_labels, classes)
    n, m = member_x.sum(0), member_y.sum(0)
    share = torch.where((n > 1) & (m > 1), m, 0.0)
    if share.sum() == 0:
        return None, None
    share = share / share.sum()
    within_x, within_y = within(x, member_x), within(y, member_y) if within_y is None else within_y
    of_x, of_y = between(x, member_x, y, member_y)
    cross = member_x.T @ of_x / torch.outer(n, m).clamp(min=1)
    value = share @ (_means(within_x, member_x) + _means(within_y, member_y) - 2 * cross) @ share
    if min(n[share > 0].min(), m[share > 0].min()) < 3:
        return value.item(), None
    variance = _variance(within_x, of_x, member_x, m, share) + _variance(
        within_y, of_y, member_y, n, share
    )
    return value.item(), variance.sqrt().item()


def compare(evidence: Evidence, source: Source) -> dict:
    def rows(seen: Predictions, n: int) -> tuple[Tensor, Tensor]:
        return spread(features_of(seen, source), n), spread(seen.labels, n)

    reference, labels = rows(evidence.real_train, LARGEST_REFERENCE)
    known, result = within(reference, membership(labels, labels.unique())), {}
    for scale, seen in evidence.retain.items():
        n = min(len(seen.labels), len(evidence.real_test.labels))
        (value, error), (floor, floor_error) = (
            squared_mmd(features, reference, asked_for, labels, known)
            for features, asked_for in (rows(seen, n), rows(evidence.real_test, n))
        )
        result[scale] = {
            "value": value,
            "std": error,
            "n": n,
            "reference_n": len(reference),
            "floor": floor,
            "floor_std": floor_error,
        }
    return result


def run(evidence: Evidence) -> dict:
    return compare(evidence, "oracle")
