"""What stands in a column of the leaderboard: of each method and seed a number, and their mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from unrelearn.report.panel import Panel
from unrelearn.report.records import (
    CLASS,
    NONE,
    QUALITY,
    UNDER_FORGOTTEN,
    UNDER_RETAINED,
    WORD,
    Quality,
    shows_class,
    takes_steps,
)
from unrelearn.report.stats import (
    MEASURED,
    Estimate,
    estimate_text,
    estimated,
    half_text,
    image_interval,
    over_attack_seeds,
)
from unrelearn.report.table import pick
from unrelearn.report.words import BROKE, budget_words, display_name, prefixed

MAX_BUDGETS = 3  # columns of recovery; leaderboard.csv has every budget
DIGITS = {"fid": 1, "fd_oracle": 2, "kid": 4, "kid_oracle": 3, "inception_score": 2}
ALTERNATIVES = (("fid", "fd_oracle"), ("kid", "kid_oracle"))  # the first where every method has it


@dataclass(frozen=True)
class Measure:
    """A column of numbers: what each seed has, averaged."""

    name: str
    header: str
    lines: pd.DataFrame  # method_label, seed, MEASURED
    scale: float = 1
    digits: int = 1
    attack: str = NONE  # the attack whose runs it comes from
    shown: bool = True  # in the table, and not in the CSV file alone
    n_images: int | None = None  # of a distance, which depends on it

    def seeds(self, method: str) -> pd.DataFrame:
        return pick(self.lines, method_label=method)

    def estimate(self, method: str) -> Estimate | None:
        return estimated(self.seeds(method), self.name)

    def images(self, method: str) -> tuple[float, float] | None:
        """The bootstrap interval over images, where they are known."""
        seeds = self.seeds(method)
        counts = seeds["n"].where(seeds["low"].notna())
        return image_interval(seeds["value"].tolist(), counts.tolist())

    def text(self, panel: Panel, guidance: str, method: str) -> str:
        value = self.estimate(method)
        if self.name == "steps_to_half":
            return half_text(value, _budgets(panel, method, self.attack))
        text = estimate_text(value, self.scale, self.digits, panel.count(method))
        strongest = self.name == "recovery_strongest"
        return prefixed(_broke(panel, guidance, method, self.attack) if strongest else "", text)


def _broke(panel: Panel, guidance: str, method: str, attack: str) -> str:
    cell = panel.cell(guidance, method, attack)
    return BROKE if cell and cell.broke else ""


def _budgets(panel: Panel, method: str, attack: str) -> list[float]:
    """In the first settings of the method."""
    lines = pick(panel.values, method_label=method, attack_label=attack, model="attacked")
    lines = lines[lines["group_id"] == lines["group_id"].min()]
    return sorted(lines["step"].dropna().unique())


# ---- numbers -------------------------------------------------------------------------------------


@cache
def measures(panel: Panel, guidance: str) -> list[Measure]:
    """At one guidance; what does not depend on it stands beside the main one."""
    main, retain = guidance == panel.guidances[0], panel.retained_at
    shown = {WORD.name: "concept", WORD.held_out: "held-out"}
    shown |= {each.name: each.label for each in UNDER_FORGOTTEN}
    columns = [*_of_words(panel, shown, guidance), *_of_classes(panel, guidance)]
    if main:
        kept = {each.name: each.label for each in UNDER_RETAINED}
        columns += _of_words(panel, kept, retain)
        lines = panel.of_models("retain_accuracy", retain)
        columns.append(Measure("retain_accuracy", "retained\n%", lines, 100))
        for quality in QUALITY:
            columns += _qualities(panel, quality, retain)
    for attack in panel.heads:
        columns += _recovery(panel, attack, guidance)
    if main:
        seconds = panel.of_models("unlearn_seconds")
        columns.append(Measure("unlearn_seconds", "unlearn\ns", seconds))
    return columns


def _of_words(panel: Panel, shares: dict[str, str], guidance: str) -> Iterator[Measure]:
    """Those that were measured, of name -> label; nothing where no word was forgotten."""
    for name, label in shares.items():
        lines = panel.of_models(name, guidance)
        if lines["value"].notna().any():
            yield Measure(name, f"{label}\n%", lines, 100)


def _of_classes(panel: Panel, guidance: str) -> Iterator[Measure]:
    """Of a word, which is more than one class, all but the share of nothing is for the CSV file."""
    whole = not panel.presence.of_word
    accuracy = _missed(panel.of_models("forget_accuracy", guidance))
    yield Measure("unlearning_accuracy", "UA %", accuracy, 100, shown=whole)
    held_out = _missed(panel.of_models(CLASS.held_out, guidance))
    for name, header, lines in (
        ("another", "another\n%", panel.of_models("forget_accuracy_another", guidance)),
        ("nothing", "nothing\n%", panel.of_models("forget_accuracy_nothing", guidance)),
        ("unlearning_accuracy_held_out", "UA %\nheld-out", held_out),
    ):
        if lines["value"].notna().any():
            yield Measure(name, header, lines, 100, shown=whole or name == "nothing")


def _missed(lines: pd.DataFrame) -> pd.DataFrame:
    """Unlearning accuracy: the share that the oracle does not call by the forgotten class."""
    value, low, high = (1 - lines[name].astype(float) for name in ("value", "low", "high"))
    return lines.assign(value=value, low=high, high=low)


def _qualities(panel: Panel, quality: Quality, guidance: str) -> Iterator[Measure]:
    """A column for each number of images: distances of two are not compared."""
    lines = panel.of_models(quality.name, guidance)
    for n, same in lines.dropna(subset="value").groupby("n", sort=False, dropna=False):
        n = None if pd.isna(n) else int(n)
        header = quality.label.replace(" oracle", "\n(oracle)") + (f"\nN={n}" if n else "")
        shown = quality.name in _distances(panel, guidance)
        digits = DIGITS.get(quality.name, 2)
        yield Measure(quality.name, header, same, digits=digits, shown=shown, n_images=n)


@cache
def _distances(panel: Panel, guidance: str) -> set[str]:
    chosen = set()
    for metrics in ALTERNATIVES:
        lines = [panel.of_models(metric, guidance).dropna(subset="value") for metric in metrics]
        first, second = (set(each["method_label"]) for each in lines)
        chosen.add(metrics[0] if first and first >= second else metrics[1])
    return chosen


def _recovery(panel: Panel, attack: str, guidance: str) -> list[Measure]:
    """Of the models that the strongest admissible attack leaves."""
    best = pd.concat(
        [
            cell.seeds
            for (scale, _, column), cell in panel.cells.items()
            if (scale, column.label) == (guidance, attack)
        ]
        or [pd.DataFrame(columns=["method_label", "seed", "ids", "maximum", *MEASURED])]
    )
    label = display_name(panel.named[attack][0])
    runs = best["ids"].map(len)
    columns = [Measure("recovery_strongest", f"{label} %\nstrongest", best, 100, attack=attack)]
    header, several = f"{label} %\nmaximum", bool((runs > 1).any())
    highest = _plain(best, "maximum")
    columns.append(Measure("recovery_maximum", header, highest, 100, attack=attack, shown=several))
    names = {"held_out": "recovery_held_out", "other_sampler": "recovery_other_sampler"}
    for column, name in {**names, "retained": "retained_after"}.items():
        if column in best:
            lines = _plain(best, column)
            columns.append(Measure(name, "", lines, 100, attack=attack, shown=False))
    if attack == panel.main:
        columns += _curves(panel, attack, guidance, best)
    return columns


def _plain(best: pd.DataFrame, column: str) -> pd.DataFrame:
    return best.assign(value=best[column], low=None, high=None, n=None)


def _curves(panel: Panel, attack: str, guidance: str, best: pd.DataFrame) -> Iterator[Measure]:
    """At each budget, and of the whole curve."""
    label = display_name(panel.named[attack][0])
    values = pick(panel.values, attack_label=attack, model="attacked")
    chosen = best[["method_label", "seed", "ids"]].explode("ids").rename(columns={"ids": "id"})
    lines = pick(values, guidance=guidance).merge(chosen, on=["method_label", "seed", "id"])
    record = pick(panel.runs, attack_label=attack)["record"].iloc[0]
    budgets = values["step"].dropna().unique().tolist()
    few = [budgets[0], budgets[len(budgets) // 2], budgets[-1]] if budgets else []
    few = budgets if len(budgets) <= MAX_BUDGETS else few
    keys = ["method_label", "seed"]
    whole = pick(lines, present=True).dropna(subset=["low", "high"])
    means = over_attack_seeds(whole, ["step", *keys])
    for budget in budgets:
        seeds = best[keys].merge(pick(means, step=budget), on=keys, how="left")
        header = f"{label} %\n@ {budget_words(record, budget)}"
        shown = budget in few and len(budgets) > 1
        yield Measure(f"recovery@{budget:g}", header, seeds, 100, attack=attack, shown=shown)
    if takes_steps(record):
        areas = over_attack_seeds(pick(lines, base="area"), keys)
        yield Measure("area", "area", areas, digits=3, attack=attack)
        half = over_attack_seeds(pick(lines, base="steps_to_half"), keys)
        first = [panel.runs.at[ids[0], "record"] for ids in best["ids"]]
        drawn = np.array([shows_class(record, guidance) for record in first], bool)
        half = best.loc[drawn, keys].merge(half, on=keys, how="left")  # broken off: not reached
        yield Measure("steps_to_half", "steps\nto half", half, attack=attack)
