"""One record: how it is read, and what it says of its models."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

log = logging.getLogger(__name__)

Record: TypeAlias = dict[str, Any]  # one result.json: docs/read-results.md
Row: TypeAlias = dict[str, Any]  # one of record["rows"]
Interval: TypeAlias = tuple[float, float, float]  # value, low, high

VERSION = 1
PAGE = "report.html"  # beside result.json; the comparison links to it
# what a record holds, as a file edited by hand may not
SHAPE: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "name": (str,),
    "status": (str,),
    "config": (dict,),
    "dataset": (str,),
    "method": (str,),
    "attack": (str,),
    "seed": (int,),
    "forget_classes": (list,),
    "rows": (list,),
}
OPTIONAL: dict[str, tuple[type, ...]] = {
    "protocol": (str,),
    "class_names": (list,),
    "stages": (list,),
    "versions": (dict,),
    "command": (str,),
    "recovery": (dict, type(None)),
    "attack_seed": (int,),
}
ROW: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "metrics": (dict,),
    "step": (int, float, type(None)),
}
MODELS = ("original", "unlearned", "attacked")
NONE = "none"  # the attack that is none
ONLY = "1.0"  # the scale of what has no guidance: a classifier's numbers


@dataclass(frozen=True)
class Quality:
    """A number that measures the images generated under the retained classes."""

    name: str  # its measurement in the table
    metric: str  # row["metrics"][metric][guidance][field] is the number
    field: str
    label: str
    digits: str  # its format; "3" stands for three significant digits
    beside: str | None = None  # the field that says what real test images get


QUALITY = (
    Quality("fid", "fid", "value", "FID", "3", "floor"),
    Quality("fd_oracle", "fd_oracle", "value", "FD oracle", "3", "floor"),
    Quality("kid", "kid", "value", "KID", ".2g", "floor"),
    Quality("kid_oracle", "kid_oracle", "value", "KID oracle", ".2g", "floor"),
    Quality("inception_score", "inception_score", "value", "IS", ".2f", "real"),
    Quality("precision", "precision_recall", "precision", "precision", ".2f"),
    Quality("recall", "precision_recall", "recall", "recall", ".2f"),
    Quality("density", "density_coverage", "density", "density", ".2f"),
    Quality("coverage", "density_coverage", "coverage", "coverage", ".2f"),
)

PARAPHRASE = "paraphrase_accuracy"
# of a word, beside its presence; a run has those that were measured
UNDER_FORGOTTEN = (
    Quality("paraphrase_accuracy", "paraphrase_accuracy", "value", "paraphrase", "share"),
    Quality("concept_accuracy_kept", "concept_accuracy", "kept", "others kept", "share"),
)
UNDER_RETAINED = (
    Quality("domain_accuracy", "domain_accuracy", "value", "in-domain", "share"),
    Quality(
        "domain_accuracy_cross_domain", "domain_accuracy", "cross_domain", "cross-domain", "share"
    ),
    Quality("nearby_damage", "nearby_damage", "value", "nearby", "share"),
)
OF_WORDS = UNDER_FORGOTTEN + UNDER_RETAINED


@dataclass(frozen=True)
class Presence:
    """Share of images under the forgotten captions that show what was to be forgotten."""

    name: str  # its measurement
    held_out: str  # the same by the classifier that no method has seen
    words: str
    of_word: bool


CLASS = Presence(
    "forget_accuracy", "agreement_held_out_forget_accuracy", "forget accuracy", of_word=False
)
WORD = Presence("concept_accuracy", "concept_accuracy_held_out", "concept accuracy", of_word=True)


# ---- reading -------------------------------------------------------------------------------------


def read_record(path: Path) -> Record:
    """Read one ``result.json``; a ValueError says why it is no record."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("not a record: the file holds no JSON object")
    missing = [key for key in SHAPE if key not in record]
    if missing:
        raise ValueError(f"not a record: {', '.join(missing)} missing")
    if record["version"] != VERSION:
        raise ValueError(f"version {record['version']!r}; this reader knows {VERSION}")
    if wrong := _unlike(record, SHAPE | OPTIONAL, ""):
        raise ValueError(f"not a record: {wrong}")
    for number, row in enumerate(record["rows"]):
        where = f"rows[{number}]"
        if not isinstance(row, dict):
            raise ValueError(f"not a record: {where} is {row!r:.40}")
        metrics = row.get("metrics", {})
        wrong = _unlike(row, ROW, f"{where}.") or _unlike(
            metrics, dict.fromkeys(metrics, (dict, type(None))), f"{where}.metrics."
        )
        if wrong:
            raise ValueError(f"not a record: {wrong}")
    return record


def _unlike(part: dict[str, Any], shape: dict[str, tuple[type, ...]], where: str) -> str | None:
    """The first value that is of no type that it may be, in words."""
    for key, types in shape.items():
        if key in part and not isinstance(part[key], types):
            return f"{where}{key} is {part[key]!r:.40}"
    return None


def collect(paths: Iterable[Path]) -> list[Record]:
    """Every ``result.json`` at or below the paths, the newest of each name, sorted by name.

    A broken file is named in a warning and skipped; so is the older of two files of one name, as
    the results of two machines may hold, if their numbers differ. Each record gains ``"path"``, the
    file it came from.
    """
    files = set()
    for path in map(Path, paths):
        files |= {
            file.resolve() for file in (path.rglob("result.json") if path.is_dir() else [path])
        }
    named: dict[str, list[Record]] = {}
    for file in sorted(files):
        try:
            record = {**read_record(file), "path": str(file)}
        except ValueError as error:
            log.warning("skipped %s: %s", file, error)
        else:
            named.setdefault(record["name"], []).append(record)
    return [newest(named[name]) for name in sorted(named)]


def newest(same: Sequence[Record]) -> Record:
    """Of records that should be the same; those with other numbers are named, never averaged."""
    last = max(same, key=created)
    for record in same:
        if _numbers(record) != _numbers(last):
            log.warning(
                "%s has other numbers than the newer %s and is left out",
                *(str(each.get("path") or each["name"]) for each in (record, last)),
            )
    return last


def created(record: Record) -> str:
    return str(record.get("created") or "")  # ISO 8601 in UTC sorts as text


def _numbers(record: Record) -> str:
    """All that was measured, without the hits, which older records leave out."""
    rows = [[row["model"], row.get("step"), row.get("metrics") or {}] for row in record["rows"]]
    return json.dumps([record["status"], _without_hits(rows)], sort_keys=True)


def _without_hits(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_hits(inner) for key, inner in value.items() if key != "hits"}
    return [_without_hits(inner) for inner in value] if isinstance(value, list) else value


# ---- measurements --------------------------------------------------------------------------------


def measured(row: Row | None, metric: str, guidance: str) -> Any:
    """``row["metrics"][metric][guidance]``, or None where it was not measured."""
    return (((row or {}).get("metrics") or {}).get(metric) or {}).get(guidance)


def by_row(record: Record, metric: str, guidance: str) -> list[Any]:
    """What was measured of each model; {} where nothing was."""
    values = [measured(row, metric, guidance) for row in record["rows"]]
    return [{} if value is None else value for value in values]


def by_wording(value: dict[str, Any] | None) -> dict[str, float]:
    """Of what was measured under paraphrases, by the number of the wording."""
    return (value or {}).get("by_wording") or {}


def number(value: object, field: str = "value") -> float | None:
    """A finite float out of a plain number or of ``{"value": ...}``, else None."""
    if isinstance(value, dict):
        value = value.get(field)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def image_count(value: object) -> int | None:
    """How many images a measurement was made on, if it says so."""
    return value.get("n") if isinstance(value, dict) else None


def interval(value: object) -> Interval | None:
    """(value, low, high) of an accuracy; None unless all three are there."""
    if not isinstance(value, dict):
        return None
    share, low, high = (number(value, field) for field in ("value", "low", "high"))
    return None if share is None or low is None or high is None else (share, low, high)


def every(record: Record, metric: str) -> list[Any]:
    """All that was measured of a metric, at any guidance and of any model, row by row."""
    scales = [(row.get("metrics") or {}).get(metric) or {} for row in record["rows"]]
    return [value for scale in scales for value in scale.values() if value]


def presence(record: Record) -> Presence:
    """Of a word the images that show it, whatever else they show, where that was measured."""
    return WORD if guidances(record, WORD.name) else CLASS


def guidances(record: Record, metric: str | None = None) -> list[str]:
    """Guidance scales at which the metric, or `presence`, was measured, ascending, as their JSON
    keys.
    """
    metric = metric or presence(record).name
    scales = [(row.get("metrics") or {}).get(metric) or {} for row in record["rows"]]
    return sorted(set().union(*scales), key=float)


def main_guidance(record: Record, metric: str | None = None) -> str:
    """Of columns that show one guidance: 1 where measured, else the smallest."""
    return main_of(guidances(record, metric))


def main_of(scales: Sequence[str]) -> str:
    """As `main_guidance`, of guidance scales in ascending order; 1.0 of none."""
    return next((scale for scale in scales if float(scale) == 1.0), scales[0] if scales else "1.0")


def retained_guidance(record: Record) -> str:
    """The main guidance of what is measured on the retained classes."""
    metrics = ("retain_accuracy", *(quality.metric for quality in QUALITY))
    return main_guidance(
        record, next((m for m in metrics if guidances(record, m)), "retain_accuracy")
    )


def foreign_features(record: Record, metric: str) -> str | None:
    """Whose features these are if not Inception's and the name does not say it: ``oracle``."""
    named = [value["features"] for value in every(record, metric) if value.get("features")]
    return named[0] if named and named[0] != "inception" else None


def pooled(records: Iterable[Record]) -> Record:
    """One record with the rows of all: for what was measured in any of them."""
    return {"rows": [row for record in records for row in record["rows"]]}


# ---- models --------------------------------------------------------------------------------------


def row_of(record: Record, model: str) -> Row | None:
    """The model's row; of attacked ones the last that did not diverge."""
    rows = [row for row in rows_of(record, model) if row.get("status") != "diverged"]
    return rows[-1] if rows else None


def rows_of(record: Record, model: str) -> list[Record]:
    return [row for row in record["rows"] if row["model"] == model]


def unlearning(record: Record) -> list[Row]:
    """Of the table of stages, what the method made; nothing where it changes nothing."""
    return [stage for stage in record.get("stages") or [] if stage["stage"] == "unlearn"]


def attack_unit(record: Record) -> str:
    """What budgets count: optimiser ``steps``, or the levels of an edit, ``bits``."""
    return record.get("attack_unit") or "steps"


def takes_steps(record: Record) -> bool:
    return attack_unit(record) == "steps"


def sees_forgotten(record: Record) -> bool:
    """Whether the attack holds images of the class or weights of the original model."""
    sees = record.get("attack_sees_forgotten")
    return record["attack"] == "few_shot" if sees is None else bool(sees)


def attack_seed(record: Record) -> int:
    """The attack's own seed, inside that of the model; older records were all made with one."""
    return record.get("attack_seed") or 0


def curve_of(record: Record, guidance: str) -> dict[str, Any]:
    return (record.get("recovery") or {}).get(guidance) or {}


def shows_class(record: Record, guidance: str) -> bool:
    """Whether the original draws the class at all, so that there is something to recover."""
    drawn = number(measured(row_of(record, "original"), presence(record).name, guidance))
    return drawn != 0 and not curve_of(record, guidance).get("nothing_to_recover")


def recovery_points(record: Record, guidance: str) -> list[tuple[float | None, Interval]]:
    """(budget, `presence` with its interval) from the unlearned model, budget 0, through the
    attacked ones.

    Levels (8 bits, 4 bits) stay in the order of the rows; there the unlearned model is at None, as
    0 may be a level.
    """
    start, points = 0 if takes_steps(record) else None, []
    for row in record["rows"]:
        ends = interval(measured(row, presence(record).name, guidance))
        if row["model"] != "original" and ends is not None:
            points.append((start if row["model"] == "unlearned" else row["step"], ends))
    return points


# ---- versions and troubles -----------------------------------------------------------------------


def version(record: Record, stage: str) -> str | None:
    """``3`` of a stage, ``2.14.1`` of a package; None if the record does not say."""
    known = (record.get("versions") or {}).get(stage)
    return None if known is None else str(known)


def versions_line(records: Sequence[Record]) -> str:
    """``evaluate 3; torch 2.14.1 (12 runs), 2.10.0 (3 runs). 700 of 715 runs do not ...``"""
    parts = []
    stages = [stage for record in records for stage in record.get("versions") or {}]
    for stage in dict.fromkeys(stages):
        known = [version(record, stage) for record in records]
        counts = Counter(each for each in known if each is not None).most_common()
        words = ", ".join(f"{name} ({_runs(n)})" for name, n in counts)
        parts.append(f"{stage} {counts[0][0] if len(counts) == 1 else words}")
    silent = sum(not record.get("versions") for record in records)
    if silent:
        total = _runs(len(records))
        parts.append(f"{silent} of {total} do not record the versions that made them")
    return "; ".join(parts) + "."


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"


def troubles(records: Iterable[Record]) -> list[str]:
    """One line per run that did not finish."""
    lines = []
    for record in records:
        if record["status"] != "finished":
            why = f" ({record['error']})" if record.get("error") else ""
            lines.append(f"{record['name']}: {record['status']}{why}")
    return lines
