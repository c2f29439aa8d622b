"""Paired statistics against closed forms and scipy."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up import hits_text as text
from scipy import stats

from unrelearn.report.stats import (
    IMAGES,
    MEASURED,
    SEEDS,
    difference,
    holm,
    image_difference,
    image_interval,
    intact,
    over_images,
    over_seeds,
)


def images(gained: int, lost: int, both: int = 20, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Two hit vectors of which the first alone has `gained` hits and the second alone `lost`."""
    one, other = np.zeros(n, bool), np.zeros(n, bool)
    one[:both] = other[:both] = True
    one[both : both + gained], other[both + gained : both + gained + lost] = True, True
    return one, other


def test_mcnemar_is_the_binomial_test_of_the_images_that_changed():
    made = over_images([images(9, 1)])
    assert made.mean == pytest.approx(0.08) and (made.test, made.n, made.seeds) == (IMAGES, 100, 1)
    assert made.p == pytest.approx(
        2 * (1 + 10) / 2**10
    )  # P(at most 1 of 10 fair coins), both sides
    assert over_images([images(0, 0)]).p == 1 and over_images([images(7, 7)]).p == 1
    pooled = over_images([images(6, 1), images(3, 0)])  # the same changes, spread over two seeds
    assert (
        pooled.p == pytest.approx(made.p) and pooled.mean == pytest.approx(0.04) and pooled.n == 200
    )


def test_the_paired_bootstrap_is_that_of_the_images_and_is_reproducible():
    one, other = images(30, 12, n=200)
    made = over_images([(one, other)])
    theirs = stats.bootstrap(
        (one, other),
        lambda a, b, axis: (a * 1.0 - b).mean(axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (made.low, made.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert over_images([(one, other)]) == made


def test_seeds_are_resampled_each_by_itself():
    """Two seeds of opposite sign: their mean is 0 and its variance that of the images, not of the
    seeds.
    """
    made = over_images([images(40, 0, 0, 200), images(0, 40, 0, 200)])
    share = 0.2
    deviation = math.sqrt(2 * share * (1 - share) / 200) / 2
    assert made.mean == pytest.approx(0) and made.high == pytest.approx(1.96 * deviation, rel=0.1)


def test_over_seeds_is_the_paired_t_test():
    a, b = [0.31, 0.42, 0.25], [0.1, 0.05, 0.12]
    made, theirs = over_seeds(np.subtract(a, b)), stats.ttest_rel(a, b)
    assert made.p == pytest.approx(theirs.pvalue) and (made.low, made.high) == pytest.approx(
        theirs.confidence_interval(0.95)
    )
    assert (made.test, made.n, made.seeds) == (SEEDS, 3, 3)


def test_seeds_that_agree_exactly_or_one_alone_are_no_test():
    for values in ([0.205 - 0.2, 0.505 - 0.5, 0.005], [0.9]):
        made = over_seeds(values)
        assert made.p is None and made.low is None and not made.marked


def by_seed(vectors: dict[int, np.ndarray], **more) -> pd.DataFrame:
    """MEASURED by seed of these images."""
    frame = pd.DataFrame(index=list(vectors), columns=MEASURED, dtype=object)
    for seed, vector in vectors.items():
        frame.loc[seed, ["value", "hits"]] = float(np.mean(vector)), text(vector)
    return frame.assign(**more)


def test_methods_are_compared_over_seeds_and_two_models_over_their_images():
    one, other = images(9, 1)
    mine, theirs = by_seed({0: one, 1: one}), by_seed({0: other, 1: other})
    assert image_difference(mine, theirs) == over_images([(one, other)] * 2)
    assert difference(mine, theirs).test == SEEDS, "a claim about methods"
    alone = difference(mine, by_seed({1: other, 2: other}))
    assert (alone.test, alone.seeds) == (IMAGES, 1) and "these models only" in alone.test
    few = by_seed({0: other, 1: other}, starts=[None, 10])
    assert image_difference(mine, few) is None, (
        "images that share a start are not so many observations"
    )
    for hits in (["01" * 50, None], ["01" * 50, "01"]):
        unlike = by_seed({0: other, 1: other}, hits=hits)
        assert image_difference(mine, unlike) is None and difference(mine, unlike).test == SEEDS
    assert difference(mine, by_seed({7: other})) is None


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.02, 0.05]) == pytest.approx(
        [0.05, 0.09, 0.09, 0.08, 0.09]
    )  # as R's p.adjust
    assert holm([0.9, 0.8]) == pytest.approx([1, 1]) and len(holm([])) == 0


def test_the_bootstrap_over_images_is_a_binomial():
    low, high = image_interval([0.25], [200])
    assert (low, high) == pytest.approx(
        tuple(stats.binom.ppf([0.025, 0.975], 200, 0.25) / 200), abs=0.006
    )
    half = 1.96 * math.sqrt(0.25 * 0.75 / 200 / 3)
    assert np.diff(image_interval([0.25] * 3, [200] * 3))[0] == pytest.approx(2 * half, rel=0.05)
    assert image_interval([0.3, 0.2], [None, 5]) is None and image_interval([], []) is None


def test_retained_images_of_all_guidances_say_whether_a_model_is_whole():
    def row(first: float, second: float) -> dict:
        return {"metrics": {"retain_accuracy": {"1.0": {"value": first}, "2.0": {"value": second}}}}

    before = row(0.94, 0.98)
    assert intact([(row(0.91, 0.98), before)], "1.0") is True  # 1.5 points of both
    assert intact([(row(0.91, 0.96), before)], "1.0") is False
    alone = {"metrics": {"retain_accuracy": {"1.0": {"value": 0.91}}}}
    assert intact([(alone, before)], "1.0") is False  # of what both have
