"""Bounds against closed forms, and against what a perfect attack may show at most."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from unrelearn.audits import bounds
from unrelearn.audits.bounds import Counts


def normals(n: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n), rng.normal(0, 1, n)


def test_auc_of_two_normals_is_the_closed_form_and_lies_in_its_interval():
    inside, outside = normals(20000, 1.0)
    area = bounds.auc(inside, outside)
    assert area == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.005)
    low, high = bounds.auc_interval(area, 20000, 20000)
    assert low < norm.cdf(1 / math.sqrt(2)) < high and high - low < 0.011


def test_the_interval_of_an_auc_holds_what_is_true_as_often_as_it_says():
    held = 0
    for seed in range(200):
        area = bounds.auc(*normals(64, 0.0, seed))
        low, high = bounds.auc_interval(area, 64, 64)
        held += low <= 0.5 <= high
    assert 183 <= held <= 199


def test_the_interval_of_a_perfect_attack_is_as_wide_as_its_few_models():
    low, high = bounds.auc_interval(1.0, 8, 8)
    assert 0.6 < low < 0.9 and high == 1.0
    assert bounds.auc_interval(1.0, 500, 500)[0] > 0.99
    assert bounds.auc_interval(0.0, 8, 8) == pytest.approx((0.0, 1 - low))


def test_rates_of_scores_that_can_be_counted_by_hand():
    inside, outside = np.array([3.0, 2.0, 2.0, 0.0]), np.array([2.0, 1.0, 0.0, 0.0])
    assert bounds.auc(inside, outside) == pytest.approx((4 + 3.5 + 3.5 + 1) / 16)
    assert bounds.tpr_at_fpr(inside, outside, 0.01) == 0.25  # above all of four
    assert bounds.tpr_at_fpr(inside, outside, 0.25) == 0.75
    assert bounds.advantage(inside, outside) == pytest.approx(0.75 - 0.25)
    assert bounds.advantage(outside, outside) == 0.0


def test_auc_is_the_count_of_pairs_with_ties_as_halves():
    g = np.random.default_rng(0)
    a, b = g.integers(0, 6, 30).astype(float), g.integers(1, 8, 40).astype(float)
    count = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert bounds.auc(a, b) == pytest.approx(count)
    assert bounds.auc(a, a) == 0.5 and bounds.auc(b + 100, a) == 1


def test_tpr_of_two_normals_is_the_closed_form():
    g = np.random.default_rng(2)
    members, others = g.normal(1, 1, 200_000), g.normal(0, 1, 200_000)
    for fpr in (0.1, 0.01, 0.001):
        expected = norm.sf(norm.isf(fpr) - 1)
        assert bounds.tpr_at_fpr(members, others, fpr) == pytest.approx(expected, rel=0.08)


def test_tpr_never_takes_more_others_than_it_may():
    others = np.array([0.0, 1, 1, 1, 2, 2, 3, 4, 5, 6])
    for fpr, above in ((0.1, 5), (0.35, 3), (0.45, 2), (0.05, 6)):
        members = np.array([above, above + 0.5])
        assert bounds.tpr_at_fpr(members, others, fpr) == 0.5
    assert bounds.tpr_at_fpr(np.array([5.0, 7.0]), others, 0.01) == 0.5  # too few: above all


@pytest.mark.parametrize(
    ("n", "largest"), [(30, 2.0), (64, 2.8), (100, 3.3), (200, 4.0), (500, 4.9), (1000, 5.6)]
)
def test_what_a_perfect_attack_on_so_many_models_can_show(n: int, largest: float):
    """With no error in n, the Clopper-Pearson limit is 1 - (alpha / 2)^(1 / n)."""
    limit = 1 - 0.025 ** (1 / n)
    assert bounds.epsilon(Counts(0, n, 0, n)) == pytest.approx(math.log((1 - limit) / limit))
    assert bounds.epsilon(Counts(0, n, 0, n)) == pytest.approx(largest, abs=0.05)
    assert bounds.epsilon(Counts(1, n, 1, n)) < bounds.epsilon(Counts(0, n, 0, n))


@pytest.mark.parametrize(("n", "largest"), [(64, 14.8), (100, 17.6), (1000, 31.0)])
def test_what_a_perfect_attack_shows_if_privacy_is_gaussian(n: int, largest: float):
    assert bounds.gaussian_epsilon(Counts(0, n, 0, n), delta=5e-4) == pytest.approx(largest, 0.01)


def test_epsilon_of_the_gaussian_mechanism_is_found_again():
    """At mu = 1 and delta = 0.1269 epsilon is 1 (Dong et al. 2019): all errors but of the
    interval's width.
    """
    n, mu = 10**7, 1.0
    wrong = round(n * norm.cdf(-mu / 2))
    delta = norm.cdf(mu / 2 - 1) - math.e * norm.cdf(-mu / 2 - 1)
    found = bounds.gaussian_epsilon(Counts(wrong, n, wrong, n), delta)
    assert found == pytest.approx(1.0, abs=0.01) and found < 1.0


def test_bounds_hold_for_a_mechanism_whose_epsilon_is_known():
    """Randomised response: right with probability e^eps / (1 + e^eps)."""
    rng, true = np.random.default_rng(0), 1.0
    wrong = 1 / (1 + math.exp(true))
    found = [
        bounds.epsilon(Counts(rng.binomial(500, wrong), 500, rng.binomial(500, wrong), 500))
        for _ in range(200)
    ]
    assert np.mean(np.array(found) > true) <= 0.05 and np.mean(found) > 0.7


def test_limits_of_error_rates_are_those_of_an_exact_binomial_test():
    for k, n in ((0, 7), (3, 20), (20, 20)):
        limit = binomtest(k, n).proportion_ci(0.95, "exact").high
        assert Counts(k, n, 0, n).at_most(0.95)[0] == pytest.approx(limit)


def test_an_attack_that_guesses_shows_nothing():
    assert bounds.epsilon(Counts(32, 64, 32, 64)) == 0.0
    assert bounds.gaussian_epsilon(Counts(32, 64, 32, 64)) == 0.0
    assert bounds.one_run_epsilon(250, 500, 500) == 0.0


def test_one_run_without_delta_is_the_binomial_tail():
    """All right: (e^eps / (1 + e^eps))^m = alpha."""
    for m in (100, 500, 1000):
        q = 0.05 ** (1 / m)
        assert bounds.one_run_ceiling(m, m) == pytest.approx(math.log(q / (1 - q)))
    assert bounds.one_run_epsilon(90, 100, 100) < bounds.one_run_ceiling(100, 100)


def test_the_p_value_of_one_run_sums_the_tail_as_the_theorem_writes_it():
    """Term by term, without cumulated sums."""
    from scipy.stats import binom

    correct, guesses, canaries, eps, delta = 60, 80, 200, 0.5, 1e-3
    q = math.exp(eps) / (1 + math.exp(eps))
    tail = sum(binom.pmf(w, guesses, q) for w in range(correct, guesses + 1))
    largest = max(
        sum(binom.pmf(w, guesses, q) for w in range(correct - i, correct)) / i
        for i in range(1, correct + 1)
    )
    wanted = tail + 2 * canaries * delta * largest
    assert bounds.one_run_p_value(correct, guesses, canaries, eps, delta) == pytest.approx(wanted)
    assert bounds.one_run_epsilon(60, 80, 200, delta) < bounds.one_run_epsilon(60, 80, 200)


def test_one_run_bounds_randomised_response():
    rng, true = np.random.default_rng(1), 1.0
    right = math.exp(true) / (1 + math.exp(true))
    found = [bounds.one_run_epsilon(rng.binomial(500, right), 500, 500) for _ in range(200)]
    assert np.mean(np.array(found) > true) <= 0.08 and np.mean(found) > 0.7


def test_a_memoriser_has_auc_one_and_exactly_the_ceiling():
    inside, outside = np.ones(64), np.zeros(64)
    assert bounds.shown(inside, outside) | {"auc_low": 1.0} == {
        "auc": 1.0,
        "auc_low": 1.0,
        "auc_high": 1.0,
        "tpr_at_1_percent": 1.0,
        "tpr_at_0.1_percent": 1.0,
        "advantage": 1.0,
    }
    proven = bounds.proven(Counts.at(0.5, inside, outside))
    assert proven["epsilon"] == proven["epsilon_ceiling"] == bounds.epsilon(Counts(0, 64, 0, 64))
    assert proven["epsilon_gaussian"] == proven["epsilon_gaussian_ceiling"] > proven["epsilon"]
