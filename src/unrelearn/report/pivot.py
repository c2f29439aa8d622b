"""What an attack brings back at each value of one setting, or of each forgotten class."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd

from unrelearn.report.groups import Group, gathered, settings_of
from unrelearn.report.records import NONE, Record, guidances, retained_guidance
from unrelearn.report.render import caption, markdown, markdown_table
from unrelearn.report.stats import (
    MEASURED,
    Estimate,
    estimate,
    estimate_text,
    estimated,
    over_attack_seeds,
)
from unrelearn.report.strongest import reported, strongest, unlearned_models
from unrelearn.report.table import Results, pick, presence_in, scales_of
from unrelearn.report.words import BROKE, DASH, forgotten, guidance_label, labelled, prefixed

ABSENT = object()
MODEL = ["row_label", "seed", "classes"]  # an unlearned model: its learning rates and attack seeds


def setting(record: Record, key: str) -> object:
    """What a run has at ``attack.learning_rate``, or ABSENT; at ``forget`` its classes, or what
    names its images.
    """
    if key == "forget":
        return tuple(record["forget_classes"]) or forgotten(record)
    value = record["config"]
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return ABSENT
        value = value[part]
    return ABSENT if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value


def to_markdown(results: Results, key: str) -> str:
    """One table for each protocol and attack: methods as rows, the values of a setting as columns,
    the firmest method first.

    Args:
        key: ``forget``, or a key of the configuration such as ``attack.learning_rate`` or
            ``method.max_steps``.

    Raises:
        ValueError: no run with an attack has this setting.
    """
    attacked = [group for group in results.groups if _counts(group, key)]
    if not attacked:
        known = set()
        for group in results.groups:
            for section in ("method", "attack"):
                names = set(group.first["config"].get(section) or {}) - {"_target_"}
                known |= {f"{section}.{name}" for name in names}
        allowed = ", ".join(["forget", *sorted(known)])
        raise ValueError(f"--by {key}: no run with an attack has this setting. Known: {allowed}")
    parts: list[str] = []
    for title, members in gathered(attacked, lambda group: group.table).items():
        for pivot in _pivots(results, members, key):
            text = pivot.caption
            if text in parts:  # said once, below the last table that it is true of
                parts.remove(text)
            parts += [f"### {markdown(f'{pivot.title}: {title}')}", pivot.table, text]
    return "\n\n".join(parts) + "\n"


def _counts(group: Group, key: str) -> bool:
    measured = any(guidances(record) for record in group.records)
    return group.first["attack"] != NONE and measured and setting(group.first, key) is not ABSENT


def _pivots(results: Results, members: Sequence[Group], key: str) -> list["Pivot"]:
    """One for each attack; the setting itself sets neither methods nor attacks apart."""
    methods, attacks = (settings_of(members, section, (key,)) for section in ("method", "attack"))
    labels = {}
    for group, method, attack in zip(members, methods, attacks, strict=True):
        names = labelled(group.first["method"], method), labelled(group.first["attack"], attack)
        labels[group.number] = names
    pivots = []
    for attack in dict.fromkeys(attack for _, attack in labels.values()):
        rows = {group: row for group, (row, name) in labels.items() if name == attack}
        runs = pick(results.runs, group_id=list(rows))
        runs = runs.assign(setting=[json.dumps(setting(r, key)) for r in runs["record"]])
        values = pick(results.values, group_id=list(rows))
        values = values.assign(
            row_label=values["group_id"].map(rows), setting=values["id"].map(runs["setting"])
        )
        pivots.append(Pivot(attack, key, runs, values, tuple(dict.fromkeys(rows.values()))))
    return pivots


@dataclass(frozen=True, eq=False)
class Pivot:
    """Methods against the values of a setting, under one attack."""

    attack: str
    key: str
    runs: pd.DataFrame
    values: pd.DataFrame
    rows: tuple[str, ...]

    @property
    def pooled(self) -> str:
        """What stands behind the last value: nothing where each column is of other models."""
        if self.key == "forget":
            return "all"
        return "strongest" if self.key.startswith("attack.") else ""

    @cached_property
    def scales(self) -> list[str]:
        return scales_of(self.values)

    @cached_property
    def settings(self) -> list[str]:
        """As JSON, in their order: numbers, texts, null."""
        values = {each: json.loads(each) for each in self.runs["setting"]}

        def order(each: str) -> tuple[bool, bool, Any]:
            value = values[each]
            return value is None, isinstance(value, str), value or 0

        return sorted(values, key=order)

    @property
    def title(self) -> str:
        records = sorted(self.runs["record"], key=lambda record: record["forget_classes"])
        return f"{self.attack}, {' and '.join(dict.fromkeys(map(forgotten, records)))}"

    @property
    def caption(self) -> str:
        first, shown = guidance_label(self.scales[0]), presence_in(self.values).words
        scales = [guidance_label(scale) for scale in self.scales]
        return caption("pivot", shown=shown, scales=scales, first=first, pooled=self.pooled)

    @property
    def table(self) -> str:
        names = dict(zip(self.runs["setting"], map(forgotten, self.runs["record"]), strict=True))
        headers = [names[s] if self.key == "forget" else s.strip('"') for s in self.settings]
        if self.pooled:
            headers = ["before", *headers, self.pooled, "retained before", "after"]
        most = max(self._models(row_label=r, setting=s) for r in self.rows for s in self.settings)
        lines = sorted((self._line(row, most) for row in self.rows), key=lambda line: line[0])
        return markdown_table(["method", *headers], [cells for _, cells in lines])

    # ---- what the cells are made of

    @cached_property
    def best(self) -> pd.DataFrame:
        """Of each unlearned model, whatever the setting."""
        return reported(self.pairs, MODEL)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        return strongest(self.values, MODEL)

    @cached_property
    def families(self) -> pd.DataFrame:
        return self.values.drop_duplicates([*MODEL, "setting"])

    @cached_property
    def best_of_setting(self) -> pd.DataFrame:
        by = [*MODEL, "setting"]
        return reported(strongest(self.values, by), by)

    def _models(self, **wanted: object) -> int:
        return len(pick(self.families, **wanted).drop_duplicates(MODEL))

    def _line(self, row: str, most: int) -> tuple[float, list[str]]:
        """The highest mean of a row, which orders the rows, and its cells."""
        lines = [pick(self.best_of_setting, row_label=row, setting=each) for each in self.settings]
        cells = [self._text(each, most) for each in lines]
        if not self.pooled:
            means = [_mean(pick(each, guidance=self.scales[0])) for each in lines]
            return max((mean.mean for mean in means if mean), default=2), [row, *cells]
        whole = max(self._models(row_label=each) for each in self.rows)
        best, families = pick(self.best, row_label=row), pick(self.families, row_label=row)
        tried = families.groupby(["seed", "classes"])["setting"].nunique().min()
        partial = self.pooled == "strongest" and tried < len(self.settings)
        after = ("≥ " if partial else "") + self._text(best, whole)
        unlearned = self._unlearned(row, families)
        before = self._text(unlearned_models(unlearned), whole)
        kept = self._text(self._at_retained(unlearned), whole, 1)
        left = self._text(self._retained(row), whole, 1)
        mean = _mean(pick(best, guidance=self.scales[0]))
        return mean.mean if mean else 2, [row, before, *cells, after, kept, left]

    def _unlearned(self, row: str, families: pd.DataFrame) -> pd.DataFrame:
        """Lines of each unlearned model, from its first run."""
        runs = pick(self.runs, group_id=list(families["group_id"].unique()))
        first = runs.drop_duplicates(["seed", "classes"]).index
        lines = pick(self.values, row_label=row, model="unlearned", last=True)
        return lines[lines["id"].isin(first)]

    def _at_retained(self, lines: pd.DataFrame) -> pd.DataFrame:
        """Retained accuracy at the main guidance of each run."""
        kept = pick(lines, base="retain_accuracy").dropna(subset=["value"])
        own = {id_: retained_guidance(self.runs.at[id_, "record"]) for id_ in kept["id"].unique()}
        kept = kept[kept["guidance"] == kept["id"].map(own)]
        return kept.assign(guidance=self.scales[0], broke=False)

    def _retained(self, row: str) -> pd.DataFrame:
        """Retained accuracy of the strongest attacked models."""
        pairs = pick(self.pairs, row_label=row, guidance=self.scales[0])
        kept = self._at_retained(self.values[self.values["row"].isin(pairs["row"])])
        return over_attack_seeds(kept, [*MODEL, "guidance"]).sort_values("seed", kind="stable")

    def _text(self, lines: pd.DataFrame, most: int, scales: int | None = None) -> str:
        """``8.0 ± 3.3 / 5.0 ± 3.3``, at each guidance; ``(2 of 3)`` where runs are missing."""
        texts = []
        for guidance in self.scales[:scales]:
            same = pick(lines, guidance=guidance)
            value, count = _mean(same), int(same["value"].notna().sum())
            text = DASH if value is None else estimate_text(value, 100, 1, value.n)
            broke = "broke" in same and len(same) and same["broke"].all()
            text = prefixed(BROKE if broke else "", text)
            texts.append(text + (f" ({count} of {most})" if 0 < count < most else ""))
        return " / ".join(texts)


def _mean(lines: pd.DataFrame) -> Estimate | None:
    """Over seeds, of each over its classes: the classes of a seed share a pretrained model."""
    seeds = lines.dropna(subset=["value"]).groupby("seed", sort=False)
    if (seeds.size() == 1).all():
        return estimated(pd.concat([same for _, same in seeds] or [lines.head(0)])[MEASURED])
    means = [fmean(same["value"]) if len(same) > 1 else same["value"].iloc[0] for _, same in seeds]
    return estimate(means)


def put_into(page: str, name: str, text: str) -> str:
    """The page with the text between ``<!-- NAME -->`` and ``<!-- end -->``, or ValueError."""
    before, begin, rest = page.partition(f"<!-- {name} -->\n")
    old, end, after = rest.partition("<!-- end -->")
    if not (begin and end) or "<!-- " in old:
        raise ValueError(
            f"--into: the file has no line <!-- {name} --> with a line <!-- end --> below it; add"
            " both where the table is to stand"
        )
    return before + begin + text + end + after
