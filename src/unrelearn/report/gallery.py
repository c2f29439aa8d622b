"""Images of every method of a table, from the same noise column by column."""

from textwrap import fill
from typing import TypeAlias

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unrelearn.report.drawing import Style, styled, titled
from unrelearn.report.method_page import outputs_of
from unrelearn.report.panel import Panel
from unrelearn.report.records import NONE, Record
from unrelearn.report.samples import Strip, sample_strips, tiles
from unrelearn.report.table import pick
from unrelearn.report.verdicts import ranked
from unrelearn.report.words import display_name, guidance_label

COLUMNS = 6  # images of each model
BLANK: np.ndarray = np.full((COLUMNS, 8, 8, 3), 255, np.uint8)
Row: TypeAlias = tuple[str, list[Strip | None]]
LABEL: Style = {"ha": "right", "va": "center", "fontsize": 8}
HEIGHT, WIDTH = 0.62, 3.4  # inches of a row and of a column of strips


def galleries(panel: Panel) -> list[tuple[str, Figure]]:
    """(title, figure) at each guidance at which sample files are on this disk."""
    figures = []
    for guidance in panel.guidances:
        if rows := _rows(panel, guidance):
            where = f"{panel.forgotten}, guidance {guidance_label(guidance)}"
            title = f"Generated under {where}, the same noise in each column"
            names = ["before", *(f"after {display_name(panel.named[a][0])}" for a in panel.heads)]
            figures.append((title, _figure(title, names, rows)))
    return figures


def _rows(panel: Panel, guidance: str) -> list[Row]:
    """The original, then the methods as they rank, each before and after the attacks; none
    without a sample file.
    """
    rows: list[Row] = []
    seed = panel.models["seed"].min()
    first = pick(panel.models, seed=seed)
    records = first.set_index("method_label")["record"]
    for method in ranked(panel, guidance):
        if method not in records.index:
            continue
        before = {strip.label: strip for strip in _strips(records[method], guidance)}
        after = [_attacked(panel, guidance, method, attack, seed) for attack in panel.heads]
        if panel.named[method][0] == "original":
            rows = [("original", [before.get("original"), *after]), *rows[1:]]
            continue
        if not rows:
            rows = [("original", [before.get("original")])]
        rows.append((_name(panel, method), [before.get("unlearned"), *after]))
    return rows if any(any(strips) for _, strips in rows) else []


def _name(panel: Panel, method: str) -> str:
    """Without its settings, where they set it apart from nothing here."""
    name = panel.named[method][0]
    same = [other for other in panel.methods if panel.named[other][0] == name]
    return fill(method, 30, break_long_words=False) if len(same) > 1 else display_name(name)


def _attacked(panel: Panel, guidance: str, method: str, attack: str, seed: object) -> Strip | None:
    """Of the same seed, as noise is another in another, at its strongest rate the last drawn."""
    cell = panel.cell(guidance, method, attack) if attack != NONE else None
    tried = pick(cell.tried, seed=seed) if cell else None
    if tried is None or tried.empty:
        return None
    strips = _strips(panel.runs.at[tried.iloc[0]["ids"][0], "record"], guidance)
    return next((strip for strip in strips if strip.label.startswith("attacked")), None)


def _strips(record: Record, guidance: str) -> list[Strip]:
    return sample_strips(record, outputs_of(record), "forget", guidance, COLUMNS)


@styled
def _figure(title: str, names: list[str], rows: list[Row]) -> Figure:
    size = (1.1 + WIDTH * len(names), 0.6 + HEIGHT * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(names), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, loc="left", fontsize=9)
    for line, (name, strips) in zip(grid, rows, strict=True):
        line[0].text(-0.02, 0.5, name, transform=line[0].transAxes, **LABEL)
        for axes, strip in zip(line, strips, strict=False):  # of the original there is but one
            images = None if strip is None else strip.images
            axes.imshow(tiles(BLANK if images is None else images), interpolation="nearest")
    return titled(figure, title)
