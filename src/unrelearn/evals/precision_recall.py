"""Precision (how many generated images look real) and recall (how many real ones could be
generated), retained classes.

Kynkaanniemi et al. 2019 (arXiv 1904.06991): each image of a set reaches as far as its k-th nearest
neighbour in that set, and the balls together are the set's manifold. Precision is the share of
generated images in the manifold of the real training images, recall the share of real ones in the
manifold of the generated; both sets have the same size. The paper has k = 3, 50,000 images and
VGG-16 features; ours are the oracle's or the Inception network's. Distances in float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unrelearn.evals.evidence import Evidence, share, spread
from unrelearn.evals.fd_oracle import Source, features_of
from unrelearn.ranges import Count

BLOCK = 1 << 24  # distances held at once: 128 MiB


def hits(centres: Tensor, probes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """How many balls each probe lies in (M,), and how many probes lie in each ball (N,).

    The closed ball around each row of centres (N, D) reaches to its k-th nearest other row; probes
    are (M, D); float64.
    """
    of_probe, of_ball = 0, []
    squares, probe_squares = (torch.linalg.vecdot(x, x) for x in (centres, probes))
    # rounding must not move a copy of a centre, or of its neighbour, out of the ball
    slack = 1e-12 * squares.max()
    rows = max(1, BLOCK // max(len(centres), len(probes)))
    for start in range(0, len(centres), rows):
        part = centres[start : start + rows]
        # |y|^2 - 2 c.y: the squared distance less |c|^2, which would stand on both sides of the
        # comparison
        distances = torch.addmm(squares, part, centres.T, alpha=-2)
        distances.diagonal(start).fill_(torch.inf)
        reach = distances.topk(k, dim=1, largest=False).values[:, -1:] + slack
        inside = torch.addmm(probe_squares, part, probes.T, alpha=-2) <= reach
        of_probe = of_probe + inside.sum(0)
        of_ball.append(inside.sum(1))
    return of_probe, torch.cat(of_ball)


def precision_recall(real: Tensor, generated: Tensor, k: int) -> tuple[float, float]:
    """Of features (N, D) and (N, D), float64, N > k."""
    return share(hits(real, generated, k)[0] > 0), share(hits(generated, real, k)[0] > 0)


def measured(
    evidence: Evidence,
    source: Source,
    k: int,
    names: tuple[str, str],
    measure: Callable[[Tensor, Tensor, int], tuple[float, float]],
) -> dict:
    """At each guidance scale two numbers, of features of real training images and of as many
    generated ones; None of no more than k.
    """
    real, result = features_of(evidence.real_train, source), {}
    for scale, seen in evidence.retain.items():
        n = min(len(real), len(seen.labels))
        same = spread(real, n), spread(features_of(seen, source), n)
        values = measure(*same, k) if n > k else (None, None)
        known = dict(zip(names, values, strict=True))
        result[scale] = {**known, "n": n, "k": k, "features": source}
    return result


def run(evidence: Evidence, features: Source, k: Count) -> dict:
    return measured(evidence, features, k, ("precision", "recall"), precision_recall)
