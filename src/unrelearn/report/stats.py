"""Numbers of several images, attack seeds and seeds: averages, their intervals, and whether two
methods differ.

Two methods meet the same attack on the same noise, so their difference is paired:

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
from statistics import fmean
from typing import NamedTuple, TypeAlias, TypeVar, final

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from unrelearn.report.records import Row, image_count, measured, number
from unrelearn.report.words import DASH

ENOUGH = 5  # seeds for a t-interval; of fewer the values themselves are shown
IMAGES, SEEDS = "images, these models only", "seeds"
LEVEL = 0.05  # a difference is marked below it
DRAWS = 10_000
ROUNDING = 1e-9  # differences that are rounding
LOSS = 0.02  # of retained accuracy: what an attack or a method may cost
GROWTH = 1.5  # of the distance
DISTANCES = ("fid", "fd_oracle")  # the first that both models have


class Measurement(NamedTuple):
    """One measurement, in a table a column each."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None  # images
    hits: str | None = None  # "0" or "1" for each image, in order
    starts: int | None = None  # several images may share a start


MEASURED = list(Measurement._fields)
RowPair: TypeAlias = tuple[Row | None, Row | None]
Test: TypeAlias = "Callable[[pd.DataFrame, pd.DataFrame], Difference | None]"
K = TypeVar("K", bound=Hashable)


# ---- shares of images ----------------------------------------------------------------------------


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of n images (Wilson 1927)."""
    p, z = hits / n, 1.959963984540054
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def share(hits: str, starts: int | None) -> Measurement:
    count, n = hits.count("1"), len(hits)
    return Measurement(count / n, *wilson(count, n), n, hits, starts)


def first_half(hits: str | None, value: float) -> float:
    """The share on the first half of the images; on all where the hits are not known."""
    hits = hits or ""
    half = len(hits) // 2
    return hits[:half].count("1") / half if half else value


def second_half(whole: Measurement) -> Measurement:
    """Of the second half of the images, as far as the hits are known."""
    hits = whole.hits or ""
    return share(hits[len(hits) // 2 :], whole.starts) if len(hits) > 1 else whole


def average(measurements: Sequence[Measurement]) -> Measurement:
    """Of a model seed out of its attack seeds; the interval is of all images with known hits."""
    known = [each for each in measurements if pd.notna(each.value)]
    if not known:
        return Measurement()
    if len(known) == 1 or all(each == known[0] for each in known):
        return known[0]
    hits = [each.hits for each in known if each.hits]
    if len(hits) == len(known):
        return share("".join(hits), known[0].starts)
    return Measurement(fmean(each.value for each in known if each.value is not None))


def over_attack_seeds(lines: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """One line for each model seed; `by` names it, with all that keeps lines apart."""
    lists = lines.groupby(by, sort=False, dropna=False)[MEASURED].agg(list)
    averages = []
    for cells in lists.itertuples(index=False):
        averages.append(average([Measurement(*cell) for cell in zip(*cells, strict=True)]))
    return pd.DataFrame(averages, index=lists.index, columns=MEASURED, dtype=object).reset_index()


# ---- over seeds ----------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds. Its ends: of five seeds and more the 95 % t-interval, of fewer the
    lowest and the highest value, of one seed its own interval over images, where it has one.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    reached: int | None = None  # steps to half: how many of the n got there; the mean is over those
    values: tuple[float, ...] = ()  # of each seed, in their order


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of n >= 2 values by Student's t with n - 1 degrees of freedom."""
    half = stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def estimate(
    values: Sequence[float | None], ends: Sequence[tuple[float | None, float | None]] = ()
) -> Estimate | None:
    """Average over seeds, None of none; `ends` (low, high) count where there is one seed."""
    known = {place: float(v) for place, v in enumerate(values) if v is not None and pd.notna(v)}
    if not known:
        return None
    numbers = tuple(known.values())
    if len(known) == 1:
        (place,) = known
        low, high = ends[place] if ends else (None, None)
        if low is None or high is None or pd.isna(low) or pd.isna(high):
            return Estimate(numbers[0], None, None, 1, values=numbers)
        return Estimate(numbers[0], float(low), float(high), 1, values=numbers)
    low, high = t_interval(numbers) if len(numbers) >= ENOUGH else (min(numbers), max(numbers))
    return Estimate(float(np.mean(numbers)), low, high, len(numbers), values=numbers)


def steps_to_half(values: Sequence[float | None]) -> Estimate | None:
    """Seeds that never got to half are counted beside the mean of the others."""
    known = [float(value) for value in values if value is not None and pd.notna(value)]
    if len(known) < len(values):
        mean = float(np.mean(known)) if known else float("inf")
        return Estimate(mean, None, None, len(values), len(known))
    average = estimate(known)
    return average and replace(average, reached=len(known))


def estimated(seeds: pd.DataFrame, measurement: str = "") -> Estimate | None:
    """Of lines with a value for each seed."""
    if measurement == "steps_to_half":
        return steps_to_half(seeds["value"].tolist())
    return estimate(seeds["value"].tolist(), [*zip(seeds["low"], seeds["high"], strict=True)])


def estimate_text(value: Estimate | None, scale: float, digits: int, n: int) -> str:
    """``1.2 ± 0.9`` of five seeds and more, of fewer each (``0.5, 1.0, 2.1``), of one ``2.0 [1.0,
    4.0]`` over images.

    ``(n=2)`` stands behind it where n seeds were expected.
    """
    if value is None:
        return DASH
    text = f"{scale * value.mean:.{digits}f}"
    if 1 < value.n < ENOUGH:
        text = ", ".join(f"{scale * each:.{digits}f}" for each in value.values)
    elif value.n > 1 and value.high is not None:
        text += f" ± {scale * (value.high - value.mean):.{digits}f}"
    elif value.low is not None and value.high is not None:
        text += f" [{scale * value.low:.{digits}f}, {scale * value.high:.{digits}f}]"
    return text + (f" (n={value.n})" if value.n != n else "")


def half_text(value: Estimate | None, budgets: Sequence[float]) -> str:
    """``130 ± 12``, ``120, 140``, ``130 (1 of 3)`` if others never got there, ``> 400`` if none."""
    if value is None:
        return DASH
    if value.reached == 0:
        return f"> {budgets[-1]:.10g}" if len(budgets) else "not reached"
    if value.reached is not None and value.reached < value.n:
        return f"{value.mean:.0f} ({value.reached} of {value.n})"
    return estimate_text(value, 1, 0, value.n)


# ---- admissible models ---------------------------------------------------------------------------


def intact(pairs: Sequence[RowPair], guidance: str) -> bool | None:
    """Whether models still draw what they should, on average: admissible. None where that was not
    measured.

    Args:
        pairs: rows of a model and of the one that it was made from.
        guidance: of distances; of retained accuracy all count at which images were drawn.
    """
    checks = []
    if kept := [each for pair in pairs for each in _retained(pair)]:
        after, before = map(fmean, zip(*kept, strict=True))
        checks.append(after >= before - LOSS - ROUNDING)
    distances = (_both(pairs, metric, guidance) for metric in DISTANCES)
    if known := next(filter(None, distances), None):
        after, before = map(fmean, zip(*known, strict=True))
        checks.append(after <= GROWTH * before + ROUNDING)
    return all(checks) if checks else None


def _retained(pair: RowPair) -> list[tuple[float, float]]:
    """The means over all guidances at which both have retained images, if there are any."""
    scales = (((pair[1] or {}).get("metrics") or {}).get("retain_accuracy") or {}).keys()
    known = [both for scale in scales for both in _both([pair], "retain_accuracy", scale)]
    if not known:
        return []
    after, before = map(fmean, zip(*known, strict=True))
    return [(after, before)]


def _both(pairs: Sequence[RowPair], metric: str, guidance: str) -> list[tuple[float, float]]:
    """Where both rows have the metric; a distance only if it is of equally many images."""
    both = []
    for after, before in pairs:
        values = [measured(row, metric, guidance) for row in (after, before)]
        one, other = map(number, values)
        comparable = metric not in DISTANCES or len(set(map(image_count, values))) == 1
        if one is not None and other is not None and comparable:
            both.append((one, other))
    return both


# ---- differences ---------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Difference:
    """One accuracy minus another, in [-1, 1]."""

    mean: float
    low: float | None = None  # 95 %
    high: float | None = None
    p: float | None = None  # two-sided; None of one seed, or the same difference in every seed
    test: str = ""  # IMAGES or SEEDS
    n: int = 1  # pairs
    seeds: int = 1
    adjusted: float | None = None  # p after Holm
    values: tuple[float, ...] = ()  # of each seed

    @property
    def marked(self) -> bool:
        return self.adjusted is not None and self.adjusted < LEVEL


def difference(one: pd.DataFrame, other: pd.DataFrame) -> Difference | None:
    """The first minus the second by their common seeds; over images if there is but one."""
    seeds = sorted(set(one.index) & set(other.index))
    if not seeds:
        return None
    alone = image_difference(one, other) if len(seeds) == 1 else None
    return alone or over_seeds([one.at[seed, "value"] - other.at[seed, "value"] for seed in seeds])


def image_difference(one: pd.DataFrame, other: pd.DataFrame) -> Difference | None:
    """As `difference`, image by image; None without hits, or where images share a start."""
    seeds = sorted(set(one.index) & set(other.index))
    both = [frame.loc[seeds] for frame in (one, other)]
    unknown = any(each["starts"].notna().any() or each["hits"].isna().any() for each in both)
    if unknown or not seeds:
        return None
    hits = [(_vector(one.at[seed, "hits"]), _vector(other.at[seed, "hits"])) for seed in seeds]
    return over_images(hits) if all(len(a) == len(b) > 0 for a, b in hits) else None


def _vector(hits: str) -> np.ndarray:
    vector: np.ndarray = np.array(list(hits)) == "1"
    return vector


def over_images(hits: Sequence[tuple[np.ndarray, np.ndarray]]) -> Difference:
    """Of two boolean arrays (N,) over the same images, for each seed."""
    from scipy.stats import binomtest  # a second of imports, for comparisons alone

    n = np.array([len(one) for one, _ in hits])
    gained = np.array([np.sum(one & ~other) for one, other in hits])
    lost = np.array([np.sum(other & ~one) for one, other in hits])
    # resampling images of three kinds (gained, lost, the same in both) is drawing how many there
    # are of each
    shares = np.stack([gained, lost, n - gained - lost], axis=1) / n[:, None]
    draws = []
    for seed, kinds in enumerate(shares):
        drawn = np.random.default_rng(seed).multinomial(n[seed], kinds, DRAWS) / n[seed]
        draws.append(drawn[:, 0] - drawn[:, 1])
    changed = int(gained.sum() + lost.sum())
    p = float(binomtest(int(gained.sum()), changed).pvalue) if changed else 1.0
    values = (gained - lost) / n
    ends = _percentiles(draws)
    return Difference(
        float(np.mean(values)), *ends, p, IMAGES, int(n.sum()), len(hits), values=tuple(values)
    )


def over_seeds(values: Sequence[float]) -> Difference:
    """Of the difference of each seed."""
    from scipy.stats import ttest_1samp

    mean, n = float(np.mean(values)), len(values)
    if n < 2 or np.ptp(values) < ROUNDING:  # no spread: a t test would take it for certainty
        return Difference(mean, test=SEEDS, n=n, seeds=n, values=tuple(values))
    p = float(ttest_1samp(values, 0).pvalue)
    return Difference(mean, *t_interval(values), p, SEEDS, n, n, values=tuple(values))


def holm(p: Sequence[float]) -> np.ndarray:
    """In the order given: the k-th smallest of m times m - k + 1, never falling."""
    p, order = np.asarray(p, float), np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def against(
    reference: K, values: Mapping[K, pd.DataFrame], test: Test = difference
) -> dict[K, Difference]:
    """Every other one minus the reference, with p values adjusted over all of them."""
    differences = {}
    for key, value in values.items():
        result = None if key == reference else test(value, values[reference])
        if result is not None:
            differences[key] = result
    tested = {key: result.p for key, result in differences.items() if result.p is not None}
    for key, adjusted in zip(tested, holm(list(tested.values())), strict=True):
        differences[key] = replace(differences[key], adjusted=float(adjusted))
    return differences


def image_interval(values: Sequence[float], counts: Sequence[float]) -> tuple[float, float] | None:
    """95 % bootstrap interval of a mean accuracy over the images of these models, each resampled by
    itself.

    A resampled share of n hits or misses is a binomial draw, so the share and n are all it takes;
    None unless every model has both.
    """
    if not len(values) or any(pd.isna([*values, *counts])):
        return None
    draws = []
    for seed, (value, n) in enumerate(zip(values, counts, strict=True)):
        draws.append(np.random.default_rng(seed).binomial(int(n), value, DRAWS) / n)
    return _percentiles(draws)


def highest(seeds: pd.DataFrame) -> float:
    """How far up the values of these lines reach, and their interval over images: of one seed
    Wilson's, as a bootstrap of no hit has no width.
    """
    values = seeds["value"].tolist()
    ends = image_interval(values, seeds["n"].tolist()) or ()
    alone = seeds["high"].dropna().tolist() if len(values) == 1 else []
    return float(max([*values, *ends[1:], *alone]))


def _percentiles(draws: Sequence[np.ndarray]) -> tuple[float, float]:
    """Of the mean over seeds; (seeds, DRAWS)."""
    ends: np.ndarray = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
    return float(ends[0]), float(ends[1])
