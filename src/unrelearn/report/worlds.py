"""Audits of published tables: what tells worlds with a record from worlds without it."""

from typing import Any

from unrelearn.report.records import Record, number
from unrelearn.report.render import Cells, caption
from unrelearn.report.words import plain

NULL = "null"  # the game whose worlds are one
HEADERS = ["model", "record", "attack", "replicas\na world", "AUC", "95 %", "TPR at\n1 % FPR"]
HEADERS += ["TPR at\n0.1 % FPR", "advantage", "epsilon", "largest\nepsilon"]
HEADERS += ["epsilon, if\nGaussian", "largest, if\nGaussian"]
Verdict = dict[str, Any]


def audits(record: Record) -> list[dict[str, Any]]:
    return record.get("audits") or []


def cells(record: Record) -> Cells:
    """A row for each model, record in question and attack; the null game last."""
    return HEADERS, [
        [audit["model"], *_cells(one)] for audit in audits(record) for one in audit["verdicts"]
    ]


def _cells(one: Verdict) -> list[str]:
    ends = (plain(number(one, end), digits=2) for end in ("auc_low", "auc_high"))
    rates = ("tpr_at_1_percent", "tpr_at_0.1_percent", "advantage")
    proven = ("epsilon", "epsilon_ceiling", "epsilon_gaussian", "epsilon_gaussian_ceiling")
    return [
        name_of(one),
        one["attack"],
        str(one["replicas"]),
        plain(number(one, "auc"), digits=2),
        ", ".join(ends),
        *(plain(number(one, name), digits=2) for name in (*rates, *proven)),
    ]


def name_of(one: Verdict) -> str:
    """The record that a game is about."""
    target, row = one["target"], one["record"]
    if target == NULL:
        return f"null game ({row})"
    return f"row {row}" if target == str(row) else f"{target} ({row})"


def table_caption(record: Record) -> str:
    return caption(
        "worlds",
        change=record["config"]["gan"]["audit"]["change"],
        deltas=sorted({audit["delta"] for audit in audits(record)}),
        own=record["statistics"] == "own",
        oracle=record.get("by_oracle", False),
    )


def sentences(record: Record) -> list[str]:
    """One for each model: by the attack of the largest AUC, which is chosen afterwards."""
    return [_sentence(audit) for audit in audits(record)]


def _sentence(audit: dict[str, Any]) -> str:
    by_target: dict[str, list[Verdict]] = {}
    for one in audit["verdicts"]:
        if number(one, "auc") is not None:
            by_target.setdefault(name_of(one), []).append(one)
    if not by_target:
        return f"Audit of {audit['model']}: too many replicas diverged."
    parts = []
    for about, played in by_target.items():
        best = max(played, key=lambda one: one["auc"])
        ends = f"[{best['auc_low']:.2f}, {best['auc_high']:.2f}]"
        parts.append(f"{about} {best['auc']:.2f} {ends} by {best['attack']}")
    played = [one for known in by_target.values() for one in known]
    largest = max(number(one, "epsilon_ceiling") or 0.0 for one in played)
    proven = [one["epsilon"] for one in played if number(one, "epsilon") is not None]
    shown = f"largest epsilon proven {max(proven):.2f}" if proven else "too few to claim an epsilon"
    return (
        f"Audit of {audit['model']}, {played[0]['replicas']} replicas of each world, largest AUC of"
        f" the attacks: {'; '.join(parts)}; {shown}, at most {largest:.2f} could have been."
    )
