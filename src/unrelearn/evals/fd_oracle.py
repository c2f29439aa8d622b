"""Frechet distance between generated and real images of the retained classes, in the oracle's features. Not FID.

Dowson & Landau 1982; used on Inception features it is FID (Heusel et al. 2017, arXiv 1706.08500). The reference is the
real training set; the floor is the distance of real test images from the same reference at the same N, since the
estimate is biased upwards at small N. float64; the trace of the matrix root by symmetric eigenvalues, which needs no
scipy.linalg.sqrtm.
"""

import torch
from torch import Tensor

from unrelearn.evals.evidence import Evidence, spread


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Between Gaussians fitted to feature rows (N, D) and (M, D), float64.

    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2).
    """
    c_a, c_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(c_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c_b @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + c_a.trace() + c_b.trace() - 2 * cross
    return max(0.0, distance.item())


def run(evidence: Evidence) -> dict:
    reference, result = evidence.real_train.features, {}
    for scale, seen in evidence.retain.items():
        n = min(len(seen.features), len(evidence.real_test.features))
        result[scale] = {"value": frechet_distance(spread(seen.features, n), reference),
                         "floor": frechet_distance(spread(evidence.real_test.features, n), reference),
                         "n": n, "reference_n": len(reference)}
    return result
