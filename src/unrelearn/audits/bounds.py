"""What an attack's scores show, and the largest epsilon that so many of them could have shown.

scores_in (n,) are those of models, records or canaries that were in, scores_out (m,) of those that
were not; higher: rather in. Rates are shares in [0, 1], epsilon is in nats. Every lower bound of
epsilon holds with `confidence` and has a ceiling beside it: what a perfect attack on so many would
get. A bound of 0 at a low ceiling says nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv
from scipy.stats import binom, norm

CONFIDENCE = 0.95
DELTA = 1e-5  # where a bound needs one
# below so many replicas of a world, or canaries, no epsilon is claimed
FEWEST_REPLICAS, FEWEST_CANARIES = 64, 500


def auc(scores_in: np.ndarray, scores_out: np.ndarray) -> float:
    """Probability that one of those that were in has the higher score, ties as a half: 0.5 where
    nothing shows.
    """
    from sklearn.metrics import roc_auc_score

    truth: np.ndarray = np.repeat([1, 0], [len(scores_in), len(scores_out)])
    return float(roc_auc_score(truth, np.concatenate([scores_in, scores_out])))


def auc_interval(
    area: float, num_in: int, num_out: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The score interval of an AUC, which is none of width zero where the attack is perfect
    (Newcombe 2006, Statistics in Medicine 25, method 5; variance by Hanley and McNeil 1982).
    """
    z, more = float(norm.ppf((1 + confidence) / 2)), (num_in + num_out) / 2 - 1

    def beyond(theta: float) -> float:
        spread = 1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)
        variance = theta * (1 - theta) * spread / (num_in * num_out)
        return abs(area - theta) - z * math.sqrt(variance)

    centre = min(max(area, 1e-9), 1 - 1e-9)  # at the ends themselves the variance is nought
    low = 0.0 if area < centre else float(brentq(beyond, 0.0, centre))
    high = 1.0 if area > centre else float(brentq(beyond, centre, 1.0))
    return low, high


def tpr_at_fpr(scores_in: np.ndarray, scores_out: np.ndarray, fpr: float) -> float:
    """Share of those in above a threshold that at most a share `fpr` of the others is above
    (Carlini et al. 2021, arXiv:2112.03570). With fewer than 1 / fpr others: above all of them.
    """
    allowed = int(fpr * len(scores_out))
    threshold = np.sort(scores_out)[::-1][allowed]
    return float((scores_in > threshold).mean())


def advantage(scores_in: np.ndarray, scores_out: np.ndarray) -> float:
    """Largest TPR - FPR over thresholds, in [0, 1] (Yeom et al. 2018, arXiv:1709.01604). Its
    threshold is chosen on the same scores: with few of them it is above 0 by chance.
    """
    cuts: np.ndarray = np.concatenate([scores_in, scores_out])
    tpr, fpr = (
        1 - np.searchsorted(np.sort(part), cuts) / len(part) for part in (scores_in, scores_out)
    )
    return float(max(0.0, np.max(tpr - fpr)))


@dataclass(frozen=True)
class Counts:
    """Errors of an attack whose threshold was fixed before these were looked at."""

    false_positives: int
    num_out: int
    false_negatives: int
    num_in: int

    @classmethod
    def at(cls, threshold: float, scores_in: np.ndarray, scores_out: np.ndarray) -> "Counts":
        """Of the attack that says "in" from this score up."""
        wrong = int((scores_out >= threshold).sum()), int((scores_in < threshold).sum())
        return cls(wrong[0], len(scores_out), wrong[1], len(scores_in))

    @property
    def perfect(self) -> "Counts":
        """Of as many, without an error: epsilon 2.8 of 64 and 64, 5.6 of 1,000 and 1,000."""
        return Counts(0, self.num_out, 0, self.num_in)

    def at_most(self, confidence: float) -> tuple[float, float]:
        """(FPR, FNR), both at most this with the confidence: Clopper-Pearson limits (1934), half of
        what may fail spent on each.
        """
        pairs = (self.false_positives, self.num_out), (self.false_negatives, self.num_in)
        level = (1 + confidence) / 2
        fpr, fnr = (float(betaincinv(k + 1, n - k, level)) if k < n else 1.0 for k, n in pairs)
        return fpr, fnr


def epsilon(counts: Counts, delta: float = 0.0, confidence: float = CONFIDENCE) -> float:
    """Lower bound of the epsilon of any (epsilon, delta)-private mechanism that allows such errors
    (Kairouz et al. 2015, arXiv:1311.0776; as an audit Jagielski et al. 2020, arXiv:2006.07709).
    """
    fpr, fnr = counts.at_most(confidence)
    best = max((1 - delta - fpr) / fnr, (1 - delta - fnr) / fpr)
    return max(0.0, math.log(best)) if best > 0 else 0.0


def gaussian_epsilon(counts: Counts, delta: float = DELTA, confidence: float = CONFIDENCE) -> float:
    """Lower bound of epsilon at delta, if the mechanism is mu-Gaussian-private: an assumption, by
    which few errors show much more (Dong et al. 2019, arXiv:1905.02383, corollary 2.13; as an audit
    Nasr et al. 2023, arXiv:2302.07956).
    """
    fpr, fnr = counts.at_most(confidence)
    mu = float(norm.isf(fpr) - norm.ppf(fnr))
    if mu <= 0:
        return 0.0

    def surplus(eps: float) -> float:
        second = math.exp(eps + norm.logcdf(-mu / 2 - eps / mu))
        return float(norm.cdf(mu / 2 - eps / mu)) - second - delta

    if surplus(0.0) <= 0:
        return 0.0
    # the first term alone is delta there
    return float(brentq(surplus, 0.0, mu * mu / 2 + mu * float(norm.isf(delta))))


def one_run_p_value(correct: int, guesses: int, canaries: int, eps: float, delta: float) -> float:
    """Of "the mechanism is (eps, delta)-private", when so many guesses about coin flips are right.

    Steinke, Nasr and Jagielski 2023, arXiv:2305.08846, theorem 5.2:
    P[V >= v] <= P[W >= v] + 2 m delta max_i P[v - i <= W < v] / i,  W ~ Bin(r, 1 / (1 + e^-eps)).
    """
    q = 1 / (1 + math.exp(-eps))
    p = float(binom.sf(correct - 1, guesses, q))
    if delta and correct:
        i: np.ndarray = np.arange(1, correct + 1)
        p += 2 * canaries * delta * float(np.max(np.cumsum(binom.pmf(correct - i, guesses, q)) / i))
    return min(p, 1.0)


def one_run_epsilon(
    correct: int, guesses: int, canaries: int, delta: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """Lower bound of epsilon from one training run with canaries, each in or out by a coin flip.

    Args:
        correct: how many of the guesses are right, out of those canaries that the attack did not
            abstain on; 0 <= correct <= guesses <= canaries.
    """

    def below(eps: float) -> float:
        return one_run_p_value(correct, guesses, canaries, eps, delta) - (1 - confidence)

    if below(0.0) >= 0:
        return 0.0
    return float(brentq(below, 0.0, 100.0))


def one_run_ceiling(
    guesses: int, canaries: int, delta: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """What `one_run_epsilon` is when all guesses are right; without delta
    logit((1 - confidence)^(1 / guesses)).
    """
    return one_run_epsilon(guesses, guesses, canaries, delta, confidence)


def shown(scores_in: np.ndarray, scores_out: np.ndarray) -> dict[str, float]:
    """What needs no threshold fixed before: auc with auc_low and auc_high, tpr_at_1_percent,
    tpr_at_0.1_percent, advantage.
    """
    area = auc(scores_in, scores_out)
    low, high = auc_interval(area, len(scores_in), len(scores_out))
    return {
        "auc": area,
        "auc_low": low,
        "auc_high": high,
        "tpr_at_1_percent": tpr_at_fpr(scores_in, scores_out, 0.01),
        "tpr_at_0.1_percent": tpr_at_fpr(scores_in, scores_out, 0.001),
        "advantage": advantage(scores_in, scores_out),
    }


def proven(
    counts: Counts, delta: float = DELTA, confidence: float = CONFIDENCE
) -> dict[str, float]:
    """What a fixed threshold proves: epsilon (pure) and epsilon_gaussian (at delta), each with its
    ceiling.
    """
    return {
        "epsilon": epsilon(counts, 0.0, confidence),
        "epsilon_ceiling": epsilon(counts.perfect, 0.0, confidence),
        "epsilon_gaussian": gaussian_epsilon(counts, delta, confidence),
        "epsilon_gaussian_ceiling": gaussian_epsilon(counts.perfect, delta, confidence),
    }
