"""Every method against every attack: what the strongest attacker of each kind brings back;
Markdown, CSV, heat maps.

One matrix for each table of the comparison and forgotten class. A cell takes, for each seed, the
strongest attacked models (`strongest`) over runs that differ only in ``attack.learning_rate`` and
the attack's own seed, and averages that over the seeds.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from unrelearn.report.figures import Mark, heat_map, scatter_figure
from unrelearn.report.files import csv_text
from unrelearn.report.panel import Panel, PanelCell, panels, presences
from unrelearn.report.panel_runs import HEADINGS, MAIN, AttackColumn
from unrelearn.report.render import caption, console_table, markdown, markdown_table
from unrelearn.report.stats import estimated
from unrelearn.report.table import Results, pick
from unrelearn.report.words import BROKE, DASH, guidance_label, joined, plain
from unrelearn.terminal import Console, Table


def matrices(results: Results) -> list[Panel]:
    """The panels with at least two attacks, none included."""
    return [panel for panel in panels(results) if panel.runs["attack"].nunique() > 1]


def title(panel: Panel, guidance: str) -> str:
    return f"{panel.table}, {panel.forgotten}, guidance {guidance_label(guidance)}"


def cell_text(panel: Panel, guidance: str, method: str, column: AttackColumn) -> str:
    """``58.2``, ``≥ 58.2``, ``58.2 (n=2)`` where others of the row have more seeds."""
    cell = panel.cells.get((guidance, method, column))
    if cell is None:
        return DASH
    if cell.estimate is None:
        return BROKE
    row = [other for (_, name, _), other in panel.cells.items() if name == method]
    n = len(cell.seeds)
    text = plain(cell.estimate.mean, 100)
    if (beyond := cell.mean("difference")) is not None:
        text += f" ({100 * beyond:+.1f})"
    text += f" (n={n})" if n < max(len(other.seeds) for other in row) else ""
    return f"{BROKE + ', ' if cell.broke else ''}{'≥ ' if cell.bound else ''}{text}"


# ---- tables --------------------------------------------------------------------------------------


def to_markdown(panels: Sequence[Panel]) -> str:
    parts = []
    for panel in panels:
        headers = ["method", *(column.title for column in panel.columns), "retained %", "unlearn s"]
        retained = panel.mean_of("retain_accuracy", panel.retained_at)
        seconds = panel.mean_of("unlearn_seconds")
        for guidance in panel.scales:
            rows = []
            for method in panel.methods:
                cells = [cell_text(panel, guidance, method, column) for column in panel.columns]
                kept, spent = retained.get(method), seconds.get(method)
                cells += [plain(kept and kept.mean, 100), plain(spent and spent.mean)]
                rows.append([method, *cells])
            table = markdown_table(headers, rows)
            parts.append(f"### {markdown(title(panel, guidance))}\n\n{table}")
    words = [legend(panels), caption("matrix_columns")]
    return "\n\n".join([*parts, " ".join(words)]) + "\n"


def legend(panels: Sequence[Panel]) -> str:
    return caption("matrix", shown=presences(panels))


COLUMNS = (  # noqa: SIM905
    "table forgotten guidance method method_settings holds attack attack_settings mean low high n"
    " values maximum lower_bound broke held_out other_sampler another nothing rate at"
    " retained_after other_starts minus_other_starts runs retained unlearn_seconds"
).split()


def to_csv(panels: Sequence[Panel]) -> str:
    """One line per cell; `at` and `runs` are of the strongest attack of each seed, in order."""
    rows = []
    for panel in panels:
        retained = panel.mean_of("retain_accuracy", panel.retained_at)
        seconds = panel.mean_of("unlearn_seconds")
        for key in itertools.product(panel.scales, panel.methods, panel.columns):
            if cell := panel.cells.get(key):
                guidance, method, column = key
                kept, spent = retained.get(method), seconds.get(method)
                start = [panel.table, panel.forgotten, guidance, *panel.named[method]]
                start += [column.heading, column.name, column.settings]
                beside = [kept and kept.mean, spent and spent.mean]
                rows.append([*start, *_numbers(cell), *beside])
    return csv_text(COLUMNS, rows)


def _numbers(cell: PanelCell) -> list[object]:
    e, seeds = cell.estimate, cell.seeds
    return [
        *((e.mean, e.low, e.high, e.n) if e else [""] * 4),
        joined(seeds["value"]),
        "" if seeds.empty else seeds["maximum"].max(),
        cell.bound,
        int(cell.tried["broke"].sum()),
        cell.mean("held_out"),
        cell.mean("other_sampler"),
        cell.mean("another"),
        cell.mean("nothing"),
        _each(seeds["rate"], "g"),
        _each(seeds["at"], "g"),
        _each(seeds["retained"], ".3f"),
        cell.mean("other_starts"),
        cell.mean("difference"),
        " ".join(seeds["runs"]),
    ]


def _each(values: Sequence[float], digits: str) -> str:
    return " ".join(DASH if np.isnan(value) else format(value, digits) for value in values)


RENDERERS = {"matrix.md": to_markdown, "matrix.csv": to_csv}


def show(panels: Sequence[Panel], console: Console | None = None) -> None:
    """Print attacks as rows and methods as columns, as many side by side as the console is wide."""
    console = console or Console()
    for panel in (panel for panel in panels if panel.scales):  # none where every run diverged
        console.print(
            f"Strongest {panel.presence.words}, %: {panel.table}, {panel.forgotten}",
            style="bold",
            markup=False,
            highlight=False,
        )
        for table in _terminal_tables(panel, console.width):
            console.print(table)
    if panels:
        console.print(
            "For each seed the strongest rate or level that leaves the model whole, then the mean"
            " over seeds. † holds images of the class or weights of the original model.",
            highlight=False,
        )


def _terminal_tables(panel: Panel, width: int) -> Iterator[Table]:
    places = [(method, guidance) for method in panel.methods for guidance in panel.scales]
    texts = [[cell_text(panel, g, m, column) for m, g in places] for column in panel.columns]
    headers = [f"{method}\ns={guidance_label(guidance)}" for method, guidance in places]
    words = [*headers, *itertools.chain(*texts)]
    parts = [part for text in words for part in text.split("\n")]
    names = [column.title for column in panel.columns]
    room = width - 2 - max(map(len, names))
    side_by_side = max(1, room // (2 + max(map(len, parts))))
    for start in range(0, len(places), side_by_side):
        shown = slice(start, start + side_by_side)
        rows = [[name, *row[shown]] for name, row in zip(names, texts, strict=True)]
        yield console_table((["attack", *headers[shown]], rows))


# ---- figures -------------------------------------------------------------------------------------


def heat_maps(panel: Panel) -> list[tuple[str, Figure]]:
    """(title, figure) for every guidance."""
    figures = []
    controls = sum(map(panel.is_control, panel.methods))
    kinds = [column.heading for column in panel.columns]
    for guidance in panel.scales:
        values, texts = [], []
        for method in panel.methods:
            row = [panel.cells.get((guidance, method, column)) for column in panel.columns]
            values.append(
                [cell.estimate.mean if cell and cell.estimate else np.nan for cell in row]
            )
            texts.append([_heat_text(cell) for cell in row])
        drawing = heat_map(
            np.array(values),
            texts,
            panel.methods,
            [column.label for column in panel.columns],
            ([controls, len(panel.methods) - controls], [(h, kinds.count(h)) for h in HEADINGS]),
            f"Strongest {panel.presence.words} (%), {panel.forgotten}, guidance"
            f" {guidance_label(guidance)}",
        )
        figures.append((title(panel, guidance), drawing))
    return figures


def _heat_text(cell: PanelCell | None) -> str:
    if cell is None:
        return DASH
    if cell.estimate is None:
        return "×"
    text = f"{'≥' if cell.bound else ''}{plain(cell.estimate.mean, 100)}".replace("100.0", "100")
    return f"({text})" if cell.broke else text


def trade_offs(panel: Panel) -> list[tuple[str, Figure]]:
    """(title, figure) for every guidance at which DiMRA was measured on at least two methods."""
    figures = []
    words = f"Cost of unlearning, and what DiMRA brings back: {panel.forgotten}"
    for guidance in panel.scales:
        marks = _marks(panel, guidance)
        if len(marks) > 1:
            drawing = scatter_figure(
                marks,
                f"{words}, guidance {guidance_label(guidance)}",
                "retain accuracy before the attack (%)",
                "strongest recovery by DiMRA (%)",
                right=100,
            )
            figures.append((title(panel, guidance), drawing))
    return figures


def _marks(panel: Panel, guidance: str) -> list[Mark]:
    """Retain accuracy before the attack, and the most that DiMRA brought back."""
    settings = [column.label for column in panel.columns if column.name == MAIN]
    best = panel.worst(settings, panel.whole) if settings else None
    retained = panel.mean_of("retain_accuracy", panel.retained_at)
    marks = []
    for style, method in enumerate(panel.methods):
        # random weights are at chance: they would squeeze the others
        if best is None or panel.named[method][0] == "random_weights" or method not in retained:
            continue
        recovery = estimated(pick(best, method_label=method, guidance=guidance))
        if recovery:
            control, ruined = panel.is_control(method), method in panel.ruined
            place = retained[method].mean, recovery.mean
            marks.append(Mark(method, *place, style, control, ruined))
    return marks


DRAWINGS = {"matrix": heat_maps, "trade-off": trade_offs}
