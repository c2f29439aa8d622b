"""Attacks with banks of models, each against a closed form, a slow count or a limiting case."""

import numpy as np
import pytest
from scipy.stats import entropy, norm

from unrelearn.audits import populations

DELTA = 1e-5


def normals(seed: int, models: int, images: int, mean: float = 0, sd: float = 1) -> np.ndarray:
    """Scores (M, N); the images differ among themselves far more than the models do."""
    g = np.random.default_rng(seed)
    offsets = np.random.default_rng(99).normal(0, 20, images)
    return g.normal(mean, sd, (models, images)) + offsets


# --------------------------------------------------------------------------------- memorisation


def test_memorisation_is_the_difference_of_two_shares():
    trained_on = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    correct = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 1]], dtype=bool)
    found = populations.memorisation(correct, trained_on)
    assert found[:2].tolist() == [1 - 0.5, 0.5 - 0.5] and np.isnan(found[2])


# --------------------------------------------------------------------------------------- U-LiRA


def test_the_log_ratio_is_that_of_two_fitted_normals():
    unlearned, retrained = normals(0, 9, 4, mean=2, sd=3), normals(1, 7, 4)
    target = normals(2, 3, 4)
    found = populations.log_ratio(target, unlearned, retrained)
    for t in range(3):
        for n in range(4):
            u, r = unlearned[:, n], retrained[:, n]
            expected = norm(u.mean(), u.std(ddof=1)).logpdf(target[t, n])
            expected -= norm(r.mean(), r.std(ddof=1)).logpdf(target[t, n])
            assert found[t, n] == pytest.approx(expected)


def test_two_retrained_populations_are_not_told_apart():
    found = populations.ulira(normals(0, 64, 400), normals(1, 64, 400))
    # 25,600 scores a world that share 4 fits an image: standard error below 0.005
    assert found["auc"] == pytest.approx(0.5, abs=0.015)
    assert found["accuracy"] == pytest.approx(0.5, abs=0.015)
    assert found["tpr_at_1_percent"] == pytest.approx(0.01, abs=0.004)


def test_shifted_populations_reach_the_auc_of_two_normals():
    found = populations.ulira(normals(0, 200, 100, mean=1.5), normals(1, 200, 100))
    assert found["auc"] == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.01)
    assert found["accuracy"] == pytest.approx(norm.cdf(0.75), abs=0.01)


def test_populations_apart_are_told_apart_even_where_all_scores_are_equal():
    found = populations.ulira(normals(0, 8, 5, mean=40), np.tile(normals(1, 1, 5), (8, 1)))
    assert set(found.values()) == {1.0}


# ----------------------------------------------------------------------------------------- RMIA


def test_rmia_is_the_share_of_pairs_over_gamma():
    g = np.random.default_rng(3)
    target, population = g.uniform(size=12), g.uniform(size=30)
    references, others = g.uniform(size=(4, 12)), g.uniform(size=(4, 30))
    found = populations.rmia(target, references, population, others, gamma=1.5)
    for n in range(12):
        ratio = (target[n] / references[:, n].mean()) / (population / others.mean(0))
        assert found[n] == pytest.approx((ratio > 1.5).mean())


def test_rmia_knows_members_from_images_that_are_easy_for_all():
    references, others = np.full((4, 2), [0.3, 0.99]), np.full((4, 50), 0.5)
    population = np.linspace(0.4, 0.6, 50)
    found = populations.rmia(np.array([0.99, 0.99]), references, population, others)
    assert found.tolist() == [1, 0]


# ----------------------------------------------------------------------------------------- KLoM


def test_klom_of_the_same_is_0_and_of_disjoint_ones_the_highest():
    same = normals(0, 40, 6)
    assert np.allclose(populations.klom(same, same), 0)
    assert np.allclose(populations.klom(same + 300, same - 300), np.log((1 + 1e-5) / 1e-5))


def test_klom_is_the_divergence_of_the_histograms():
    ours, theirs = normals(0, 100, 5, mean=0.7) / 5, normals(1, 90, 5) / 5
    found = populations.klom(ours, theirs)
    for n in range(5):
        both = np.concatenate([ours[:, n], theirs[:, n]])
        edges = np.linspace(both.min(), both.max(), 21)
        p, q = (np.histogram(part[:, n], edges)[0] / len(part) for part in (ours, theirs))
        assert found[n] == pytest.approx(entropy(p, np.where(p > 0, np.maximum(q, 1e-5), q)))
    assert (found > 0).all()


def test_klom_grows_with_the_distance():
    retrained = normals(1, 200, 30) / 20
    medians = [
        np.median(populations.klom(normals(0, 200, 30, m) / 20, retrained)) for m in (0, 1, 2)
    ]
    assert medians[0] < medians[1] < medians[2]


# ------------------------------------------------------------------------------------- epsilon


def slow_epsilon(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The best attack by trying every threshold and every pair of them, one by one."""
    low, high = sorted((ours, theirs), key=np.median)
    narrow, wide = sorted((ours, theirs), key=np.ptp)
    cuts, best = sorted({*ours, *theirs}), 0.0
    rates = [(np.mean(low >= t), np.mean(high < t)) for t in cuts]
    for left in cuts:
        for right in [c for c in cuts if c >= left]:
            inside = [(left <= part) & (part <= right) for part in (wide, narrow)]
            rates.append((np.mean(inside[0]), np.mean(~inside[1])))
    for fpr, fnr in rates:
        if fpr == 0 and fnr == 0:
            return 50.0
        if fpr > 0 and fnr > 0:
            for a, b in ((fpr, fnr), (fnr, fpr)):
                if 1 - DELTA - a > 0:
                    best = max(best, np.log(1 - DELTA - a) - np.log(b))
    return best


@pytest.mark.parametrize(("mean", "sd"), [(0, 1), (0.5, 1), (2, 1), (0, 0.2), (1, 3)])
def test_epsilon_is_the_best_of_all_thresholds(mean: float, sd: float):
    ours, theirs = normals(0, 12, 8, mean, sd), normals(1, 9, 8)
    ours, theirs = np.round(ours, 1), np.round(theirs, 1)  # with ties
    found = populations.challenge_epsilon(ours, theirs)
    assert found == pytest.approx(
        [slow_epsilon(*pair) for pair in zip(ours.T, theirs.T, strict=True)]
    )


def test_epsilon_of_randomised_response_is_its_own():
    """A world says 1 in 75 of 100 models, the other in 25: log(0.75 / 0.25), but for delta."""
    ours, theirs = np.repeat([1.0, 0.0], [75, 25]), np.repeat([1.0, 0.0], [25, 75])
    found = populations.challenge_epsilon(ours[:, None], theirs[:, None])
    assert found[0] == pytest.approx(np.log((0.75 - DELTA) / 0.25))


def test_epsilon_of_the_same_is_0_of_separate_worlds_the_cap_and_of_a_peak_too():
    same = normals(0, 30, 3)
    assert populations.challenge_epsilon(same, same).max() < 0.4  # intervals fit a few of them
    assert (populations.challenge_epsilon(same + 50, same) == 50).all()
    assert (populations.challenge_epsilon(0.001 * same + same.mean(0), same) == 50).all()


def test_the_largest_epsilon_is_log_of_one_model_less():
    assert populations.largest_epsilon(64, 64) == pytest.approx(np.log(63), abs=1e-3)
    for n in (8, 16, 64):
        # one error of each kind is as near as two worlds come without being apart
        ours, theirs = np.arange(n) + n - 1.5, np.arange(n) * 1.0
        found = populations.challenge_epsilon(ours[:, None], theirs[:, None])[0]
        assert found <= populations.largest_epsilon(n, n) + 1e-12
    one_off = np.array([*range(10, 17), 0.5]), np.array([*range(7), 10.5])
    found = populations.challenge_epsilon(one_off[0][:, None], one_off[1][:, None])[0]
    assert found == pytest.approx(populations.largest_epsilon(8, 8))
