"""One record of a classifier: the table of its models, and the result in words."""

from typing import Any

from unrelearn.report.records import (
    NONE,
    ONLY,
    Record,
    Row,
    measured,
    number,
    row_of,
    rows_of,
    takes_steps,
)
from unrelearn.report.render import Cells, caption
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
COLUMNS = (  # header, metric, field, factor, digits
    ("UA %", "gap", "ua", 100, 1),
    ("RA %", "gap", "ra", 100, 1),
    ("TA %", "gap", "ta", 100, 1),
    ("MIA %", "gap", "mia_svc", 100, 1),
    ("gap", "gap", "value", 100, 1),
    ("agree %", "retrain_agreement", "value", 100, 1),
    ("miss\ncorr.", "retrain_agreement", "miss_correlation", 1, 2),
    ("AUC", "loss_attack", "value", 1, 2),
)


def is_classifier(record: Record) -> bool:
    return record.get("kind") == CLASSIFICATION


def value_of(row: Row | None, metric: str, field: str = "value") -> float | None:
    return number(measured(row, metric, ONLY), field)


def reference_cells(record: Record) -> list[str]:
    """What retrained classifiers get: the mean over the references, and as gap their floor."""
    row = row_of(record, "unlearned") or row_of(record, "original")
    gap, agreement = (measured(row, name, ONLY) or {} for name in ("gap", "retrain_agreement"))
    ceiling, auc = agreement.get("ceiling") or {}, measured(row, "loss_attack", ONLY) or {}
    means = {name: _mean(gap.get("references"), name) for name in ("ua", "ra", "ta", "mia_svc")}
    known = [*means.values(), gap.get("floor"), ceiling.get("value")]
    texts = [plain(number(value), 100) for value in known]
    texts.append(plain(number(ceiling.get("miss_correlation")), digits=2))
    return [*texts, plain(_average(auc.get("references") or []), digits=2)]


def _mean(references: Any, name: str) -> float | None:
    return _average([each[name] for each in references or []])


def _average(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def cells(record: Record) -> Cells:
    """Headers and rows of the table of models, the references last."""
    rows = []
    for row in record["rows"]:
        texts = []
        for _, metric, field, factor, digits in COLUMNS:
            texts.append(plain(value_of(row, metric, field), factor, digits))
        if row.get("status") == "diverged":
            texts[0] = "diverged"
        rows.append([row_label(record, row), *texts])
    rows.append([f"{_count(record)} retrained", *reference_cells(record)])
    return ["model", *(column[0] for column in COLUMNS)], rows


def _count(record: Record) -> int:
    return int((record["config"].get("references") or {}).get("count") or 0)


def table_caption(record: Record) -> str:
    return caption(
        "classified",
        protocol=protocol_name(record),
        what=forgotten(record),
        count=_count(record),
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
    if not shares or before is None:
        return f"{sentence(attack)} left nothing to measure."
    row, after = shares[-1] if takes_steps(record) else max(shares, key=lambda pair: pair[1])
    gap = (measured(unlearned, "gap", ONLY) or {}).get("references") or []
    retrained = _average([1 - each["ua"] for each in gap])
    never = "" if retrained is None else f"; models that never saw them: {100 * retrained:.0f} %"
    where = budget_words(record, row["step"]) if row.get("step") is not None else DASH
    return (
        f"{sentence(attack)}: {100 * before:.0f} % of them are classified right before it and"
        f" {100 * after:.0f} % at {where}{never}."
    )
