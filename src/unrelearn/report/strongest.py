"""What an attacker brings back of one unlearned model: which attacked models count, which is
chosen, what is reported.

An attacked model counts if it still draws the retained classes (`intact`); of an attack whose
learning rate falls to nought only the end point counts, for before it the weights are still in
motion. Of the learning rates, or of the levels
of an edit, the strongest is chosen on the first half of the images and reported on the second: a
    maximum over the images
that it was chosen by is too high by chance alone. Attack seeds are replicates: their mean is chosen
    and reported.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from unrelearn.report import (
    attack_seed,
    image_count,
    interval,
    measured,
    number,
    retained_guidance,
    row_of,
    takes_steps,
)

LOSS, GROWTH = (
    0.02,
    1.5,
)  # of retained accuracy, of the distance: what an attack or a method may cost
ROUNDING = 1e-9
ANNEALED = ("cosine", "one_cycle")
DISTANCES = ("fid", "fd_oracle")  # the first that both models have
BROKE = "attack broke the model"


@dataclass(frozen=True)
class Best:
    """The strongest attacked models of one model seed, one for each attack seed; none where the
    attack broke them all.
    """

    pairs: tuple[tuple[dict, dict], ...]  # (record, row), in order of attack seeds
    guidance: str
    chosen: bool = False  # among several: only the second half of the images may be reported
    # no end point is intact; `pairs` are then of the strongest intact budget, if there is one
    broke: bool = False

    @property
    def values(self) -> list[dict]:
        """Forget accuracy under each attack seed."""
        found = [measured(row, "forget_accuracy", self.guidance) for _, row in self.pairs]
        return [second_half(value) for value in found] if self.chosen else found

    @property
    def value(self) -> dict | None:
        return averaged(self.values)

    @property
    def maximum(self) -> float | None:
        return max(map(number, self.values), default=None)

    @property
    def score(self) -> float:
        """What it is chosen by."""
        return _score(self.pairs, self.guidance)

    @property
    def at(self) -> float | None:
        """Its budget or level; None for the unlearned model."""
        return self.pairs[0][1].get("step") if self.pairs else None

    @property
    def runs(self) -> list[str]:
        return [record["name"] for record, _ in self.pairs]

    def mean(
        self, metric: str, field: str | None = None, guidance: str | None = None
    ) -> float | None:
        """Of another measurement of the same models, over attack seeds; `field` of it holds the
        accuracy.
        """
        found = [measured(row, metric, guidance or self.guidance) for _, row in self.pairs]
        return number(averaged([(value or {}).get(field) if field else value for value in found]))

    @property
    def retained(self) -> float | None:
        return (
            self.mean("retain_accuracy", guidance=retained_guidance(self.pairs[0][0]))
            if self.pairs
            else None
        )


def strongest(records: Sequence[dict], guidance: str) -> Best | None:
    """The strongest intact end point or level; None if none was measured.

    Args:
        records: of one model seed under one attack: every learning rate and attack seed.
    """
    options: dict[
        tuple, dict[int, tuple[dict, dict]]
    ] = {}  # by rate and budget or level, then by attack seed
    for record in records:
        for row in record["rows"]:
            if (
                row["model"] == "attacked"
                and interval(measured(row, "forget_accuracy", guidance)) is not None
            ):
                option = learning_rate(record), row["step"]
                options.setdefault(option, {}).setdefault(attack_seed(record), (record, row))
    pairs = [pair for same in options.values() for pair in same.values()]
    ends = [pair for pair in pairs if _is_end(*pair) and _intact(*pair) is not False]
    broke = not ends
    kept = ends or [pair for pair in pairs if _intact(*pair)]
    tried = any(
        row["model"] == "attacked" and row.get("status") == "diverged"
        for r in records
        for row in r["rows"]
    )
    if not kept:
        return Best((), guidance, broke=True) if pairs or tried else None
    left = [
        [pair for _, pair in sorted(same.items()) if any(pair[1] is row for _, row in kept)]
        for same in options.values()
    ]
    left = [tuple(same) for same in left if same]
    return Best(max(left, key=lambda same: _score(same, guidance)), guidance, len(left) > 1, broke)


def strongest_of(several: Iterable[Best]) -> Best:
    """Of several attacks, and of doing nothing; broken ones count with what they show."""
    several = [best for best in several if best.pairs]
    best = max(several, key=lambda best: best.score)
    return Best(best.pairs, best.guidance, best.chosen or len(several) > 1)


def learning_rate(record: dict):
    return (record["config"].get("attack") or {}).get("learning_rate")


def _is_end(record: dict, row: dict) -> bool:
    """Whether an attacker may stop here: at the end where the rate falls to nought, else anywhere;
    levels are alternatives.
    """
    annealed = (record["config"].get("attack") or {}).get("lr_schedule") in ANNEALED
    return not (annealed and takes_steps(record)) or (
        record["status"] == "finished" and row is record["rows"][-1]
    )


def _intact(record: dict, row: dict) -> bool | None:
    return intact([(row, row_of(record, "unlearned"))], retained_guidance(record))


def intact(pairs: Sequence[tuple[dict | None, dict | None]], guidance: str) -> bool | None:
    """Whether models still draw what they should, on average: admissible. None where that was not
    measured.

    Args:
        pairs: rows of a model and of the one that it was made from.
    """
    checks = []
    kept = _both(pairs, "retain_accuracy", guidance)
    if kept:
        after, before = map(fmean, zip(*kept, strict=True))
        checks.append(after >= before - LOSS - ROUNDING)
    distances = next(
        (both for metric in DISTANCES if (both := _both(pairs, metric, guidance))), None
    )
    if distances:
        after, before = map(fmean, zip(*distances, strict=True))
        checks.append(after <= GROWTH * before + ROUNDING)
    return all(checks) if checks else None


def _both(pairs: Sequence[tuple], metric: str, guidance: str) -> list[tuple[float, float]]:
    """Where both rows have the metric; a distance only if it is of equally many images."""
    found = [tuple(measured(row, metric, guidance) for row in pair) for pair in pairs]
    found = [pair for pair in found if None not in map(number, pair)]
    if metric in DISTANCES:
        found = [pair for pair in found if len({image_count(value) for value in pair}) == 1]
    return [tuple(map(number, pair)) for pair in found]


# ---- shares of images
# -----------------------------------------------------------------------------------------------


def _score(pairs: Sequence[tuple[dict, dict]], guidance: str) -> float:
    """Mean forget accuracy on the first half of the images; on all where the record does not say
    which were hits.
    """
    values = [measured(row, "forget_accuracy", guidance) for _, row in pairs]
    return fmean(
        (
            hits[: len(hits) // 2].count("1") / (len(hits) // 2)
            if len(hits := value.get("hits") or "") > 1
            else number(value)
        )
        for value in values
    )


def second_half(value: dict) -> dict:
    """The accuracy on the second half of the images, as long as the record says which were hits."""
    hits = value.get("hits") or ""
    return share(hits[len(hits) // 2 :], value) if len(hits) > 1 else value


def share(hits: str, like: dict) -> dict:
    """Accuracy with its 95 % interval (Wilson 1927) from a "0" or "1" for each image, several of
    which may share a start.
    """
    n, p, z = len(hits), hits.count("1") / len(hits), 1.959963984540054
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    ends = {"low": max(0.0, float(middle - half)), "high": min(1.0, float(middle + half))}
    return {
        "value": p,
        **ends,
        "n": n,
        "hits": hits,
        **({"starts": like["starts"]} if "starts" in like else {}),
    }


def averaged(values: Sequence):
    """One measurement of a model seed out of those of its attack seeds; None where none was made.

    Args: values: numbers, or accuracies with their intervals; where all record their hits the
        interval is of all images.
    """
    values = [value for value in values if number(value) is not None]
    if len(values) < 2 or all(value == values[0] for value in values):
        return values[0] if values else None
    hits = [value.get("hits") if isinstance(value, dict) else None for value in values]
    return share("".join(hits), values[0]) if all(hits) else {"value": fmean(map(number, values))}
