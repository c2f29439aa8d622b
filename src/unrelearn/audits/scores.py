"""Attacks that `game.play` fits to replicas, and scores of records by what one model published.

Higher: rather in. Scores of models that are handed out themselves: loss.py, secmi.py, pia.py and
sima.py of denoisers, `classification.scores.logit_scaled` and `populations` of classifiers.
"""

import numpy as np
from scipy.spatial import cKDTree

from unrelearn.audits.game import Scorer
from unrelearn.audits.populations import log_ratio

TREES, DEPTH = 1000, 3  # of the released audit of VFLGAN (arXiv:2404.09722)


def forest(features: np.ndarray, inside: np.ndarray) -> Scorer:
    """Share of the trees of a random forest that say "in"."""
    from sklearn.ensemble import RandomForestClassifier

    trees = RandomForestClassifier(TREES, max_depth=DEPTH, random_state=0).fit(features, inside)
    return lambda others: trees.predict_proba(others)[:, 1]


def logistic(features: np.ndarray, inside: np.ndarray) -> Scorer:
    """Logit of a logistic regression on scaled features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(features, inside).decision_function


def likelihood(features: np.ndarray, inside: np.ndarray) -> Scorer:
    """Sum over features of the log ratio of two normals, one a world: two-sided, as a world may
    also be the narrower one (`populations.log_ratio`).
    """
    ours, theirs = features[inside], features[~inside]
    return lambda others: log_ratio(others, ours, theirs).sum(1)


def nearest_records(published: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Minus the distance of each of (M, D) records to the nearest of (N, D) published rows, (M,)
    (Chen et al. 2020, "GAN-Leaks", arXiv:1909.03935).
    """
    return -np.asarray(cKDTree(published).query(records)[0])


def density_ratio(published: np.ndarray, reference: np.ndarray, records: np.ndarray) -> np.ndarray:
    """log p_G(x) - log p_R(x) of each of (M, D) records, (M,): overfitting where the published rows
    are denser than the population (van Breugel et al. 2023, DOMIAS, arXiv:2302.12580). Densities
    are of Gaussian kernels, Scott's width, on columns scaled by the reference set.

    Args:
        reference: (R, D), rows of the population that are neither published nor in question.
    """
    from sklearn.neighbors import KernelDensity
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(reference)
    densities = [
        KernelDensity(bandwidth="scott").fit(scale.transform(rows)).score_samples
        for rows in (published, reference)
    ]
    scaled = scale.transform(records)
    return densities[0](scaled) - densities[1](scaled)
