"""Groups of runs side by side: Markdown, CSV, LaTeX, and the recovery curves."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from unrelearn.report.classified import is_classifier
from unrelearn.report.figures import Curve, recovery_figure
from unrelearn.report.files import csv_text
from unrelearn.report.groups import Group, forgotten_key, gathered
from unrelearn.report.panel import panels, presences
from unrelearn.report.records import (
    MODELS,
    NONE,
    OF_WORDS,
    attack_unit,
    guidances,
    main_of,
    pooled,
    presence,
    retained_guidance,
    row_of,
    takes_steps,
    troubles,
)
from unrelearn.report.render import caption, latex_table, markdown, markdown_table
from unrelearn.report.stats import (
    Estimate,
    estimate_text,
    estimated,
    half_text,
    intact,
    over_attack_seeds,
)
from unrelearn.report.table import Results, pick
from unrelearn.report.words import (
    BROKE,
    DASH,
    display_name,
    forgotten,
    guidance_label,
    joined,
    protocol_name,
)
from unrelearn.terminal import Console, Markdown

FULL_WIDTH = 150  # a narrower terminal gets fewer columns; the files have all


# ---- tables --------------------------------------------------------------------------------------


def cells(
    results: Results, members: Sequence[Group], brief: bool = False
) -> tuple[list[str], list[list[str]], int]:
    """Headers, rows, and how many columns are flush left; `brief` fits a narrow terminal."""
    known = [(group, results.estimates[group.number]) for group in members]
    every = pooled(record for group in members for record in group.records)
    scales, retain = guidances(every), retained_guidance(every)
    main, shown = main_of(scales), presence(every)

    def texts(column: str, scale: float = 100, digits: int = 1) -> list[str]:
        return [estimate_text(own.get(column), scale, digits, group.n) for group, own in known]

    columns = {"forgotten": [forgotten(group.first) for group in members]}
    for name in ("method", "attack"):
        columns[name] = [display_name(group.first[name]) for group in members]
    if any(group.note for group in members):
        columns["settings"] = [group.note or DASH for group in members]
    columns["seeds"] = [group.seeds for group in members]
    left = len(columns)
    for g in [main] if brief else scales:
        where = f"%\n(s={guidance_label(g)})"
        columns[f"unlearned {where}"] = texts(f"unlearned_{shown.name}@{g}")
        attacked = zip(members, texts(f"attacked_{shown.name}@{g}"), strict=True)
        columns[f"attacked {where}"] = [_if_broken(group) + text for group, text in attacked]
    if not brief:
        for field in ("nothing",) if shown.of_word else ("another", "nothing"):
            column = f"unlearned_{field}@{main}"
            if any(column in own for _, own in known):
                columns[f"{field} %\n(s={guidance_label(main)})"] = texts(column)
        columns["area"] = texts(f"area@{main}", 1, 3)
    halves = [(own.get(f"steps_to_half@{main}"), group.budgets) for group, own in known]
    columns["steps\nto half"] = [half_text(half, budgets) for half, budgets in halves]
    distance = _distance(members, [own for _, own in known], retain)
    pairs = [("retain_accuracy", "retain %", 100, 1), distance]
    for each in reversed(OF_WORDS):
        if any(f"unlearned_{each.name}@{retain}" in own for _, own in known):
            pairs.insert(0, (each.name, f"{each.label} %", 100, 1))
    for metric, short, scale, digits in pairs:
        for model, when in () if brief else (("unlearned", "before"), ("attacked", "after")):
            column = f"{model}_{metric}@{retain}"
            columns[f"{short}\n{when}"] = texts(column, scale, digits)
    return [*columns], [list(row) for row in zip(*columns.values(), strict=True)], left


def _distance(
    members: Sequence[Group], known: Sequence[dict[str, Estimate]], guidance: str
) -> tuple[str, str, int, int]:
    """Column, header, scale, digits: FID if every row with a distance has it, else the oracle's."""
    have = {}
    for metric in ("fid", "fd_oracle"):
        columns = {f"{model}_{metric}@{guidance}" for model in MODELS}
        have[metric] = {place for place, known in enumerate(known) if columns & known.keys()}
    counts = [group.distance_images for group in members if group.distance_images]
    n = f" (N={counts[0]})" if counts else ""  # one in each table
    if have["fid"] and have["fid"] >= have["fd_oracle"]:
        return "fid", f"FID{n}", 1, 1
    return "fd_oracle", f"FD{n}", 1, 2


def _if_broken(group: Group) -> str:
    attacked = [record for record in group.records if row_of(record, "attacked")]
    pairs = [(row_of(r, "attacked"), row_of(r, "unlearned")) for r in attacked]
    guidance = retained_guidance(pooled(group.records))
    broke = pairs and all(intact([pair], guidance) is False for pair in pairs)
    return f"{BROKE}, " if broke else ""


def to_markdown(results: Results, brief: bool = False) -> str:
    parts = []
    for title, members in results.tables.items():
        headers, rows, left = cells(results, members, brief)
        parts.append(f"### {markdown(title)}\n\n{markdown_table(headers, rows, left)}")
    parts.append(legend(results))
    if unfinished := troubles(results.records):
        lines = "\n".join(f"- {markdown(line)}" for line in unfinished)
        parts.append(f"Runs that did not finish:\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def legend(results: Results) -> str:
    return caption("comparison", shown=presences(panels(results)))


def show(results: Results, console: Console | None = None) -> None:
    """Print the comparison: all columns if they fit, else those that matter most."""
    console = console or Console()
    console.print(Markdown(to_markdown(results, brief=console.width < FULL_WIDTH)))


COLUMNS = (  # noqa: SIM905
    "table protocol dataset forgotten method attack settings seeds diverged failed"
    " measurement guidance mean low high n reached values"
).split()


def to_csv(results: Results) -> str:
    """One line per group and column, accuracies as fractions; one for a group without numbers."""
    rows = []
    for group, estimates in zip(results.groups, results.estimates, strict=True):
        first = group.first
        start = [group.table, protocol_name(first), first["dataset"]]
        start += [" ".join(map(str, first["forget_classes"])), first["method"], first["attack"]]
        seeds = dict.fromkeys(str(record["seed"]) for record in group.finished)
        start += [group.note, " ".join(seeds), group.count("diverged"), group.count("failed")]
        for column, e in estimates.items():
            numbers = [e.mean, e.low, e.high, e.n, e.reached, joined(e.values)]
            rows.append([*start, *column.split("@"), *numbers])
        if not estimates:
            rows.append([*start, *[""] * 8])
    return csv_text(COLUMNS, rows)


def to_latex(results: Results) -> str:
    """One booktabs table per protocol."""
    parts = []
    for title, members in results.tables.items():
        headers, rows, left = cells(results, members)
        parts.append(latex_table(f"{title}. {legend(results)}", headers, rows, left))
    return "\n".join(parts)


RENDERERS = {"comparison.md": to_markdown, "table.csv": to_csv, "table.tex": to_latex}


# ---- figures -------------------------------------------------------------------------------------


def recovery_figures(results: Results, members: Sequence[Group]) -> list[tuple[str, Figure]]:
    """(title, figure) for every forgotten class, attack and guidance of one table, DiMRA first; one
    line per method.
    """
    titled = recovery_curves(results, members)
    return [(title, recovery_figure(curves, title)) for title, curves in titled]


def recovery_curves(
    results: Results, members: Sequence[Group]
) -> Iterator[tuple[str, list[Curve]]]:
    """Title and lines of each of these figures.

    Of runs that differ only in the attack's learning rate a line shows, for each seed and budget,
    the strongest.
    """
    attacked = [group for group in members if group.first["attack"] != NONE]
    for (_, _, attack, settings), same in sorted(gathered(attacked, _panel).items()):
        lines = gathered(same, lambda group: (group.first["method"], group.method_note)).values()
        rates = max(map(len, lines))
        named = display_name(attack) + (f" ({settings})" if settings else "")
        every = pooled(record for group in same for record in group.records)
        for guidance in guidances(every):
            by_line = [seed_curve(results, line, guidance) for line in lines]
            title = f"{named}, {forgotten(same[0].first)}"
            if not is_classifier(same[0].first):
                title += f", guidance {guidance_label(guidance)}"
            title += f", strongest of {rates} learning rates" if rates > 1 else ""
            if curves := _with_one_reference([curve for curve in by_line if curve]):
                yield title, curves


def _panel(group: Group) -> tuple[tuple[tuple[int, ...], str], bool, str, str]:
    attack = group.first["attack"]
    return forgotten_key(group.first), attack != "dimra", attack, group.attack_note


def _with_one_reference(curves: Sequence[Curve]) -> list[Curve]:
    """All methods start from one original model a seed: one line, the mean of all known."""
    known = [curve.reference for curve in curves if curve.reference is not None]
    mean = float(np.mean(known)) if known else None
    return [replace(curve, reference=mean) for curve in curves]


def seed_curve(results: Results, groups: Iterable[Group], guidance: str) -> Curve | None:
    """The mean recovery curve of the finished seeds of groups that differ in the rate alone."""
    groups = list(groups)
    shown = presence(pooled(record for group in groups for record in group.records))
    first, places = groups[0], [group.number for group in groups]
    lines = pick(results.values, group_id=places, present=True, guidance=guidance)
    lines = lines[(lines["model"] != "original") & (lines["status"] == "finished")]
    lines = lines.dropna(subset=["value", "low", "high"])
    start = 0.0 if takes_steps(first.first) else -np.inf  # 0 may be a level
    lines = lines.assign(step=lines["step"].where(lines["model"] == "attacked", start))
    means = over_attack_seeds(lines, ["seed", "rate", "step"])
    means = means.sort_values("value", ascending=False, kind="stable", key=pd.to_numeric)
    best = means.drop_duplicates(["seed", "step"]).sort_values("seed", kind="stable")
    complete = best.groupby("step")["seed"].transform("size") == best["seed"].nunique()
    order = [step for step in lines["step"].unique() if step in set(best["step"][complete])]
    if len(order) < 2:
        return None
    averages = [e for step in order if (e := estimated(best[best["step"] == step]))]
    reference = results.estimates[places[0]].get(f"original_{shown.name}@{guidance}")
    note = f" ({first.method_note})" if first.method_note else ""
    return Curve(
        f"{display_name(first.first['method'])}{note}, n={best['seed'].nunique()}",
        [None if np.isinf(step) else step for step in order],
        [average.mean for average in averages],
        [average.low for average in averages],
        [average.high for average in averages],
        reference and reference.mean,
        first.style,
        attack_unit(first.first),
        words=shown.words,
    )
