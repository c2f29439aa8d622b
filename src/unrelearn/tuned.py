"""What is written of a search: chosen.csv, the table of a page, and presets for conf/tuned."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from unrelearn.errors import UsageError
from unrelearn.report.files import csv_text, write_atomically
from unrelearn.tuning import (
    ACCURACY,
    Row,
    Rules,
    complete,
    mean,
    over_original,
    ranking,
    settings_of,
    unlearned,
)

HEADER = ["method", "place", "trial", "admissible", "retain_accuracy"]
HEADER += ["fd_oracle_over_original", "settings"]
SHOWN = 3  # the chosen setting and two runners-up
BEGIN, END = "<!-- trials -->\n", "<!-- end -->"

Tables = Mapping[str, Sequence[Row]]  # method -> its trials


def none_admissible(trials: int) -> str:
    return f"no admissible setting in {trials}"


def chosen(tables: Tables, rules: Rules, trials: int) -> str:
    """As CSV: the chosen setting and the runners-up of each method whose trials are complete."""
    lines = []
    for method, rows in tables.items():
        if not complete(rows, rules, trials):
            continue
        ranked = ranking(rows, rules, trials)
        if not ranked:
            lines.append([method, "", "", 0, "", "", none_admissible(trials)])
        for place, trial in enumerate(ranked[:SHOWN], start=1):
            numbers = mean(trial, "retain_accuracy"), over_original(trial)
            words = [*(f"{number:.6f}" for number in numbers), shlex.join(settings_of(trial[0]))]
            lines.append([method, place, trial[0]["trial"], len(ranked), *words])
    return csv_text(HEADER, lines)


def table(tables: Tables, rules: Rules, trials: int) -> str:
    """As Markdown: one line a method."""
    lines = [
        (
            f"| method | admissible of {trials} | chosen | UA % at each guidance, seed by seed |"
            " retained % | distance / the original's | retained %: the next two |"
        ),
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for method, rows in tables.items():
        ranked = ranking(rows, rules, trials)
        if not complete(rows, rules, trials):
            begun = len({row["trial"] for row in rows if int(row["trial"]) < trials})
            lines.append(
                f"| {method} | {len(ranked)} so far | {begun} of {trials} trials begun | | | | |"
            )
        elif not ranked:
            lines.append(f"| {method} | 0 | {none_admissible(trials)}{_nearest(rows, rules)} | |")
        else:
            best = ranked[0]
            settings = ", ".join(
                word.split(".", 1)[1].replace("=", " ") for word in settings_of(best[0])
            )
            retained = [f"{100 * mean(trial, 'retain_accuracy'):.1f}" for trial in ranked[:SHOWN]]
            lines.append(
                f"| {method} | {len(ranked)} | {best[0]['trial']}: {settings} | {accuracies(best)}"
                f" | {retained[0]} | {over_original(best):.2f} | {', '.join(retained[1:])} |"
            )
    return "\n".join(lines) + "\n"


def _nearest(rows: Sequence[Row], rules: Rules) -> str:
    """Of the trials that unlearn on the first seed the one whose distance is least."""
    first = [row for row in rows if row["seed"] == str(rules.seeds[0]) and unlearned(row, rules)]
    if not first:
        return ": none unlearns | | |"
    row = min(first, key=lambda row: over_original([row]))
    retained = f"{100 * mean([row], 'retain_accuracy'):.1f}"
    return (
        f": {len(first)} unlearn{'s' * (len(first) == 1)}, the nearest with | {accuracies([row])}"
        f" | {retained} | {over_original([row]):.2f}"
    )


def accuracies(rows: Sequence[Row]) -> str:
    """Unlearning accuracies in percent: guidance scales between slashes, seeds between commas."""
    return ", ".join(
        " / ".join(
            f"{100 * float(value):.1f}" for name, value in row.items() if name.startswith(ACCURACY)
        )
        for row in rows
    )


def preset(
    method: str, place: int, ranked: Sequence[Sequence[Row]], rules: Rules, trials: int
) -> str:
    """A file of conf/tuned: the settings of a trial, and where they come from."""
    trial = ranked[place - 1]
    groups: dict[str, list[str]] = {"unlearning": [], "method": []}
    for word in settings_of(trial[0]):
        group, _, setting = word.partition(".")
        groups[group].append(setting.replace("=", ": ", 1))
    lines = [
        "# @package _global_",
        (
            "# Made by scripts/tune.py, not by hand:   "
            f"python run.py method={method} +tuned={preset_name(method, place)} attack=dimra"
        ),
        (
            "# It brings its method along, so that several are a list: -m +tuned=A,B (without"
            " method=)."
        ),
        (
            f"# Trial {trial[0]['trial']} of {trials}, number {place} of {len(ranked)} admissible"
            f" ones: docs/results/tuning/{method}.csv"
        ),
        (
            f"# Class {rules.forget}, seeds {', '.join(map(str, rules.seeds))}: unlearning accuracy"
            f" {accuracies(trial)} %, retained {100 * mean(trial, 'retain_accuracy'):.1f} %,"
        ),
        (
            f"# distance {over_original(trial):.2f} times the original's. Report other classes and"
            " seeds than these."
        ),
        f"defaults: [{{override /method: {method}}}]",
    ]
    lines += [
        f"{group}: {{{', '.join(settings)}}}" for group, settings in groups.items() if settings
    ]
    return "\n".join(lines) + "\n"


def preset_name(method: str, place: int) -> str:
    return method if place == 1 else f"{method}_{place}"


# ---- files -----------------------------------------------------------------------------------


def write_tables(results: Path, tables: Tables, rules: Rules, trials: int) -> None:
    """<results>/chosen.csv, and the table between two lines of the page <results>.md."""
    write_atomically(results / "chosen.csv", chosen(tables, rules, trials))
    page = results.with_name(f"{results.name}.md")
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Tuning\n\n{BEGIN}{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UsageError(
            f"{page}: has no line {BEGIN.strip()} with a line {END} below it. Add both where the "
            "table is to stand"
        )
    write_atomically(page, before + begin + table(tables, rules, trials) + end + after)


def write_presets(folder: Path, tables: Tables, rules: Rules, trials: int) -> list[str]:
    """A file for each place of each method whose trials are complete; the methods that have
    none.
    """
    without = []
    for method, rows in tables.items():
        if not complete(rows, rules, trials):
            continue
        ranked = ranking(rows, rules, trials)
        without += [method] * (not ranked)
        for place in range(1, SHOWN + 1):
            path = folder / f"{preset_name(method, place)}.yaml"
            path.unlink(missing_ok=True)  # of an earlier search
            if place <= len(ranked):
                write_atomically(path, preset(method, place, ranked, rules, trials))
    return without
