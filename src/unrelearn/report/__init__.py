"""What one sees at the end: terminal table, figures, the HTML page, the comparison over many runs.

This package reads *records* (``outputs/runs/<name>/result.json``) and the sample files they name,
nothing else. This file holds how a record is read and how its numbers are put into words, so that
every view says the same thing.
"""

import contextlib
import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

DASH = "–"  # a measurement that was not made
VERSION = 1
REQUIRED = (
    "version",
    "name",
    "status",
    "config",
    "dataset",
    "method",
    "attack",
    "seed",
    "forget_classes",
    "rows",
)

# As their papers write them; anything else is shown under the name of its yaml.
DISPLAY = {
    "dimum": "DiMUM",
    "dimra": "DiMRA",
    "salun": "SalUn",
    "erasediff": "EraseDiff",
    "dimra_relative": "DiMRA, relative steps",
    "erasediff_paper": "EraseDiff (paper)",
    "erasediff_released": "EraseDiff (released)",
    "esd": "ESD",
    "siss": "SISS",
    "munba": "MUNBa",
    "scissorhands": "Scissorhands",
    "sfron": "SFR-on",
    "finetune": "fine-tuning",
    "few_shot": "few-shot relearning",
    "lora": "LoRA",
    "prune": "pruning",
    "quantize": "quantisation",
}


def significant(value: float) -> str:
    """Three digits, and neither a point at the end nor an exponent for what is large."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


@dataclass(frozen=True)
class Quality:
    """A number that measures the images generated under the retained classes."""

    name: str  # of its column in table.csv
    metric: str  # row["metrics"][metric][guidance][field] is the number
    field: str
    words: str
    text: Callable[[float], str]
    beside: str | None = (
        None  # the field that says what real test images get: the floor of a distance, their score
    )


QUALITY = (
    Quality("fid", "fid", "value", "FID", significant, "floor"),
    Quality("fd_oracle", "fd_oracle", "value", "FD oracle", significant, "floor"),
    Quality("kid", "kid", "value", "KID", "{:.2g}".format, "floor"),
    Quality("kid_oracle", "kid_oracle", "value", "KID oracle", "{:.2g}".format, "floor"),
    Quality("inception_score", "inception_score", "value", "IS", "{:.2f}".format, "real"),
    *(
        Quality(field, f"{first}_{second}", field, field, "{:.2f}".format)
        for first, second in (("precision", "recall"), ("density", "coverage"))
        for field in (first, second)
    ),
)


def read_record(path: Path) -> dict:
    """Read one ``result.json``.

    Raises:
        ValueError: the file is not a record; the message says what is wrong with it.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("not a record: the file holds no JSON object")
    missing = [key for key in REQUIRED if key not in record]
    if missing:
        raise ValueError(f"not a record: {', '.join(missing)} missing")
    if record["version"] != VERSION:
        raise ValueError(f"version {record['version']!r}; this reader knows {VERSION}")
    return record


def display_name(name: str) -> str:
    """``dimum`` -> ``DiMUM``, ``gradient_ascent`` -> ``gradient ascent``, ``dimra_aux`` -> ``DiMRA
    aux``.
    """
    return DISPLAY.get(name) or " ".join(DISPLAY.get(word, word) for word in name.split("_"))


def sentence(text: str) -> str:
    """``row swap took ...`` -> ``Row swap took ...``."""
    return text[:1].upper() + text[1:]


def protocol_name(record: dict) -> str:
    """``fast``, ``fast (sampler.num_inference_steps=20)``; records from before protocols had names
    do not say.
    """
    return record.get("protocol") or "not recorded"


def class_name(record: dict, index: int) -> str:
    names = record.get("class_names") or []
    return shown(str(names[index])) if 0 <= index < len(names) else str(index)


def shown(text: str) -> str:
    """A name as it can be drawn and encoded: bytes of a file name that are no UTF-8 as the sign for
    that.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def forgotten(record: dict) -> str:
    """``class 7``, ``class airplane``, ``classes 3 and 7``."""
    names = [class_name(record, index) for index in record["forget_classes"]]
    if len(names) == 1:
        return f"class {names[0]}"
    return f"classes {', '.join(names[:-1])} and {names[-1]}" if names else "no class"


def guidances(record: dict, metric: str = "forget_accuracy") -> list[str]:
    """Guidance scales at which the metric was measured anywhere in the record, ascending, as their
    JSON keys.
    """
    found = {g for row in record["rows"] for g in (row.get("metrics") or {}).get(metric) or {}}
    return sorted(found, key=float)


def main_guidance(record: dict, metric: str = "forget_accuracy") -> str:
    """The guidance of columns that show only one: 1 (plain conditional sampling) where measured,
    else the smallest.
    """
    found = guidances(record, metric)
    return next((g for g in found if float(g) == 1.0), found[0] if found else "1.0")


def retained_guidance(record: dict) -> str:
    """The main guidance of what is measured on the retained classes."""
    metrics = ("retain_accuracy", *(quality.metric for quality in QUALITY))
    return main_guidance(
        record, next((m for m in metrics if guidances(record, m)), "retain_accuracy")
    )


def measured(row: dict | None, metric: str, guidance: str):
    """``row["metrics"][metric][guidance]``, or None where it was not measured."""
    return (((row or {}).get("metrics") or {}).get(metric) or {}).get(guidance)


def number(value, field: str = "value") -> float | None:
    """A finite float out of a plain number or of ``{"value": ...}``, else None."""
    if isinstance(value, dict):
        value = value.get(field)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def image_count(value) -> int | None:
    """How many images a measurement was made on, if it says so."""
    return value.get("n") if isinstance(value, dict) else None


def foreign_features(record: dict, metric: str) -> str | None:
    """Whose features a measurement was made in if its name does not say it and they are not
    Inception's: ``oracle``.
    """
    values = (measured(row, metric, g) for g in guidances(record, metric) for row in record["rows"])
    found = next(
        (value["features"] for value in values if value and value.get("features")), "inception"
    )
    return None if found == "inception" else found


def interval(value) -> tuple[float, float, float] | None:
    """(value, low, high) of an accuracy; None unless all three are there."""
    numbers = (
        tuple(number(value, field) for field in ("value", "low", "high"))
        if isinstance(value, dict)
        else (None,)
    )
    return None if None in numbers else numbers


def row_of(record: dict, model: str) -> dict | None:
    """The original or unlearned row, or the attacked one at the last budget or level whose run did
    not diverge.
    """
    rows = [
        row for row in record["rows"] if row["model"] == model and row.get("status") != "diverged"
    ]
    return rows[-1] if rows else None


def attack_unit(record: dict) -> str:
    """What the attack's budgets count: optimiser ``steps``, or the levels of an attack that takes
    none, ``bits``.
    """
    return record.get("attack_unit") or "steps"


def takes_steps(record: dict) -> bool:
    return attack_unit(record) == "steps"


def sees_forgotten(record: dict) -> bool:
    """Whether the attack holds images of the forgotten class or weights of the original model;
    older records do not say.
    """
    sees = record.get("attack_sees_forgotten")
    return record["attack"] == "few_shot" if sees is None else sees


def budget_words(record: dict, step: float) -> str:
    """``400 steps``, ``0.1 share pruned``."""
    if takes_steps(record):
        return f"{step} step" if step == 1 else f"{step} steps"
    return f"{step:g} {attack_unit(record)}"


def row_label(record: dict, row: dict) -> str:
    """``unlearned``, ``attacked @ 400``, ``attacked @ 8 bits``."""
    if row.get("step") is None:
        return row["model"]
    return f"attacked @ {row['step'] if takes_steps(record) else budget_words(record, row['step'])}"


def attack_seed(record: dict) -> int:
    """The attack's own seed, inside that of the model; older records were all made with one."""
    return record.get("attack_seed") or 0


def shows_class(record: dict, guidance: str) -> bool:
    """Whether the original draws the class at all, so that there is something to recover."""
    curve = (record.get("recovery") or {}).get(guidance) or {}
    drawn = number(measured(row_of(record, "original"), "forget_accuracy", guidance))
    return drawn != 0 and not curve.get("nothing_to_recover")


def weight_notes(record: dict) -> list[str]:
    """What a reader should know of how the unlearned weights differ from the original's; older
    records do not say.
    """
    weights, notes = record.get("weights") or {}, []
    low, high = weights.get("norm_ratio") or (1, 1)
    if low < 1 / 3 or high > 3:
        notes.append(
            f"weights in other units than the original's: {low:.3g} to {high:.3g} times their norms"
        )
    if weights.get("class_rows_changed"):
        notes.append(
            "the class's own row of the table was changed, which no retained image reaches"
        )
    change = weights.get("projection_change") or {}
    forgotten_change, retained_change = (number(change, name) for name in ("forgotten", "retained"))
    if (
        forgotten_change
        and retained_change is not None
        and retained_change < 0.1 * forgotten_change
    ):
        notes.append(
            "the projections of the condition changed for the forgotten class alone, where no"
            " retained image reaches"
        )
    return notes


def percent(value: float) -> str:
    """A share for a sentence: whole percents, one decimal where rounding would claim never or
    always.
    """
    digits = 1 if 0 < value < 0.01 or 0.99 < value < 1 else 0
    return f"{100 * value:.{digits}f} %"


def guidance_label(guidance: str) -> str:
    return f"{float(guidance):g}"


def csv_text(header: Iterable[str], rows: Iterable[Iterable]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(map(csv_cell, row) for row in [header, *rows])
    return buffer.getvalue()


def csv_cell(value: object) -> object:
    """A text that a spreadsheet would run as a formula (=, +, -, @ first) behind an apostrophe;
    numbers as they are.
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        for word in value.split(" "):
            float(word)
        return value
    except ValueError:
        return f"'{value}"


def write_atomically(path: Path, text: str) -> None:
    """Write aside, flush to disk, rename: a reader sees the old file or the new one, never half of
    one.

    What UTF-8 can not hold, as a path may, is written as its escape.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(
            handle, "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)  # mkstemp makes it private; a report is for others to read
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
