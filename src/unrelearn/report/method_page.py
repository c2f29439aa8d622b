"""The page of one method: what it is, samples, damage, every attack, cost, and its runs."""

import ast
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unrelearn.report import leaderboard, matrix
from unrelearn.report.comparison import seed_curve
from unrelearn.report.figures import heat_colour, recovery_figure
from unrelearn.report.leaderboard import legend
from unrelearn.report.page import figure, sample_grids
from unrelearn.report.panel import Panel
from unrelearn.report.records import (
    NONE,
    Record,
    main_guidance,
    measured,
    retained_guidance,
    row_of,
    unlearning,
)
from unrelearn.report.render import Context, Line, Rich, caption, page
from unrelearn.report.samples import replacement_figure, sample_files
from unrelearn.report.sections import anchor, difference_note, difference_tables, linked, run_rows
from unrelearn.report.stats import estimate, estimate_text
from unrelearn.report.table import Results, pick
from unrelearn.report.words import (
    DASH,
    attacked_by,
    class_name,
    forgotten,
    guidance_label,
    plain,
    sentence,
)


def method_page(results: Results, same: Sequence[Panel], method: str, folder: Path) -> str:
    """One method in one table, over all classes that it was made to forget: a panel each."""
    record = shown_run(same[0], method)
    settings = record["config"]["method"]
    differences = []
    for panel in same:
        lines = [(Rich(a, f"#{anchor(a)}"), method, a) for a in panel.attacks]
        differences += difference_tables(panel, lines)
    about = f"{attacked_by(record['attack'])}, seed {record['seed']}"
    return page(
        "method",
        title=f"Unrelearn: {sentence(method)}",
        name=sentence(method),
        table=same[0].table,
        description=what_it_is(settings),
        settings=_settings(settings),
        numbers=_own_rows(same, method),
        legend=legend(same),
        matrix=_matrix_rows(same, method),
        matrix_caption=f"{matrix.legend(same)} {caption('matrix_columns')}",
        differences=differences,
        differences_note=difference_note(same),
        figures=[_figures(results, panel, method) for panel in same],
        grids=sample_grids(record, outputs_of(record)),
        which=f"{forgotten(record)}, {about}",
        damage=damage([panel.records(method) for panel in same]),
        cost=[line for panel in same for line in _cost(panel, method)],
        runs=[_runs(panel, method, folder) for panel in same],
    )


def _settings(section: dict[str, Any]) -> list[tuple[str, str]]:
    """One line a setting; the address of the code is none."""
    items = [(key, value) for key, value in section.items() if key not in ("_target_", "preset")]
    return [(key, json.dumps(value, ensure_ascii=False)) for key, value in items]


def what_it_is(settings: dict[str, Any]) -> list[str]:
    """Paragraphs of the docstring of the method's file, which is read and not run."""
    module = str(settings.get("_target_") or "").rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(module) if module else None
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        text = ast.get_docstring(ast.parse(source))
    except (ImportError, ValueError, OSError, SyntaxError):
        text = None
    return text.split("\n\n") if text else []


def shown_run(panel: Panel, method: str) -> Record:
    """The run whose samples are shown: of the main attack, with sample files on this disk."""
    attacks = sorted(panel.attacks, key=lambda attack: attack != panel.main)
    records = [r for attack in attacks for r in panel.records(method, attack)]
    records += pick(panel.runs, method_label=method)["record"].tolist()  # none that unlearned
    return max(records, key=lambda r: sum(f.is_file() for f in sample_files(r, outputs_of(r))))


def outputs_of(record: Record) -> Path:
    """What sample paths are relative to: ``<outputs>/runs/<name>/result.json``."""
    return Path(record.get("path") or "runs/name/result.json").parent.parent.parent


def _own_rows(same: Sequence[Panel], method: str) -> list[Context]:
    """Its line of every board, for each guidance under one head where the columns are the same."""
    tables: dict[tuple[str, ...], list[Line]] = {}
    for panel in same:
        for guidance in panel.guidances:
            columns = leaderboard.columns(panel, guidance)
            key = guidance, *(column.header for column in columns)
            line = [sentence(panel.forgotten), *linked(panel, method, columns)]
            tables.setdefault(key, []).append(line)
    return [
        {"guidance": guidance, "headers": ["forgotten", *headers], "rows": rows}
        for (guidance, *headers), rows in tables.items()
    ]


def _matrix_rows(same: Sequence[Panel], method: str) -> list[tuple[list[str], list[Line]]]:
    """Its line of every matrix."""
    tables: dict[tuple[str, ...], list[Line]] = {}
    for panel in same:
        names = tuple(column.title for column in panel.columns)
        for guidance in panel.guidances:
            line: Line = [f"{sentence(panel.forgotten)}, s={guidance_label(guidance)}"]
            for column in panel.columns:
                cell = panel.cells.get((guidance, method, column))
                heat = heat_colour(cell.estimate.mean) if cell and cell.estimate else ""
                line.append(Rich(matrix.cell_text(panel, guidance, method, column), heat=heat))
            tables.setdefault(names, []).append(line)
    shown = []
    for names, rows in tables.items():
        headers = [name.replace(" (", "\n(").replace(", ", ",\n") for name in names]
        shown.append((["forgotten, guidance", *headers], rows))
    return shown


def _figures(results: Results, panel: Panel, method: str) -> Context:
    """What the main attack brings back at each guidance, and what the class is replaced by."""
    record, drawings = shown_run(panel, method), []
    runs = pick(panel.runs, method_label=method, attack_label=panel.main)
    groups = [results.groups[place] for place in dict.fromkeys(runs["group_id"])]
    curves = []
    for index, guidance in enumerate(panel.scales):
        if curve := groups and seed_curve(results, groups, guidance):
            n = curve.label.rpartition("n=")[2]
            label = f"guidance {guidance_label(guidance)}, n={n}"
            curves.append(replace(curve, label=label, style=index))
    if curves:
        drawn = recovery_figure(curves, f"What {panel.main} brings back")
        bands = (
            "Bands: 95 % t-interval over five seeds and more, lowest and highest of fewer; of one,"
            " Wilson over images."
        )
        drawings.append(figure(drawn, "Recovery curve", bands))
    if replaced := replacement_figure(record, main_guidance(record)):
        about = sentence(f"{attacked_by(record['attack'])}, seed {record['seed']}.")
        drawings.append(figure(replaced, "Replacement classes", about))
    return {"forgotten": panel.forgotten, "drawings": drawings}


def damage(classes: Sequence[Sequence[Record]]) -> Context:
    """By forgotten class: accuracy on the retained ones minus the original's, in points."""
    rows: list[Line] = []
    names: list[str] = []
    for records in classes:
        changes = [change for record in records if (change := _changes(record)) is not None]
        if changes:
            names = names or [class_name(records[0], index) for index in range(len(changes[0]))]
            columns = [_damage_cell(values) for values in zip(*changes, strict=True)]
            rows.append([forgotten(records[0]), *columns])
    return {"headers": ["forgotten", *names], "rows": rows}


def _damage_cell(values: Sequence[float]) -> Rich | str:
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return DASH
    text = estimate_text(estimate(known), 100, 1, len(values))
    return Rich(text, heat=heat_colour(-np.mean(known)))


def _changes(record: Record) -> list[float] | None:
    """Per class, NaN where it was not measured."""
    rows = [row_of(record, model) for model in ("original", "unlearned")]
    values = [measured(row, "retain_accuracy", retained_guidance(record)) or {} for row in rows]
    before, after = (value.get("per_class") for value in values)
    if not before or not after:
        return None
    pairs = zip(before, after, strict=True)
    return [np.nan if None in (one, other) else other - one for one, other in pairs]


def _cost(panel: Panel, method: str) -> list[list[str]]:
    lines = []
    for record in panel.records(method):
        for stage in unlearning(record):
            cost = [plain(stage["seconds"]), plain(stage.get("peak_memory_mib") or 0, digits=0)]
            where = [stage.get("device") or DASH, f"{stage['stage']}/{stage['key']}"]
            lines.append([panel.forgotten, str(record["seed"]), *cost, *where])
    return lines


def _runs(panel: Panel, method: str, folder: Path) -> Context:
    """For each attack the runs behind its numbers; the unlearned model first."""
    parts = []
    for attack in panel.attacks:
        if records := panel.records(method, attack):
            title = "unlearned model" if attack == NONE else attack
            parts.append(
                {"anchor": anchor(attack), "title": title, "runs": run_rows(records, folder)}
            )
    return {"forgotten": panel.forgotten, "parts": parts}
