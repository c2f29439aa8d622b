"""Density and coverage: precision and recall that a few odd images can not spoil; retained classes.

Naeem et al. 2020 (arXiv 2002.09797): balls around the real training images only, reaching as far as
the k-th nearest real neighbour. Density is the number of balls a generated image lies in, divided
by k, on average (1 is expected of real images; it may be more); coverage is the share of balls that
hold a generated image (1 - 1/2^k is expected of many real images). The paper has k = 5. Balls are
closed, as in evals/precision_recall.py; the authors' code leaves the border out, which tells only
where images repeat.
"""

from torch import Tensor

from unrelearn.evals.evidence import Evidence, share
from unrelearn.evals.fd_oracle import Source
from unrelearn.evals.precision_recall import hits, measured
from unrelearn.ranges import Count


def density_coverage(real: Tensor, generated: Tensor, k: Count) -> tuple[float, float]:
    """Of features (N, D) and (M, D), float64, N > k."""
    of_image, of_ball = hits(real, generated, k)
    return of_image.double().mean().item() / k, share(of_ball > 0)


def run(evidence: Evidence, features: Source, k: int) -> dict:
    return measured(evidence, features, k, ("density", "coverage"), density_coverage)
