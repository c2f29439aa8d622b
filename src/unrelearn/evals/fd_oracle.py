"""Frechet distance between generated and real images of the retained classes, or published ones of
all classes, in the oracle's features. Not FID.

Dowson & Landau 1982; on Inception features it is FID, which evals/fid.py takes from here. The
reference is that half of the real training set which the classifiers did not see; the floor is the
distance of real test images from the same reference at the same N, since the estimate is biased
upwards at small N. float64; the trace of the matrix root by symmetric eigenvalues, which needs no
scipy.linalg.sqrtm and, where there are fewer images than features, no added diagonal.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from unrelearn.evals.evidence import Evidence, Predictions, spread
from unrelearn.evals.published import PublishedTables, over_replicas

Source = Literal["oracle", "inception"]  # of a yaml; "early" is eval.fid_64's alone


def features_of(seen: Predictions, source: Source | Literal["early"]) -> Tensor:
    """The features (N, D), float64, that the oracle (D = 64), the Inception network (D = 2048) or
    its first layers (D = 64) have of the images.
    """
    if source == "oracle":
        return seen.features
    if source == "early":
        assert seen.early_features is not None  # as the measurement is asked for
        return seen.early_features.double()
    if seen.inception_features is None:
        raise ValueError(
            "features=inception: these images were not shown to the Inception network. Type"
            " features=oracle"
        )
    return seen.inception_features.double()


def frechet_distance(a: Tensor, b: Tensor) -> float | None:
    """Between Gaussians fitted to feature rows (N, D) and (M, D), float64; None where a set has
    fewer than two rows.

    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2).
    """
    if min(len(a), len(b)) < 2:
        return None
    c_a, c_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(c_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c_b @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + c_a.trace() + c_b.trace() - 2 * cross
    return max(0.0, distance.item())


def compare(evidence: Evidence, source: Source | Literal["early"]) -> dict:
    reference, test = (
        features_of(seen, source) for seen in (evidence.real_train, evidence.real_test)
    )
    result = {}
    for scale, seen in evidence.retain.items():
        n = min(len(seen.labels), len(test))
        result[scale] = {
            "value": frechet_distance(spread(features_of(seen, source), n), reference),
            "floor": frechet_distance(spread(test, n), reference),
            "n": n,
            "reference_n": len(reference),
        }
    return result


def of_tables(evidence: PublishedTables) -> dict[str, Any]:
    """Of each table of images; a table that is not finite has no value."""
    real, published = evidence.real_features, evidence.features
    assert real is not None and published is not None
    distances = [
        frechet_distance(table, reference) if table.isfinite().all() else None
        for reference, table in zip(real, published, strict=True)
    ]
    return over_replicas([float("nan") if value is None else value for value in distances])


def run(evidence: Evidence | PublishedTables) -> dict[str, Any]:
    if isinstance(evidence, PublishedTables):
        return of_tables(evidence)
    return compare(evidence, "oracle")
