"""The report of many runs as pages that open from disk: a front page, one page a method, one page
an attack.

The front page ranks; every number on it leads to the page of its method, where the runs, artefacts
and commands behind it are listed. Pages hold their figures inside, so that the folder can be copied
away.
"""

import ast
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from unrelearn.report import leaderboard, matrix
from unrelearn.report.comparison import cells, recovery_figures, seed_curve
from unrelearn.report.figures import heat_colour, recovery_figure
from unrelearn.report.groups import Group
from unrelearn.report.leaderboard import TextColumn, difference_text, difference_words, legend
from unrelearn.report.page import FILE_NAME, figure, sample_grids
from unrelearn.report.panel import Panel, panels
from unrelearn.report.records import (
    NONE,
    main_guidance,
    measured,
    retained_guidance,
    row_of,
    troubles,
    versions_line,
)
from unrelearn.report.render import Rich, caption, page
from unrelearn.report.samples import replacement_figure, sample_files
from unrelearn.report.stats import Difference, estimate, estimate_text
from unrelearn.report.table import Results, pick
from unrelearn.report.verdicts import ranked
from unrelearn.report.words import (
    BROKE,
    DASH,
    attacked_by,
    class_name,
    display_name,
    forgotten,
    guidance_label,
    plain,
    prefixed,
    sentence,
    significant,
)

FRONT = "index.html"


def comparison_page(
    results: Results,
    members: dict[str, Sequence[Group]],
    folder: Path,
    heading: str = "",
    tables: dict[str, dict] | None = None,
    back: str = "",
) -> str:
    """Tables, recovery curves and runs of some groups.

    Args:
        members: by the title of their table.
        folder: where the page will lie, so that links to the runs' reports are relative.
        tables: what stands above a table: its `matrices`, or `differences` and a `note`.
        back: address of the front page.
    """
    shown = []
    for title, groups in members.items():
        headers, rows, left = cells(results, groups)
        for row, group in zip(rows, groups, strict=True):
            row[left - 1] = Rich(row[left - 1], f"#{group.first['name']}")
        drawings = [figure(drawn, name) for name, drawn in recovery_figures(results, groups)]
        about = {"title": title, "headers": headers, "rows": rows, "left": list(range(left))}
        above = {"matrices": [], "differences": [], "note": ""} | (tables or {}).get(title, {})
        shown.append({**about, "drawings": drawings, **above})
    records = [r for groups in members.values() for group in groups for r in group.records]
    return page(
        "comparison",
        title=heading or "Comparison of runs",
        heading=heading or f"Comparison of {len(records)} runs",
        back=back,
        tables=shown,
        caption=caption("comparison"),
        unfinished=troubles(records),
        runs=run_rows(sorted(records, key=lambda record: record["name"]), folder),
    )


def matrix_sections(found: Iterable[Panel]) -> dict[str, dict]:
    """Heat maps and trade-offs, by the title of the table that they belong to."""
    sections: dict[str, dict] = {}
    for panel in found:
        drawings = []
        for draw in (matrix.heat_maps, matrix.trade_offs):
            drawings.append([figure(drawn, title) for title, drawn in draw(panel)])
        section = {"forgotten": panel.forgotten, "maps": drawings[0], "scatters": drawings[1]}
        section |= {"note": caption("trade_off"), "caption": caption("matrix")}
        sections.setdefault(panel.table, {"matrices": []})["matrices"].append(section)
    return sections


def run_rows(records: Sequence[dict], folder: Path) -> dict:
    """Cells of the table of runs, and the name of each row."""
    lines = []
    for record in records:
        models = [row_of(record, model) or {} for model in ("unlearned", "attacked")]
        weights = [model.get("weights") or DASH for model in models]
        name = Rich(record["name"], _page_of(record, folder))
        command = Rich(record.get("command") or DASH, code=True)
        lines.append([name, record["status"], *weights, command])
    return {"cells": lines, "names": [record["name"] for record in records]}


def _page_of(record: dict, folder: Path) -> str:
    """Relative address of the run's own page, if it lies on this disk."""
    file = Path(record.get("path") or "").parent / FILE_NAME
    if not record.get("path") or not file.is_file():
        return ""
    return Path(os.path.relpath(file, Path(folder).resolve())).as_posix()


# ---- the site ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Site:
    """All pages, and where each lies relative to the front page."""

    results: Results
    folder: Path
    files: Sequence[str] = ()  # names of the other files of the report, to link to

    @cached_property
    def panels(self) -> list[Panel]:
        return panels(self.results)

    @cached_property
    def methods(self) -> dict[tuple[str, str], str]:
        """Addresses by table and label."""
        runs = self.results.runs
        names = {(p.table, m): p.named[m][0] for p in self.panels for m in ranked_first(p)}
        return _addresses("methods", names, dict(zip(runs["table"], runs["dataset"], strict=True)))

    @cached_property
    def attacks(self) -> dict[tuple[str, str], str]:
        """Addresses by table and name."""
        runs = self.results.runs
        names = {
            (table, name): name for table, name in zip(runs["table"], runs["attack"], strict=True)
        }
        return _addresses("attacks", names, dict(zip(runs["table"], runs["dataset"], strict=True)))

    @cached_property
    def pages(self) -> dict[str, str]:
        """By address below the folder."""
        made = {FRONT: self.front()}
        for (table, method), address in self.methods.items():
            same = [p for p in self.panels if p.table == table and method in p.methods]
            made[address] = method_page(self.results, same, method, self.folder / "methods")
        for (table, name), address in self.attacks.items():
            made[address] = self.attack_page(table, name)
        return made

    def front(self) -> str:
        sections = matrix_sections(matrix.matrices(self.results))
        tables = []
        for title in self.results.tables:
            same = [panel for panel in self.panels if panel.table == title]
            about = {"title": title, "slug": slug(title), "legend": legend(same)}
            about["boards"] = [self._board(panel) for panel in same]
            about["matrices"] = sections.get(title, {}).get("matrices", [])
            about["methods"] = {m: at for (table, m), at in self.methods.items() if table == title}
            names = {name: at for (table, name), at in self.attacks.items() if table == title}
            about["attacks"] = {attack_name(name): at for name, at in names.items()}
            tables.append(about)
        records = self.results.records
        about = {"extent": _extent(records), "unfinished": troubles(records), "files": self.files}
        return page("front", title="Unrelearn: comparison of runs", tables=tables, **about)

    def _board(self, panel: Panel) -> dict:
        drawn = leaderboard.scatters(panel)
        scatters = [figure(drawing, name, caption("scatter")) for name, drawing in drawn]
        parts = []
        for guidance in panel.guidances:
            columns, rows = leaderboard.columns(panel, guidance), []
            for method in ranked(panel, guidance):
                address = self.methods[panel.table, method]
                linked = _linked(panel, method, columns, address)
                rows.append([Rich(method, address), *linked])
            title = f"{panel.forgotten}, guidance {guidance_label(guidance)}"
            headers = ["method", *(column.header for column in columns)]
            parts.append({"title": title, "headers": headers, "rows": rows})
        return {"scatters": scatters, "parts": parts}

    def attack_page(self, table: str, name: str) -> str:
        """All methods under every setting of one attack."""
        members = [g for g in self.results.tables[table] if g.first["attack"] == name]
        same, tables = [panel for panel in self.panels if panel.table == table], []
        for panel in same:
            lines = []
            for attack in [a for a in panel.attacks if (panel.named.get(a) or (a,))[0] == name]:
                settings = panel.named[attack][1] if attack in panel.named else ""
                for method in ranked_first(panel):
                    text = method + (f" ({settings})" if settings else "")
                    address = f"../{self.methods[table, method]}#{anchor(attack)}"
                    lines.append((Rich(text, address), method, attack))
            tables += difference_tables(panel, lines)
        heading, above = sentence(attack_name(name)), {"differences": tables}
        above |= {"note": _difference_note(same)}
        folder = self.folder / "attacks"
        back = f"../{FRONT}"
        return comparison_page(
            self.results, {table: members}, folder, heading, {table: above}, back
        )


def ranked_first(panel: Panel) -> list[str]:
    """Methods as the leaderboard at the main guidance has them."""
    return ranked(panel, panel.guidances[0]) if panel.guidances else panel.methods


def attack_name(name: str) -> str:
    return "no attack" if name == NONE else display_name(name)


def _addresses(folder: str, names: dict[tuple, str], datasets: dict[str, str]) -> dict[tuple, str]:
    """``methods/digits-dimum.html``, ``methods/digits-dimum-2.html`` for another protocol or other
    settings.
    """
    addresses: dict[tuple, str] = {}
    for (table, label), name in names.items():
        stem, count = f"{folder}/{slug(f'{datasets[table]}-{name}')}", 1
        address = f"{stem}.html"
        while address in addresses.values():
            count += 1
            address = f"{stem}-{count}.html"
        addresses[table, label] = address
    return addresses


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def anchor(attack: str | None) -> str:
    """Of the runs behind a number on the page of its method; None: behind a whole row of the
    matrix.
    """
    return "matrix" if attack is None else f"runs-{slug(attack)}"


def _extent(records: Sequence[dict]) -> str:
    """How much is compared, and with which versions it was made."""
    counts = [(len(records), "run")]
    counts += [(len({r[key] for r in records}), key) for key in ("method", "attack", "seed")]
    words = ", ".join(f"{n} {word}" + ("s" if n != 1 else "") for n, word in counts)
    return f"{words} (no attack counts as one). {sentence(versions_line(records))}"


def _linked(panel: Panel, method: str, columns: Sequence[TextColumn], page: str = "") -> list[Rich]:
    """The line of a method, each number a link to the runs behind it on the method's page."""
    line = []
    for column in columns:
        text, attack = column.text(method), column.attack
        known = text != DASH and (attack is None or panel.records(method, attack))
        line.append(Rich(text, f"{page}#{anchor(attack)}" if known else ""))
    return line


# ---- differences ---------------------------------------------------------------------------------


def difference_tables(panel: Panel, lines: Sequence[tuple[Rich, str, str]]) -> list[dict]:
    """What an attack brings back of a method, and the difference to the reference.

    Args:
        lines: the first cell, the method and the attack; what was never measured gets no row.
    """
    headers = [""]
    for guidance in panel.guidances:
        scale = guidance_label(guidance)
        headers += [f"forget %\n(s={scale})", "minus\nreference", "p\n(Holm)"]
    rows = []
    for label, method, attack in lines:
        if panel.records(method, attack):
            rows.append([label, *_difference_cells(panel, method, attack)])
    title = f"{panel.forgotten}: what comes back, and the difference to a reference"
    headers += ["compared\nover", "reference"]
    return [{"title": title, "headers": headers, "rows": rows}] if rows else []


def _difference_note(found: Sequence[Panel]) -> str:
    words = (
        "Forget accuracy: at the strongest learning rate or level that leaves the model whole, for"
        " each seed."
    )
    return f"{words} {difference_words(found)}"


def _difference_cells(panel: Panel, method: str, attack: str) -> list[str]:
    texts, pairs, references = [], [], []
    for guidance in panel.guidances:
        cell = panel.cell(guidance, method, attack)
        result = panel.differences.get((guidance, attack, method))
        text = estimate_text(cell and cell.estimate, 100, 1, panel.count(method))
        texts.append(prefixed(BROKE if cell and cell.broke else "", text))
        texts.append(difference_text(panel, guidance, attack, method))
        known = result is not None and result.adjusted is not None
        texts.append(significant(result.adjusted) if known else DASH)
        if result:
            pairs.append(_compared(result))
            references.append(panel.references[guidance, attack])
    return [*texts, *(" or ".join(dict.fromkeys(words)) or DASH for words in (pairs, references))]


def _compared(result: Difference) -> str:
    return f"{result.n} {result.test if result.n > 1 else result.test.removesuffix('s')}"


# ---- the page of a method ------------------------------------------------------------------------


def method_page(results: Results, same: Sequence[Panel], method: str, folder: Path) -> str:
    """One method in one table of the comparison, over all classes that it was made to forget.

    Args:
        same: the panels of the table that hold the method.
        folder: where the page will lie.
    """
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
        matrix_caption=f"{caption('matrix')} {caption('matrix_columns')}",
        differences=differences,
        differences_note=_difference_note(same),
        figures=[_figures(results, panel, method) for panel in same],
        grids=sample_grids(record, outputs_of(record)),
        which=f"{forgotten(record)}, {about}",
        damage=damage([panel.records(method) for panel in same]),
        cost=[line for panel in same for line in _cost(panel, method)],
        runs=[_runs(panel, method, folder) for panel in same],
    )


def _settings(section: dict) -> list[tuple[str, str]]:
    """One line a setting; the address of the code is none."""
    items = [(key, value) for key, value in section.items() if key not in ("_target_", "preset")]
    return [(key, json.dumps(value, ensure_ascii=False)) for key, value in items]


def what_it_is(settings: dict) -> list[str]:
    """Paragraphs of the docstring of the method's file, read and not run; none where the file is
    not installed. An indented one is a formula.
    """
    module = str(settings.get("_target_") or "").rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(module) if module else None
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        text = ast.get_docstring(ast.parse(source))
    except (ImportError, ValueError, OSError, SyntaxError):
        text = None
    return text.split("\n\n") if text else []


def shown_run(panel: Panel, method: str) -> dict:
    """The run whose samples and replacement classes are shown: of the main attack, and with sample
    files on this disk.
    """
    attacks = sorted(panel.attacks, key=lambda attack: attack != panel.main)
    records = [r for attack in attacks for r in panel.records(method, attack)]
    records += pick(panel.runs, method_label=method)["record"].tolist()  # none that unlearned
    return max(records, key=lambda r: sum(f.is_file() for f in sample_files(r, outputs_of(r))))


def outputs_of(record: dict) -> Path:
    """The folder that the record's sample paths are relative to:
    ``<outputs>/runs/<name>/result.json``.
    """
    return Path(record.get("path") or "runs/name/result.json").parent.parent.parent


def _own_rows(same: Sequence[Panel], method: str) -> list[dict]:
    """Its line of every board, for each guidance under one head where the columns are the same."""
    tables: dict[tuple, list] = {}
    for panel in same:
        for guidance in panel.guidances:
            columns = leaderboard.columns(panel, guidance)
            key = guidance, *(column.header for column in columns)
            line = [sentence(panel.forgotten), *_linked(panel, method, columns)]
            tables.setdefault(key, []).append(line)
    return [
        {"guidance": guidance, "headers": ["forgotten", *headers], "rows": rows}
        for (guidance, *headers), rows in tables.items()
    ]


def _matrix_rows(same: Sequence[Panel], method: str) -> list[tuple]:
    """Its line of every matrix."""
    tables: dict[tuple, list] = {}
    for panel in same:
        names = tuple(column.title for column in panel.columns)
        for guidance in panel.guidances:
            line: list = [f"{sentence(panel.forgotten)}, s={guidance_label(guidance)}"]
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


def _figures(results: Results, panel: Panel, method: str) -> dict:
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


def damage(classes: Sequence[Sequence[dict]]) -> dict:
    """Forgotten classes against retained ones: accuracy of the unlearned model minus that of the
    original, in points.

    Args:
        classes: for each forgotten class the records of the unlearned models.
    """
    rows, names = [], []
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


def _changes(record: dict) -> list[float] | None:
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
        for stage in record.get("stages") or []:
            if stage["stage"] == "unlearn":
                cost = [plain(stage["seconds"]), plain(stage.get("peak_memory_mib") or 0, digits=0)]
                where = [stage.get("device") or DASH, f"unlearn/{stage['key']}"]
                lines.append([panel.forgotten, str(record["seed"]), *cost, *where])
    return lines


def _runs(panel: Panel, method: str, folder: Path) -> dict:
    """For each attack the runs behind its numbers; the unlearned model first."""
    parts = []
    for attack in panel.attacks:
        if records := panel.records(method, attack):
            title = "unlearned model" if attack == NONE else attack
            parts.append(
                {"anchor": anchor(attack), "title": title, "runs": run_rows(records, folder)}
            )
    return {"forgotten": panel.forgotten, "parts": parts}
