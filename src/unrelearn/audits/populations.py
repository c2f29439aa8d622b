"""What populations of models say of single images: could an attacker who has many models of both
worlds tell the unlearned ones from the retrained?

Arrays are (M, N): a number for each of M models and N images, near to normal over models. Of
classifiers that is `classification.scores.logit_scaled`, unless it says otherwise. So many models
can show so much and no more: see `largest_epsilon`.
"""

from typing import Literal

import numpy as np
from scipy.stats import norm

from unrelearn.audits.bounds import auc, tpr_at_fpr

RESAMPLES = 200  # of the bootstrap over images
SMALLEST_SD = 1e-6  # of a population of equal scores
DELTA, EPSILON_CAP, PEAKED = 1e-5, 50.0, 0.01  # of the challenge


def memorisation(correct: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """P(correct | trained on it) - P(correct | not), (N,) in [-1, 1] (Feldman and Zhang 2020,
    arXiv:2008.03703, eq. 1). NaN for an image that all models or none were trained on.

    Args: correct (M, N), bool, or a probability instead; trained_on: bool (M, N).
    """
    with np.errstate(invalid="ignore"):
        inside = (correct * trained_on).sum(0) / trained_on.sum(0)
        outside = (correct * ~trained_on).sum(0) / (~trained_on).sum(0)
    return inside - outside


def log_ratio(target: np.ndarray, unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """log N(phi; unlearned) - log N(phi; retrained) image by image, (T, N), higher: rather
    unlearned.

    Args: target (T, N), unlearned (U, N), retrained (R, N); U, R >= 2, of which the normals are
        fitted.
    """
    densities = [
        norm.logpdf(target, part.mean(0), np.maximum(part.std(0, ddof=1), SMALLEST_SD))
        for part in (unlearned, retrained)
    ]
    return densities[0] - densities[1]


def ulira(unlearned: np.ndarray, retrained: np.ndarray) -> dict[str, float]:
    """U-LiRA (Kurmanji et al. 2023, arXiv:2302.09880; Hayes et al. 2024, arXiv:2403.01218): how
    well unlearned models of an image are told from models that never saw it.

    One half of the models of each world is attacked by normals fitted to the other half, and the
    other way round, so that with as many models in both worlds nothing to see gives 0.5.

    Args: unlearned (U, N), retrained (R, N); at least four of each.
    Returns:
        accuracy (at log-ratio 0, both worlds alike), auc, tpr_at_1_percent, tpr_at_0.1_percent, all
        in [0, 1], over all images and models together.
    """
    scores: tuple[list, list] = ([], [])
    for fitted, attacked in ((0, 1), (1, 0)):
        normals = unlearned[fitted::2], retrained[fitted::2]
        for part, population in zip(scores, (unlearned, retrained), strict=True):
            part.append(log_ratio(population[attacked::2], *normals).ravel())
    ours, theirs = (np.concatenate(part) for part in scores)
    return {
        "accuracy": float((np.mean(ours > 0) + np.mean(theirs <= 0)) / 2),
        "auc": auc(ours, theirs),
        "tpr_at_1_percent": tpr_at_fpr(ours, theirs, 0.01),
        "tpr_at_0.1_percent": tpr_at_fpr(ours, theirs, 0.001),
    }


def auc_interval(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[float, float]:
    """95 % interval of the AUC of `ulira`, by a bootstrap over images."""
    rng, n = np.random.default_rng(0), unlearned.shape[1]
    drawn = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    areas = [ulira(unlearned[:, index], retrained[:, index])["auc"] for index in drawn]
    return float(np.quantile(areas, 0.025)), float(np.quantile(areas, 0.975))


def rmia(
    target: np.ndarray,
    references: np.ndarray,
    population: np.ndarray,
    population_references: np.ndarray,
    gamma: float = 2.0,
) -> np.ndarray:
    """RMIA (Zarifzadeh et al. 2023, arXiv:2312.03262, algorithm 1): the share of population images
    z over which the image x stands out, LR(x, z) = p(x | target) / p(x) : p(z | target) / p(z) >
    gamma; (N,) in [0, 1], higher: rather a member.

    Args:
        target: (N,), `classification.scores.confidence` of the model under attack in the images x.
        references: (R, N), that of models that may never have seen them; p(x) is their mean.
        population, population_references: (Z,), (R, Z), the same for images that no model saw.
    """
    tiny = np.finfo(np.float64).tiny
    ratios = [
        np.maximum(model, tiny) / np.maximum(others.mean(0), tiny)
        for model, others in ((target, references), (population, population_references))
    ]
    return _below(ratios[1], ratios[0] / gamma)


def klom(
    unlearned: np.ndarray, retrained: np.ndarray, bins: int = 20, floor: float = 1e-5
) -> np.ndarray:
    """KLoM (Georgiev et al. 2024, arXiv:2410.23232): KL(unlearned || retrained) of the histograms
    of an image's margins, (N,) in nats, 0 to -log(floor).

    Bins of equal width span both populations of the image, clipped to [-100, 100], and hold at
    least a share `floor` of the retrained, as in the published code. Too few models make it large
    by themselves: compare with that of two halves of the retrained.
    """
    unlearned, retrained = (np.clip(part, -100, 100) for part in (unlearned, retrained))
    divergences: list[float] = []
    for ours, theirs in zip(unlearned.T, retrained.T, strict=True):
        span = min(ours.min(), theirs.min()), max(ours.max(), theirs.max())
        p, q = (np.histogram(part, bins, span)[0] / len(part) for part in (ours, theirs))
        q = np.where(p > 0, np.maximum(q, floor), q)
        held = p > 0
        divergences.append(np.sum(p[held] * np.log(p[held] * q.sum() / q[held])))
    return np.array(divergences)


def challenge_epsilon(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """The epsilon of the 2023 unlearning challenge (Triantafillou et al. 2024, arXiv:2406.09073):
    (N,) in [0, 50], how well the best threshold tells the two worlds of an image apart.

    Attacks: above a threshold it is the world of the larger median; between two thresholds it is
    the narrower world. Their thresholds lie at the models' scores; the challenge's on a grid. An
    attack without errors of one kind only is left out, as it is a matter of too few models; one
    without any counts as 50, and so does a world a hundred times as narrow as the other. Beyond
    `largest_epsilon` the number says "more than so many models can show".
    """
    pairs = zip(unlearned.T, retrained.T, strict=True)
    return np.array([_epsilon_of_image(ours, theirs) for ours, theirs in pairs])


def _epsilon_of_image(ours: np.ndarray, theirs: np.ndarray) -> float:
    narrow, wide = sorted((ours, theirs), key=np.ptp)
    low, high = sorted((ours, theirs), key=np.median)
    if np.ptp(narrow) < PEAKED * np.ptp(wide):
        return EPSILON_CAP
    cuts: np.ndarray = np.unique(np.concatenate([ours, theirs]))
    fpr: np.ndarray = 1 - _below(low, cuts)
    fnr: np.ndarray = _below(high, cuts)
    # those between two cuts, both included: at or below the upper one, less those below the lower
    inside = [
        np.subtract.outer(_below(part, cuts, "right"), _below(part, cuts)).T[
            np.triu_indices(len(cuts))
        ]
        for part in (wide, narrow)
    ]
    fpr, fnr = np.concatenate([fpr, inside[0]]), np.concatenate([fnr, 1 - inside[1]])
    return float(_epsilon_of_rates(fpr, fnr).max())


def _below(
    part: np.ndarray, cuts: np.ndarray, side: Literal["left", "right"] = "left"
) -> np.ndarray:
    """Share of the scores below each cut, or at it as well with side "right"."""
    return np.asarray(np.searchsorted(np.sort(part), cuts, side=side)) / len(part)


def _epsilon_of_rates(fpr: np.ndarray, fnr: np.ndarray) -> np.ndarray:
    """Kairouz et al. 2015, arXiv:1311.0776: an (epsilon, delta)-private mechanism allows no attack
    of smaller rates than these.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.log(1 - DELTA - fpr) - np.log(fnr)
        second = np.log(1 - DELTA - fnr) - np.log(fpr)
    epsilon = np.fmax(0, np.fmax(first, second))  # NaN where 1 - delta is below the other rate
    one_is_zero = fpr * fnr == 0
    return np.where(one_is_zero, np.where(fpr + fnr == 0, EPSILON_CAP, 0.0), epsilon)


def largest_epsilon(num_unlearned: int, num_retrained: int) -> float:
    """The largest epsilon below the cap that so many models can show: one error of each kind. Near
    to log(n - 1) for n of each.
    """
    rates = np.array([1 / num_unlearned]), np.array([1 / num_retrained])
    return float(_epsilon_of_rates(*rates)[0])
