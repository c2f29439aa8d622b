"""One record of a classifier: the table of its models, and the result in words."""

from dataclasses import dataclass
from typing import Any

from unrelearn.report.records import NONE, ONLY, Record, Row, measured, number, row_of, rows_of
from unrelearn.report.render import Cells, Rich, caption
from unrelearn.report.words import (
    DASH,
    budget_words,
    display_name,
    forgotten,
    plain,
    protocol_name,
    row_label,
    sentence,
)

CLASSIFICATION = "classification"  # record["kind"]
GREY = "#eeeeee"


@dataclass(frozen=True)
class BoardColumn:
    """A number of every model."""

    name: str
    header: str
    metric: str
    field: str = "value"
    factor: float = 100
    digits: int = 1


COLUMNS = (
    BoardColumn("ua", "UA %", "gap", "ua"),
    BoardColumn("ra", "RA %", "gap", "ra"),
    BoardColumn("ta", "TA %", "gap", "ta"),
    BoardColumn("mia", "MIA %", "gap", "mia_svc"),
    BoardColumn("gap", "gap", "gap"),
    BoardColumn("agreement", "agree %", "retrain_agreement"),
    BoardColumn("miss_correlation", "miss\ncorr.", "retrain_agreement", "miss_correlation", 1, 2),
    BoardColumn("auc", "AUC", "loss_attack", "value", 1, 2),
)


def is_classifier(record: Record) -> bool:
    return record.get("kind") == CLASSIFICATION


def value_of(row: Row | None, metric: str, field: str = "value") -> float | None:
    return number(measured(row, metric, ONLY), field)


def retrained(record: Record) -> dict[str, float | None]:
    """What retrained classifiers get, by column: the mean over the references, and as gap their
    floor.
    """
    row = row_of(record, "unlearned") or row_of(record, "original")
    gap, agreement, attack = (
        measured(row, name, ONLY) or {} for name in ("gap", "retrain_agreement", "loss_attack")
    )
    ceiling = agreement.get("ceiling") or {}
    means = {column.name: _mean(gap.get("references"), column.field) for column in COLUMNS[:4]}
    known = {
        **means,
        "gap": gap.get("floor"),
        "agreement": ceiling.get("value"),
        "miss_correlation": ceiling.get("miss_correlation"),
        "auc": _average(attack.get("references") or []),
    }
    return {name: number(value) for name, value in known.items()}


def _mean(references: Any, name: str) -> float | None:
    return _average([each[name] for each in references or []])


def _average(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def unseen(row: Row | None) -> float | None:
    """Share of the test images of forgotten classes that are classified right."""
    forgotten = (measured(row, "test_accuracy", ONLY) or {}).get("forgotten") or {}
    return number(forgotten.get("value"))


def marked(text: str, column: BoardColumn, value: float | None, floor: float | None) -> str:
    """In brackets where it is a gap that retraining itself shows."""
    within = column.name == "gap" and value is not None and floor is not None and value <= floor
    return f"({text})" if within else text


def grey(text: str) -> Rich | str:
    """A cell of a page; what retraining itself shows is grey."""
    return Rich(text, heat=GREY) if text.startswith("(") else text


def cells(record: Record) -> Cells:
    """Headers and rows of the table of models, the references last."""
    known = retrained(record)
    rows = []
    for row in record["rows"]:
        texts = [_cell(row, column, known["gap"]) for column in COLUMNS]
        if row.get("status") == "diverged":
            texts[0] = "diverged"
        rows.append([row_label(record, row), *texts])
    means = zip(COLUMNS, known.values(), strict=True)
    last = [plain(value, column.factor, column.digits) for column, value in means]
    rows.append([f"{count_of(record)} retrained", *last])
    return ["model", *(column.header for column in COLUMNS)], rows


def _cell(row: Row, column: BoardColumn, floor: float | None) -> str:
    """The number; of a gap its interval over images too."""
    value, low, high = (value_of(row, column.metric, end) for end in (column.field, "low", "high"))
    text = plain(value, column.factor, column.digits)
    if column.name == "gap" and low is not None and high is not None:
        text += f" [{column.factor * low:.1f}, {column.factor * high:.1f}]"
    return marked(text, column, value, floor)


def count_of(record: Record) -> int:
    """Of the references that it was measured beside: all of them, or those of `references.half`."""
    settings = record["config"].get("references") or {}
    count, half = int(settings.get("count") or 0), settings.get("half")
    return {None: count, "tuning": count - count // 2, "table": count // 2}[half]


def table_caption(record: Record) -> str:
    return caption(
        "classified",
        protocol=protocol_name(record),
        what=forgotten(record),
        count=count_of(record),
        by_class=bool(record["forget_classes"]),
    )


def verdict(record: Record) -> str:
    """The result in a few sentences."""
    original, unlearned = (row_of(record, model) for model in ("original", "unlearned"))
    method, what = display_name(record["method"]), forgotten(record)
    if value_of(unlearned, "gap") is None:
        return f"{sentence(method)} diverged while forgetting {what}: there is nothing to measure."
    parts = [_gap_words(method, original, unlearned), _agreement_words(original, unlearned)]
    if record["attack"] != NONE:
        parts.append(_attack_words(record, unlearned))
    return " ".join(parts)


def _gap_words(method: str, original: Row | None, unlearned: Row | None) -> str:
    gap, floor = value_of(unlearned, "gap"), value_of(unlearned, "gap", "floor")
    before = value_of(original, "gap")
    assert gap is not None and floor is not None and before is not None
    words = f"{sentence(method)}: the average gap to retraining is {100 * gap:.1f} points"
    words += f" ({100 * before:.1f} with nothing unlearned; retrained models among themselves"
    return f"{words} {100 * floor:.1f})."


def _agreement_words(original: Row | None, unlearned: Row | None) -> str:
    ours, before = (value_of(row, "retrain_agreement") for row in (unlearned, original))
    ceiling = (measured(unlearned, "retrain_agreement", ONLY) or {}).get("ceiling") or {}
    top = number(ceiling.get("value"))
    if ours is None or before is None or top is None:
        return ""
    than = "fewer" if ours < before else "more" if ours > before else "as many"
    tail = f"than before it ({100 * before:.0f} %)" if than != "as many" else "as before it"
    return (
        f"It agrees with retrained models on {100 * ours:.0f} % of the forgotten images, {than}"
        f" {tail}; they agree with each other on {100 * top:.0f} %."
    )


def _attack_words(record: Record, unlearned: Row | None) -> str:
    before, rows = value_of(unlearned, "forget_accuracy"), rows_of(record, "attacked")
    known = [(row, value_of(row, "forget_accuracy")) for row in rows]
    shares = [(row, share) for row, share in known if share is not None]
    attack = display_name(record["attack"])
    if before is None:
        return f"What {attack} brought back was not measured: eval has no forget_accuracy."
    if not shares:
        return f"{sentence(attack)} left nothing to measure."
    row, after = max(shares, key=lambda pair: pair[1])
    gap = (measured(unlearned, "gap", ONLY) or {}).get("references") or []
    retrained = _average([1 - each["ua"] for each in gap])
    never = ""
    if retrained is not None:
        never = f"; models that never saw them: {100 * retrained:.0f} %, without it"
    where = budget_words(record, row["step"]) if row.get("step") is not None else DASH
    return (
        f"{sentence(attack)}: {100 * before:.0f} % of them are classified right before it and"
        f" at most {100 * after:.0f} % after it, at {where}{never}."
    )
