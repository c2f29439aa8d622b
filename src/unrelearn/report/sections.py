"""What several pages have: tables of groups, runs and differences, matrices, links to the runs."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from unrelearn.report import matrix
from unrelearn.report.comparison import cells, legend, recovery_figures
from unrelearn.report.groups import Group
from unrelearn.report.leaderboard import TextColumn, difference_text, difference_words
from unrelearn.report.page import figure
from unrelearn.report.panel import Panel, presences
from unrelearn.report.records import NONE, PAGE, Record, row_of, troubles
from unrelearn.report.render import Context, Line, Rich, caption, page
from unrelearn.report.stats import Difference, estimate_text
from unrelearn.report.table import Results
from unrelearn.report.words import (
    BROKE,
    DASH,
    display_name,
    guidance_label,
    prefixed,
    sentence,
    significant,
)


def comparison_page(
    results: Results,
    members: dict[str, Sequence[Group]],
    folder: Path,
    heading: str = "",
    tables: dict[str, Context] | None = None,
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
        headers, texts, left = cells(results, groups)
        rows: list[Line] = []
        for row, group in zip(texts, groups, strict=True):
            seeds = Rich(row[left - 1], f"#{group.first['name']}")
            rows.append([*row[: left - 1], seeds, *row[left:]])
        drawings = [figure(drawn, name) for name, drawn in recovery_figures(results, groups)]
        about: Context = {"title": title, "headers": headers, "rows": rows}
        about["left"] = list(range(left))
        above: Context = {"matrices": [], "differences": [], "note": ""} | (tables or {}).get(
            title, {}
        )
        shown.append({**about, "drawings": drawings, **above})
    records = [r for groups in members.values() for group in groups for r in group.records]
    return page(
        "comparison",
        title=heading or "Comparison of runs",
        heading=heading or f"Comparison of {len(records)} runs",
        back=back,
        tables=shown,
        caption=legend(results),
        unfinished=troubles(records),
        runs=run_rows(sorted(records, key=lambda record: record["name"]), folder),
    )


def matrix_sections(panels: Iterable[Panel]) -> dict[str, Context]:
    """Heat maps and trade-offs, by the title of the table that they belong to."""
    sections: dict[str, Context] = {}
    for panel in panels:
        drawings = []
        for draw in (matrix.heat_maps, matrix.trade_offs):
            drawings.append([figure(drawn, title) for title, drawn in draw(panel)])
        section: Context = {
            "forgotten": panel.forgotten,
            "maps": drawings[0],
            "scatters": drawings[1],
        }
        section |= {"note": caption("trade_off"), "caption": matrix.legend([panel])}
        sections.setdefault(panel.table, {"matrices": []})["matrices"].append(section)
    return sections


def run_rows(records: Sequence[Record], folder: Path) -> Context:
    """Cells of the table of runs, and the name of each row."""
    lines = []
    for record in records:
        models = [row_of(record, model) or {} for model in ("unlearned", "attacked")]
        weights = [model.get("weights") or DASH for model in models]
        name = Rich(record["name"], _page_of(record, folder))
        command = Rich(record.get("command") or DASH, code=True)
        lines.append([name, record["status"], *weights, command])
    return {"cells": lines, "names": [record["name"] for record in records]}


def _page_of(record: Record, folder: Path) -> str:
    """Relative address of the run's own page, if it lies on this disk."""
    file = Path(record.get("path") or "").parent / PAGE
    if not record.get("path") or not file.is_file():
        return ""
    return Path(os.path.relpath(file, Path(folder).resolve())).as_posix()


def attack_name(name: str) -> str:
    return "no attack" if name == NONE else display_name(name)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def anchor(attack: str | None) -> str:
    """Of the runs behind a number; None: behind a whole row of the matrix."""
    return "matrix" if attack is None else f"runs-{slug(attack)}"


def linked(panel: Panel, method: str, columns: Sequence[TextColumn], page: str = "") -> Line:
    """The line of a method, each number a link to the runs behind it on the method's page."""
    line: Line = []
    for column in columns:
        text, attack = column.text(method), column.attack
        known = text != DASH and (attack is None or panel.records(method, attack))
        line.append(Rich(text, f"{page}#{anchor(attack)}" if known else ""))
    return line


# ---- differences ---------------------------------------------------------------------------------


def difference_tables(panel: Panel, lines: Sequence[tuple[Rich, str, str]]) -> list[Context]:
    """A line for each (first cell, method, attack) that was measured."""
    headers, share = [""], panel.presence.words.split()[0]
    for guidance in panel.guidances:
        scale = guidance_label(guidance)
        headers += [f"{share} %\n(s={scale})", "minus\nreference", "p\n(Holm)"]
    rows = []
    for label, method, attack in lines:
        if panel.records(method, attack):
            rows.append([label, *_difference_cells(panel, method, attack)])
    title = f"{panel.forgotten}: what comes back, and the difference to a reference"
    headers += ["compared\nover", "reference"]
    return [{"title": title, "headers": headers, "rows": rows}] if rows else []


def difference_note(panels: Sequence[Panel]) -> str:
    of = sentence(" or ".join(presences(panels)))
    at = "at the strongest learning rate or level that leaves the model whole, for each seed."
    return f"{of}: {at} {difference_words(panels)}"


def _difference_cells(panel: Panel, method: str, attack: str) -> list[str]:
    texts, pairs, references = [], [], []
    for guidance in panel.guidances:
        cell = panel.cell(guidance, method, attack)
        result = panel.differences.get((guidance, attack, method))
        text = estimate_text(cell and cell.estimate, 100, 1, panel.count(method))
        texts.append(prefixed(BROKE if cell and cell.broke else "", text))
        texts.append(difference_text(panel, guidance, attack, method))
        adjusted = result and result.adjusted
        texts.append(DASH if adjusted is None else significant(adjusted))
        if result:
            pairs.append(_compared(result))
            references.append(panel.references[guidance, attack])
    return [*texts, *(" or ".join(dict.fromkeys(words)) or DASH for words in (pairs, references))]


def _compared(result: Difference) -> str:
    return f"{result.n} {result.test if result.n > 1 else result.test.removesuffix('s')}"
