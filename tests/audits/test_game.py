"""The game of membership with made-up replicas, whose worlds are known to differ or to be one."""

import numpy as np
import pytest

from unrelearn.audits import bounds, game, scores
from unrelearn.errors import UsageError

N = 64  # replicas of a world


def replicas(seed: int, shift: float = 0.0, count: int = N, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, width)) + shift


def table() -> np.ndarray:
    """Twenty records, the last far from the others, the first two equal."""
    rows = np.random.default_rng(0).normal(0, 1, (20, 3))
    rows[19], rows[1] = 50.0, rows[0]
    return rows


# ------------------------------------------------------------------------------ targets and worlds


def test_isolation_is_the_mean_distance_to_the_five_nearest_others():
    rows = table()
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    by_hand = [np.sort(np.delete(row, i))[:5].mean() for i, row in enumerate(distances)]
    assert game.isolation(rows) == pytest.approx(np.array(by_hand))


def test_targets_are_the_outlier_the_median_and_a_duplicate():
    rows, chosen = table(), game.targets(table())
    assert chosen["outlier"] == 19 and chosen["duplicate"] == 0
    far = game.isolation(rows)[2:]
    middle = game.isolation(rows)[chosen["median"]]
    assert abs((far < middle).sum() - len(far) / 2) <= 1
    assert "duplicate" not in game.targets(rows[2:])
    with pytest.raises(UsageError, match="every record has a twin"):
        game.targets(np.repeat(rows[2:5], 2, axis=0))


def test_a_target_with_a_twin_is_refused_in_one_line_that_says_what_to_type():
    with pytest.raises(UsageError, match=r"target=0: row 1 is its twin.* target=19") as refused:
        game.worlds(table(), 0)
    assert len(refused.value.problems) == 1
    inside, outside = game.worlds(table(), 0, control=True)
    assert 1 in outside and 0 not in outside and len(inside) == 20


def test_worlds_with_and_without_differ_in_the_target_alone():
    inside, outside = game.worlds(table(), 7)
    assert set(inside) - set(outside) == {7} and set(outside) < set(inside)


def test_worlds_of_replace_have_equal_size_and_differ_in_one_place():
    inside, outside = game.worlds(table(), 7, "replace", 3)
    assert len(inside) == len(outside) == 19
    assert set(inside) - set(outside) == {7} and set(outside) - set(inside) == {3}
    assert (inside != outside).sum() == 1
    middle = game.stand_in(table(), 7)
    assert middle not in (0, 1, 7, 19) and game.stand_in(table(), middle) != middle
    for other in (None, 7, 20):
        with pytest.raises(UsageError, match="neither it nor its twin"):
            game.worlds(table(), 7, "replace", other)


# ------------------------------------------------------------------------------------- the verdict


def test_three_sets_of_replicas_are_disjoint_and_a_function_of_the_seed():
    first = game.parts(N, 0)
    assert [len(part) for part in first] == [32, 16, 16]
    assert sorted(np.concatenate(first)) == list(range(N))
    assert all((a == b).all() for a, b in zip(first, game.parts(N, 0), strict=True))
    assert any((a != b).any() for a, b in zip(first, game.parts(N, 1), strict=True))
    assert [len(part) for part in game.parts(N, 0, game.UNTRAINED)] == [0, 16, 48]
    with pytest.raises(UsageError, match="7 replicas of a world are too few"):
        game.parts(7, 0)


def test_the_bound_reads_no_replica_that_chose_the_threshold_or_trained_the_attack():
    """Of others than the last set any value may stand, as long as the cut stays where it is."""
    fitted: list[np.ndarray] = []

    def attack(features: np.ndarray, inside: np.ndarray) -> game.Scorer:
        fitted.append(features)
        return lambda others: others[:, 0]

    inside, outside = replicas(0, 2.0), replicas(1)
    verdict = game.play(inside, outside, attack)
    train, choose, count = game.parts(N, 0)
    assert len(fitted[0]) == 64 and np.isin(inside[train, 0], fitted[0][:, 0]).all()
    assert not np.isin(inside[np.concatenate([choose, count]), 0], fitted[0][:, 0]).any()
    cut = game.threshold(inside[choose, 0], outside[choose, 0])
    wrong = bounds.Counts.at(cut, inside[count, 0], outside[count, 0])
    assert verdict["epsilon"] == bounds.epsilon(wrong) and verdict["num_in"] == 16


@pytest.mark.parametrize("attack", [scores.logistic, scores.likelihood, None])
def test_the_null_game_shows_nothing(attack):
    """Both worlds are one: AUC in [0.4, 0.6] at 64 of each, and hardly ever a bound above 0."""
    read = slice(None) if attack else 0
    games = [
        game.play(replicas(2 * s, count=N)[:, read], replicas(2 * s + 1)[:, read], attack, seed=s)
        for s in range(20)
    ]
    areas = [one["auc"] for one in games]
    assert 0.4 <= np.mean(areas[:8]) <= 0.6 and abs(np.mean(areas) - 0.5) < 0.05
    assert sum(one["auc_low"] <= 0.5 <= one["auc_high"] for one in games) >= 17
    assert sum(one["epsilon"] > 0 for one in games) <= 1


def test_the_null_game_of_untrained_scores_at_64_of_each():
    verdict = game.play(replicas(0)[:, 0], replicas(1)[:, 0])
    assert 0.4 <= verdict["auc"] <= 0.6 and verdict["epsilon"] == 0.0


@pytest.mark.parametrize("attack", [scores.forest, scores.logistic, scores.likelihood])
def test_worlds_that_lie_far_apart_show_all_that_so_many_can(attack):
    verdict = game.play(replicas(0, 9.0), replicas(1), attack)
    assert verdict["auc"] == 1.0
    ceiling = bounds.epsilon(bounds.Counts(0, 16, 0, 16))
    assert verdict["epsilon"] == verdict["epsilon_ceiling"] == ceiling


def test_a_world_that_is_only_narrower_is_told_by_the_likelihood_and_not_by_the_mean():
    inside, outside = 0.1 * replicas(0), replicas(1)
    assert game.play(inside, outside, scores.likelihood)["auc"] > 0.95
    assert game.play(inside, outside, scores.logistic)["auc"] < 0.8


# ----------------------------------------------------------------------------------------- one run


def test_canaries_are_coin_flips_of_the_seed():
    flips = game.canaries(1000, 0)
    assert 440 < flips.sum() < 560 and (flips == game.canaries(1000, 0)).all()
    assert (flips != game.canaries(1000, 1)).any()


def test_one_run_guesses_the_ends_and_abstains_between():
    inside = np.array([True, True, False, True, False, False])
    found = game.one_run(np.array([5.0, 4, 3, 2, 1, 0]), inside, 4)
    assert (found["correct"], found["guesses"], found["canaries"]) == (4, 4, 6)
    assert game.one_run(np.array([5.0, 4, 3, 2, 1, 0]), inside, 6)["correct"] == 4
    for guesses in (3, 0, 8):
        with pytest.raises(UsageError, match=f"guesses={guesses}: must be even"):
            game.one_run(np.zeros(6), inside, guesses)


def test_one_run_of_a_memoriser_gets_the_ceiling_and_of_nothing_gets_nought():
    inside = game.canaries(500, 0)
    ordered = inside + np.random.default_rng(0).random(500) / 2
    perfect = game.one_run(ordered, inside, 400)
    assert perfect["correct"] == 400 and 0 < perfect["epsilon"] == perfect["epsilon_ceiling"]
    blind = game.one_run(np.random.default_rng(1).random(500), inside, 400)
    assert blind["epsilon"] == 0.0 and blind["epsilon_ceiling"] == perfect["epsilon_ceiling"]
