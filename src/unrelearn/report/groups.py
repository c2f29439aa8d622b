"""Records into rows: collect them, group what was run and measured alike, average over seeds, never
over protocols.

A *group* is one row of the comparison: the same data, model, oracle, protocol, forgotten classes,
method and attack, with the same settings, under any number of seeds; attack seeds are replicates
inside a seed. Runs that differ in how they were *measured*, or that another version of a stage
made, go to separate tables; runs of one method or attack with different settings go to separate
rows. Either way the difference is named.
"""

import json
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import stats

from unrelearn.report import (
    QUALITY,
    attack_seed,
    foreign_features,
    guidances,
    image_count,
    interval,
    main_guidance,
    measured,
    number,
    protocol_name,
    read_record,
    row_of,
    shows_class,
    takes_steps,
)
from unrelearn.report.figures import MODELS
from unrelearn.report.strongest import DISTANCES, averaged

log = logging.getLogger(__name__)

# config sections
MEASUREMENT = (
    "dataset",
    "model",
    "precision",
    "oracle",
    "protocol",
    "sampler",
    "eval",
)  # a table holds one of each
TREATMENT = ("method", "attack")  # a row holds one of each
NAMES = ("dataset", "class_names", "protocol", "method", "attack", "forget_classes")
CONTROLS = (
    "original",
    "retrain",
    "row_swap",
    "projection_swap",
    "rescaled",
    "random_weights",
)  # these rows come first
IGNORED = {
    "_target_",
    "preset",
    "download",
    "root",
    "verify",
}  # says which code, which the names say, or how data arrived
REPLICATE = "attack.seed"  # no setting: runs that differ only in it are averaged inside their seed
ENOUGH = 5  # seeds for a t-interval; of fewer the values themselves are shown
RATE = "attack.learning_rate"  # the attacker chooses it: runs that differ only in it are one attack
MAX_NAMED = 4  # settings spelled out when two protocols differ
# of record["versions"], what decides the numbers; other versions, torch's say, are only mentioned
STAGES = (
    "unrelearn",
    "pretrain",
    "oracle",
    "unlearn",
    "attack",
    "samples",
    "reference",
    "evaluate",
)


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds. Its ends: of five seeds and more the 95 % t-interval, of fewer the
    lowest and the highest value, of one seed its own interval over images, where it has one."""

    mean: float
    low: float | None
    high: float | None
    n: int
    reached: int | None = (
        None  # steps to half: how many of the n got there (the mean is over those)
    )
    values: tuple[float, ...] = ()  # of each seed, in their order


@dataclass
class Group:
    """One row of the comparison. `estimates` maps a column, e.g. ``attacked_forget_accuracy@1.0``,
    to its Estimate.
    """

    records: list[dict]
    measurement: dict
    treatment: dict
    num_images: int | None
    distance_images: int | None  # of the Fréchet distance, whose bias depends on it
    budgets: tuple[
        float, ...
    ]  # optimiser steps, or levels in the order in which they were measured
    table: str = ""  # title of the table it belongs to, naming what sets that table apart
    note: str = ""  # settings that set it apart from another row of the same name
    style: int = 0  # colour and marker: a method looks the same in every figure
    estimates: dict[str, Estimate] = field(default_factory=dict)

    @property
    def first(self) -> dict:
        return self.records[0]

    @property
    def finished(self) -> list[dict]:
        return [record for record in self.records if record["status"] == "finished"]

    @property
    def method_note(self) -> str:
        """The note without the attack's settings."""
        return ", ".join(part for part in self.note.split(", ") if not part.startswith("attack."))

    @property
    def attack_note(self) -> str:
        """The attack's settings of the note, without its learning rate."""
        parts = [
            part
            for part in self.note.split(", ")
            if part.startswith("attack.") and not part.startswith(f"{RATE}=")
        ]
        return ", ".join(part.removeprefix("attack.") for part in parts)

    def count(self, status: str) -> int:
        return sum(record["status"] == status for record in self.records)

    @property
    def n(self) -> int:
        """Seeds that have a finished run."""
        return len({record["seed"] for record in self.finished})

    @property
    def seeds(self) -> str:
        """``n=3``, ``n=2, 1 diverged``, ``n=3 of 3 attack seeds``."""
        each = max(Counter(record["seed"] for record in self.finished).values(), default=1)
        counts = (
            [f"n={self.n}" + (f" of {each} attack seeds" if each > 1 else "")]
            if self.finished
            else []
        )
        return ", ".join(
            counts
            + [f"{n} {status}" for status in ("diverged", "failed") if (n := self.count(status))]
        )


# ---- collecting
# --------------------------------------------------------------------------------------------------


def collect(paths: Iterable[Path]) -> list[dict]:
    """Every ``result.json`` at or below the paths, the newest of each name, sorted by name.

    A broken file is named in a warning and skipped; so is the older of two files of one name, as
    the results of two machines may hold, if their numbers differ. Each record gains ``"path"``, the
    file it came from.
    """
    files = {
        file.resolve()
        for path in map(Path, paths)
        for file in (path.rglob("result.json") if path.is_dir() else [path])
    }
    found: dict[str, list[dict]] = {}
    for file in sorted(files):
        try:
            record = {**read_record(file), "path": str(file)}
        except ValueError as error:
            log.warning("skipped %s: %s", file, error)
        else:
            found.setdefault(record["name"], []).append(record)
    return [_newest(found[name]) for name in sorted(found)]


def _newest(alike: Sequence[dict]) -> dict:
    """Of records that should be the same; those with other numbers are named, never averaged."""
    newest = max(alike, key=_created)
    for record in alike:
        if _numbers(record) != _numbers(newest):
            log.warning(
                "%s has other numbers than the newer %s and is left out",
                _where(record),
                _where(newest),
            )
    return newest


def _where(record: dict) -> str:
    return str(record.get("path") or record["name"])


def _created(record: dict) -> str:
    return str(record.get("created") or "")  # ISO 8601 in UTC sorts as text


def _numbers(record: dict) -> tuple:
    """All that was measured, without the hits of each image, which older records leave out: their
    share is there.
    """
    rows = [
        (
            row["model"],
            row.get("step"),
            {
                metric: {guidance: _without_hits(value) for guidance, value in scales.items()}
                for metric, scales in (row.get("metrics") or {}).items()
            },
        )
        for row in record["rows"]
    ]
    return record["status"], rows


def _without_hits(value):
    return (
        {key: inner for key, inner in value.items() if key != "hits"}
        if isinstance(value, dict)
        else value
    )


# ---- grouping
# --------------------------------------------------------------------------------------------------


def comparison(records: Sequence[dict]) -> list[Group]:
    """Group the records and average each group over its seeds; sorted as the tables show them."""
    found: dict[tuple, list[Group]] = {}
    # Finished runs first: they show the protocol in full, and a run that broke off joins the group
    # it fits.
    for record, measurement in sorted(
        zip(records, measurements(records), strict=True), key=_finished_first
    ):
        treatment = fingerprint(record, TREATMENT)
        alike = found.setdefault(
            _key(*(record.get(name) for name in NAMES), measurement, treatment), []
        )
        shown = (_num_images(record), _distance_images(record), _budgets(record))
        group = next((g for g in alike if record["status"] != "finished" or _fits(g, *shown)), None)
        if group is None:
            alike.append(Group([record], measurement, treatment, *shown))
        else:
            group.records.append(record)
            group.distance_images = group.distance_images or shown[1]
    groups = [group for alike in found.values() for group in alike]
    for group in groups:
        group.records = _one_of_each(group.records)
        group.estimates = estimates(group)
    for title, alike in gathered(groups, _title).items():
        unlike = differences(
            [
                {
                    **g.measurement,
                    "num_images": _said(g.num_images),
                    "distance_images": _said(g.distance_images),
                }
                for g in alike
            ]
        )
        for group, words in zip(alike, unlike, strict=True):
            group.table = title + (f" ({words})" if words else "")
    for alike in gathered(groups, _row_name).values():
        unlike = differences([{**g.treatment, "measured_budgets": _said(g.budgets)} for g in alike])
        for group, words in zip(alike, unlike, strict=True):
            group.note = words
    groups.sort(key=_order)
    methods = [(group.first["method"], group.method_note) for group in groups]
    style = {method: i for i, method in enumerate(dict.fromkeys(methods))}
    for group, method in zip(groups, methods, strict=True):
        group.style = style[method]
    return groups


def _fits(
    group: Group, num_images: int | None, distance_images: int | None, budgets: tuple[float, ...]
) -> bool:
    """Whether a record counted what the group counts; one that has no distance fits any."""
    same = (
        None in (group.distance_images, distance_images) or group.distance_images == distance_images
    )
    return same and (group.num_images, group.budgets) == (num_images, budgets)


def gathered(items: Iterable, key) -> dict:
    """The items by their key, in the order in which the keys come."""
    found: dict = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def _finished_first(pair: tuple[dict, dict]) -> tuple:
    record = pair[0]
    return (record["status"] != "finished", record["seed"], record["name"])


def _key(*parts) -> str:
    return json.dumps(parts, sort_keys=True)


def _said(count) -> str | None:
    """A run that counted nothing does not differ in the count."""
    return json.dumps(count) if count else None


def fingerprint(record: dict, sections: Sequence[str]) -> dict[str, str]:
    """The settings that decide what the numbers mean: ``{"sampler.num_inference_steps": "20",
    ...}``.
    """
    flat: dict[str, str] = {}
    for section in sections:
        _flatten(section, record["config"].get(section), flat)
    flat.pop(REPLICATE, None)
    return flat


def _flatten(prefix: str, value, flat: dict[str, str]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "_target_" and prefix.startswith(
                ("method.", "attack.")
            ):  # an object in it: nothing else names it
                flat[prefix] = json.dumps(inner.rpartition(".")[2])
            elif key not in IGNORED:
                _flatten(f"{prefix}.{key}", inner, flat)
    else:
        flat[prefix] = json.dumps(value, sort_keys=True)


def measurements(records: Sequence[dict]) -> list[dict[str, str]]:
    """How each record was measured, with the stage versions in which records that are measured
    alike disagree.

    A record that does not say its versions fits any one; where the others disagree nobody knows
    which, and it stands apart.
    """
    found = [fingerprint(record, MEASUREMENT) for record in records]
    alike = gathered(
        zip(records, found, strict=True),
        lambda pair: _key(*(pair[0].get(n) for n in NAMES[:3]), pair[1]),
    )
    for members in alike.values():
        for stage in STAGES:
            known = {version(record, stage) for record, _ in members} - {None}
            if len(known) > 1:
                for record, measurement in members:
                    measurement[f"versions.{stage}"] = version(record, stage) or "not recorded"
    return found


def version(record: dict, stage: str) -> str | None:
    """``3`` of a stage, ``2.14.1`` of a package; None if the record does not say."""
    known = (record.get("versions") or {}).get(stage)
    return None if known is None else str(known)


def versions_line(records: Sequence[dict]) -> str:
    """``Versions: evaluate 3; torch 2.14.1 (12 runs), 2.10.0 (3 runs). 700 of 715 runs do not
    record theirs.``
    """
    parts = []
    for stage in dict.fromkeys(
        stage for record in records for stage in record.get("versions") or {}
    ):
        counts = Counter(
            known for record in records if (known := version(record, stage)) is not None
        )
        parts.append(
            f"{stage} "
            + (
                next(iter(counts))
                if len(counts) == 1
                else ", ".join(f"{name} ({_runs(n)})" for name, n in counts.most_common())
            )
        )
    silent = sum(not record.get("versions") for record in records)
    absent = (
        f"{silent} of {_runs(len(records))} do not record the versions that made them"
        if silent
        else ""
    )
    return "; ".join([*parts, absent] if absent else parts) + "."


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"


def _num_images(record: dict) -> int | None:
    guidance = main_guidance(record)
    counts = [measured(row, "forget_accuracy", guidance) for row in record["rows"]]
    return next((count["n"] for count in counts if count and count.get("n")), None)


def _distance_images(record: dict) -> int | None:
    found = [
        image_count(measured(row, metric, g))
        for metric in DISTANCES
        for g in guidances(record, metric)
        for row in record["rows"]
    ]
    return next(filter(None, found), None)


def _budgets(record: dict) -> tuple[float, ...]:
    return tuple(
        row["step"]
        for row in record["rows"]
        if row["model"] == "attacked" and row.get("step") is not None
    )


def _one_of_each(records: list[dict]) -> list[dict]:
    """A repeated run is no replicate: of each seed and attack seed keep the finished one, then the
    newest.
    """
    kept = []
    for _, alike in sorted(
        gathered(records, lambda record: (record["seed"], attack_seed(record))).items()
    ):
        finished = [record for record in alike if record["status"] == "finished"]
        kept.append(_newest(finished) if finished else max(alike, key=_created))
    return kept


def _title(group: Group) -> str:
    model = json.loads(group.measurement.get("model.name", '""'))
    parts = [
        group.first["dataset"],
        f"model {model}" if model else "",
        f"protocol {protocol_name(group.first)}",
    ]
    return ", ".join(part for part in parts if part)


def _row_name(group: Group) -> tuple:
    return (
        group.table,
        tuple(group.first["forget_classes"]),
        group.first["method"],
        group.first["attack"],
    )


def differences(alike: Sequence[dict[str, str | None]]) -> list[str]:
    """What each has in the settings in which they are not all alike:
    ``sampler.num_inference_steps=20``.

    A setting may be absent, which is a difference, or None: it does not say, which is none.
    """
    keys = sorted(set().union(*alike))
    unlike = [
        key for key in keys if len({settings.get(key, "absent") for settings in alike} - {None}) > 1
    ]
    words = []
    for settings in alike:
        named = [
            f"{key}={value}" for key in unlike if (value := settings.get(key, "absent")) is not None
        ]
        if (
            len(named) > MAX_NAMED
        ):  # the checksum keeps apart what differs only in settings that are not spelled out
            named[MAX_NAMED:] = [
                f"and {len(named) - MAX_NAMED} more: {zlib.crc32(str(named).encode()):08x}"
            ]
        words.append(", ".join(named))
    return words


def place(method: str) -> tuple:
    """Sorts methods: the controls first, in their order."""
    return (CONTROLS.index(method) if method in CONTROLS else len(CONTROLS), method)


def _order(group: Group) -> tuple:
    return (
        group.table,
        group.first["forget_classes"],
        place(group.first["method"]),
        group.first["attack"],
        group.note,
    )


# ---- averaging
# --------------------------------------------------------------------------------------------------


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of n >= 2 values by Student's t with n - 1 degrees of freedom."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def estimate(values: Sequence) -> Estimate | None:
    """Average measurements (numbers, or accuracies with their intervals) over seeds; None where
    none was made.
    """
    made = [value for value in values if number(value) is not None]
    if not made:
        return None
    if len(made) == 1:
        _, low, high = interval(made[0]) or (None, None, None)
        return Estimate(number(made[0]), low, high, 1, values=(number(made[0]),))
    means = tuple(map(number, made))
    low, high = t_interval(means) if len(means) >= ENOUGH else (min(means), max(means))
    return Estimate(float(np.mean(means)), low, high, len(means), values=means)


def per_seed(records: Iterable[dict], of: Callable[[dict], object]) -> list:
    """What each seed has: the mean over its attack seeds, None where it was not measured."""
    return [
        averaged(list(map(of, same)))
        for same in gathered(records, lambda record: record["seed"]).values()
    ]


def estimates(group: Group) -> dict[str, Estimate]:
    """Every column of one group. A diverged run counts where it has a measurement, and only
    there.
    """
    records, every, found = group.records, pooled(group.records), {}

    def values(model: str, metric: str, g: str, field: str = "value") -> list:
        return per_seed(
            records,
            lambda record: _field(measured(_row(record, model, group.budgets), metric, g), field),
        )

    for metric in ("forget_accuracy", "retain_accuracy"):
        for g in guidances(every, metric):
            found |= {
                f"{model}_{metric}@{g}": estimate(values(model, metric, g)) for model in MODELS
            }
    for g in guidances(every):
        found |= {
            f"{model}_{field}@{g}": estimate(values(model, "forget_accuracy", g, field))
            for model in MODELS
            for field in ("another", "nothing")
        }
        if len(records) > len({record["seed"] for record in records}):
            found[f"attacked_forget_accuracy_maximum@{g}"] = estimate(
                [
                    _highest(same, group, g)
                    for same in gathered(records, lambda record: record["seed"]).values()
                ]
            )
    for q in QUALITY:
        name = "_".join(filter(None, (q.name, foreign_features(every, q.metric))))
        for g in guidances(every, q.metric):
            found |= {
                f"{model}_{name}@{g}": estimate(values(model, q.metric, g, q.field))
                for model in MODELS
            }
            if q.beside:  # no matter of which model: it is of real images
                found[f"{name}_{q.beside}@{g}"] = estimate(
                    values("original", q.metric, g, q.beside)
                )
    for g in guidances(every):
        having = [record for record in records if _curve(record, g)]
        found[f"area@{g}"] = estimate(
            per_seed(having, lambda record, g=g: _curve(record, g).get("area"))
        )
        if takes_steps(group.first):
            having = [record for record in having if shows_class(record, g)]
            found[f"steps_to_half@{g}"] = steps_to_half(
                per_seed(having, lambda record, g=g: number(_curve(record, g).get("steps_to_half")))
            )
    return {column: value for column, value in found.items() if value is not None}


def _field(value, field: str):
    """The whole measurement, with its interval, or another number of it."""
    return value if field == "value" else number(value, field)


def _curve(record: dict, guidance: str) -> dict:
    return (record.get("recovery") or {}).get(guidance) or {}


def _highest(records: Sequence[dict], group: Group, guidance: str) -> float | None:
    """Over the attack seeds of one seed, after the last budget or level."""
    values = [
        number(measured(_row(record, "attacked", group.budgets), "forget_accuracy", guidance))
        for record in records
    ]
    return max((value for value in values if value is not None), default=None)


def pooled(records: Iterable[dict]) -> dict:
    """One record with the rows of all: for what was measured in any of them."""
    return {"rows": [row for record in records for row in record["rows"]]}


def _row(record: dict, model: str, budgets: tuple[float, ...]) -> dict | None:
    """The row to average; an attack that broke off early has none at the last budget."""
    row = row_of(record, model)
    early = model == "attacked" and budgets and row is not None and row.get("step") != budgets[-1]
    return None if early else row


def steps_to_half(values: list[float | None]) -> Estimate | None:
    """Seeds that never got to half have no number to average: count them beside the mean of the
    others.
    """
    made = [value for value in values if value is not None]
    if len(made) < len(values):
        return Estimate(
            float(np.mean(made)) if made else float("inf"), None, None, len(values), len(made)
        )
    return replace(estimate(made), reached=len(made)) if made else None
