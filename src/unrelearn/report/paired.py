"""Two methods under the same attack, on the same noise: their difference, its interval, and whether
chance explains it.

- over seeds: Student's paired t (1908) on the accuracies of each model seed. It asks whether the
  *methods* differ, and with three seeds it sees only large differences. This is the test of every
  claim about a method.
- over images: image i starts from noise i in every model of one seed, so accuracies can be compared
  image by image where the records hold ``hits`` (one "0" or "1" an image, in order): paired
  bootstrap within each seed (Efron 1979), and the exact test of McNemar (1947) on the images of all
  seeds. It asks whether *these models* differ; that another seed would show the same it cannot say.
  It stands in for the test over seeds where there is one seed, and is in the CSV file else.

Many methods are compared with one reference: p values are adjusted by Holm (1979) over those of one
    attack and guidance.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from unrelearn.report import number
from unrelearn.report.groups import t_interval

IMAGES, SEEDS = "images, these models only", "seeds"
LEVEL = 0.05  # a difference is marked below it
DRAWS = 10_000
SAME = 1e-9  # differences between seeds that are rounding


@dataclass(frozen=True)
class Difference:
    """One accuracy minus another, in [-1, 1]."""

    mean: float
    low: float | None = None  # 95 %
    high: float | None = None
    p: float | None = (
        # two-sided; None where nothing can be said: one seed, or the same difference in every seed
        None
    )
    test: str = ""  # IMAGES or SEEDS
    n: int = 1  # pairs
    seeds: int = 1
    adjusted: float | None = None  # p after Holm
    values: tuple[float, ...] = ()  # of each seed

    @property
    def marked(self) -> bool:
        return self.adjusted is not None and self.adjusted < LEVEL


def difference(one: Mapping[int, dict], other: Mapping[int, dict]) -> Difference | None:
    """The first minus the second, over the seeds that both have; over images if they share one
    alone, None if none.

    Args:
        one, other: by seed, ``{"value": 0.25, "hits": "0100"}``, the hits where they were recorded.
    """
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    alone = image_difference(one, other) if len(seeds) == 1 else None
    return alone or over_seeds([number(one[seed]) - number(other[seed]) for seed in seeds])


def image_difference(one: Mapping[int, dict], other: Mapping[int, dict]) -> Difference | None:
    """As `difference`, image by image; None where a record has no hits, or several images that
    share a start.
    """
    seeds = sorted(one.keys() & other.keys())
    hits = [(_hits(one[seed]), _hits(other[seed])) for seed in seeds]
    if any("starts" in values[seed] for values in (one, other) for seed in seeds):
        return None
    return over_images(hits) if hits and all(len(a) == len(b) > 0 for a, b in hits) else None


def _hits(value: dict) -> np.ndarray:
    return np.array(list(value.get("hits") or "")) == "1"


def over_images(hits: Sequence[tuple[np.ndarray, np.ndarray]]) -> Difference:
    """
    Args:
        hits: for each seed, two boolean arrays (N,) over the same images.
    """
    n = np.array([len(one) for one, _ in hits])
    gained, lost = (
        np.array([np.sum(pair[way] & ~pair[1 - way]) for pair in hits]) for way in (0, 1)
    )
    # resampling images of three kinds (gained, lost, the same in both) is drawing how many there
    # are of each
    shares = np.stack([gained, lost, n - gained - lost], axis=1) / n[:, None]
    draws = [
        np.random.default_rng(seed).multinomial(n[seed], share, DRAWS) / n[seed]
        for seed, share in enumerate(shares)
    ]
    low, high = _percentiles([drawn[:, 0] - drawn[:, 1] for drawn in draws])
    changed = int(gained.sum() + lost.sum())
    p = stats.binomtest(int(gained.sum()), changed).pvalue if changed else 1.0
    values = (gained - lost) / n
    return Difference(
        float(np.mean(values)),
        low,
        high,
        float(p),
        IMAGES,
        int(n.sum()),
        len(hits),
        values=tuple(values),
    )


def over_seeds(values: Sequence[float]) -> Difference:
    """
    Args:
        values: the difference of each seed.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2 or np.ptp(values) < SAME:  # no spread: a t test would take it for certainty
        return Difference(mean, test=SEEDS, n=n, seeds=n, values=tuple(values))
    p = float(stats.ttest_1samp(values, 0).pvalue)
    return Difference(mean, *t_interval(values), p, SEEDS, n, n, values=tuple(values))


def holm(p: Sequence[float]) -> np.ndarray:
    """p values adjusted for their number, in the order given: the k-th smallest of m times m - k +
    1, never falling.
    """
    p, order = np.asarray(p, float), np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def against(
    reference: Hashable, values: Mapping[Hashable, Mapping[int, dict]], test: Callable = difference
) -> dict[Hashable, Difference]:
    """Every other one minus the reference, with p values adjusted over all of them."""
    found = {
        key: made
        for key, value in values.items()
        if key != reference and (made := test(value, values[reference])) is not None
    }
    tested = [key for key, made in found.items() if made.p is not None]
    for key, adjusted in zip(tested, holm([found[key].p for key in tested]), strict=True):
        found[key] = replace(found[key], adjusted=float(adjusted))
    return found


def image_interval(values: Sequence) -> tuple[float, float] | None:
    """95 % bootstrap interval of a mean accuracy over the images of these models, each resampled by
    itself.

    A resampled share of n hits or misses is a binomial draw, so ``{"value": 0.25, "n": 200}`` is
    all it takes; None unless every model has both.
    """
    if not values or not all(
        isinstance(value, dict) and value.get("n") and number(value) is not None for value in values
    ):
        return None
    return _percentiles(
        [
            np.random.default_rng(seed).binomial(value["n"], number(value), DRAWS) / value["n"]
            for seed, value in enumerate(values)
        ]
    )


def _percentiles(draws: Sequence[np.ndarray]) -> tuple[float, float]:
    """Of the mean over seeds; (seeds, DRAWS)."""
    low, high = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
    return float(low), float(high)
