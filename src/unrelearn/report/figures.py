"""Figures: recovery curves, methods against attacks, methods as points."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator
from sklearn.isotonic import isotonic_regression

from unrelearn.report.classified import is_classifier, retrained
from unrelearn.report.drawing import (
    LINE_COLORS,
    LINE_MARKERS,
    SIZE,
    Style,
    new_axes,
    styled,
    title_and_legend,
    titled,
)
from unrelearn.report.records import (
    CLASS,
    Record,
    attack_unit,
    guidances,
    interval,
    measured,
    number,
    presence,
    recovery_points,
    row_of,
)
from unrelearn.report.words import guidance_label

# ---- recovery ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A line of a recovery figure: `presence` in [0, 1] over the attack's steps or levels."""

    label: str
    budgets: Sequence[float | None]  # None: the unlearned model, among levels
    middle: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    reference: float | None = None  # the original model's
    style: int | None = None  # colour and marker; by default the place in the figure
    unit: str = "steps"
    words: str = CLASS.words  # what the axis is of
    floor: float | None = None  # that of retrained models before any attack, where they are known


def curves_of(record: Record) -> list[Curve]:
    """One curve per guidance; the band is the Wilson interval over the images of each budget."""
    curves, shown = [], presence(record)
    for guidance in guidances(record):
        points = recovery_points(record, guidance)
        if len(points) > 1:
            original = measured(row_of(record, "original"), shown.name, guidance)
            reference = number(original) if interval(original) else None
            classifier = is_classifier(record)
            wrong = retrained(record)["ua"] if classifier else None
            floor = None if wrong is None else 1 - wrong
            label = record["method"] if classifier else f"guidance {guidance_label(guidance)}"
            budgets = [budget for budget, _ in points]
            unit = attack_unit(record)
            middle, low, high = zip(*(ends for _, ends in points), strict=True)
            ends = reference, None, unit, shown.words, floor
            curves.append(Curve(label, budgets, middle, low, high, *ends))
    return curves


@styled
def recovery_figure(curves: Sequence[Curve], title: str = "") -> Figure:
    """Forget accuracy over the attack's budget, with bands; a dashed line of the same colour is the
    original model.

    Steps are an axis of numbers, levels are evenly spaced in their order. Curves that share one
    reference (several methods, one original model) share one grey dashed line.
    """
    longest = max((len(curve.label) for curve in curves), default=0)
    columns = 3 if longest < 14 else 2 if longest < 32 else 1
    _, axes = new_axes(height=SIZE[1] + 0.19 * (len(curves) // columns))
    unit, budgets = curves[0].unit, _in_order(curves)
    steps = unit == "steps"
    known = [budget for budget in budgets if budget is not None]
    place = dict(zip(budgets, known if steps else range(len(budgets)), strict=True))
    references = {round(c.reference, 6) for c in curves if c.reference is not None}
    for index, curve in enumerate(curves):
        color = _draw_curve(axes, curve, index, place, alpha=0.16 * min(1, 6 / len(curves)))
        if len(references) > 1 and curve.reference is not None:
            axes.axhline(100 * curve.reference, color=color, linestyle=(0, (5, 3)), linewidth=1.1)
    grey: Style = {"color": "#666666", "linestyle": (0, (5, 3)), "linewidth": 1.1}
    if len(references) == 1:
        axes.axhline(100 * references.pop(), **grey)
    if any(curve.reference is not None for curve in curves):
        axes.plot([], [], label="original model", **grey)
    for floor in {curve.floor for curve in curves if curve.floor is not None}:
        axes.axhline(100 * floor, label="retrained models", color="black", linestyle=":")
    if steps:
        budget_axis(axes, known)
    else:
        names = ["unlearned" if budget is None else f"{budget:g}" for budget in budgets]
        axes.set_xticks(range(len(budgets)), names)
        axes.set_xlim(0, len(budgets) - 1)
    label = "attack budget (optimiser steps)" if steps else f"attack level ({unit})"
    axes.set(ylim=(0, 102), ylabel=f"{curves[0].words} (%)", xlabel=label)
    return title_and_legend(axes, title, columns)


def _draw_curve(
    axes: Axes, curve: Curve, index: int, place: Mapping[float | None, float], alpha: float
) -> str:
    """The line with its band, and its colour; many bands lie on one another."""
    style = index if curve.style is None else curve.style
    color = LINE_COLORS[style % len(LINE_COLORS)]
    x = [place[budget] for budget in curve.budgets]
    low, high = (100 * np.clip(np.asarray(e, float), 0, 1) for e in (curve.low, curve.high))
    axes.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0)
    axes.plot(
        x,
        100 * np.asarray(curve.middle),
        ("-", ":", "-.")[style // len(LINE_COLORS) % 3],
        color=color,
        marker=LINE_MARKERS[style % len(LINE_MARKERS)],
        markersize=5,
        linewidth=1.8,
        label=curve.label,
        clip_on=False,
        zorder=3,
    )
    return color


def _in_order(curves: Sequence[Curve]) -> list[float | None]:
    """Every budget, rising, or falling as levels do (8 bits, 4 bits); the unlearned model first."""
    longest = max((curve.budgets for curve in curves), key=len)
    known = [budget for budget in longest if budget is not None]
    budgets = {budget for curve in curves for budget in curve.budgets}
    numbers = {budget for budget in budgets if budget is not None}
    first: list[float | None] = [None] if None in budgets else []
    return [*first, *sorted(numbers, reverse=bool(known[0] > known[-1]))]


def budget_axis(axes: Axes, budgets: list[float]) -> None:
    """A tick for each budget; symmetric log where they are not evenly spread."""
    positive = [budget for budget in budgets if budget > 0]
    last = max(positive, default=1)
    if positive and last / positive[0] > 6:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    axes.set_xlim(0, last)
    place = axes.transScale.transform
    room = 0.07 * (place((last, 1))[0] - place((0, 1))[0])
    ticks: list[float] = []
    for budget in reversed(budgets):  # from the right: the last budget always has its label
        if not ticks or place((ticks[-1], 1))[0] - place((budget, 1))[0] > room:
            ticks.append(budget)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


# ---- methods against attacks ---------------------------------------------------------------------

# black stays readable on all of it
HEAT = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#f8c8a0", "#d55e00"])
CELL = (0.46, 0.25)  # inches
GAP = 0.3  # of a cell, between groups of rows or columns


def heat_colour(share: float) -> str:
    """``#f8c8a0``: of a share in [0, 1] in a table."""
    return to_hex(HEAT(min(max(float(share), 0.0), 1.0)))


@styled
def heat_map(
    values: np.ndarray,  # (rows, columns) in [0, 1], NaN where there is none
    texts: Sequence[Sequence[str]],  # (rows, columns), what is written into the cells
    rows: Sequence[str],
    columns: Sequence[str],
    # how many rows stand together, from above; heading and number of columns that do, from the left
    groups: tuple[Sequence[int], Sequence[tuple[str, int]]],
    title: str,
) -> Figure:
    """A matrix of shares as words, from light (low) to dark (high)."""
    x, y = _places([count for _, count in groups[1]]), _places(groups[0])
    # inches of names; those of columns are tilted
    left, below = 0.07 * max(map(len, rows)), 0.055 * max(map(len, columns))
    width = max(SIZE[0], CELL[0] * (x[-1] + 1) + left)
    figure, axes = new_axes(width, CELL[1] * (y[-1] + 1) + below + 0.8)
    for (i, j), value in np.ndenumerate(values):
        corner = x[j] - 0.5, y[i] - 0.5
        colour = "white" if np.isnan(value) else HEAT(value)
        box = Rectangle(corner, 1, 1, linewidth=0.5, facecolor=colour, edgecolor="#cccccc")
        axes.add_patch(box)
        axes.text(x[j], y[i], texts[i][j], ha="center", va="center", fontsize=8)
    _headings(axes, groups[1], x, letters=16 * (width - left) / (x[-1] + 1))
    axes.set(xlim=(-0.55, x[-1] + 0.55), ylim=(y[-1] + 0.55, -1.0))
    axes.set_xticks(x, columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(y, rows)
    axes.tick_params(length=0, labelsize=9, labelcolor="black")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return titled(figure, title)


def _headings(axes: Axes, groups: Sequence[tuple[str, int]], x: np.ndarray, letters: float) -> None:
    """Above the columns that stand together; so many letters fit above one."""
    start = 0
    for heading, count in groups:
        if heading and count:
            first, last = x[start], x[start + count - 1]
            axes.plot([first - 0.45, last + 0.45], [-0.75, -0.75], color="#444444", linewidth=0.8)
            text = textwrap.fill(heading, max(8, round(letters * (last - first + 1))))
            middle = (first + last) / 2
            style: Style = {"fontsize": 8.5, "linespacing": 1.1}
            axes.text(middle, -0.95, text, ha="center", va="bottom", **style)
        start += count


def _places(counts: Sequence[int]) -> np.ndarray:
    """0, 1, 2, ... with a gap between groups of so many."""
    filled = [count for count in counts if count]
    gaps: np.ndarray = np.repeat(np.arange(len(filled)), filled)
    places: np.ndarray = np.arange(sum(filled)) + GAP * gaps
    return places


# ---- methods as points ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """One method of a scatter; accuracies, or differences of them, in [-1, 1]."""

    label: str
    x: float
    y: float
    style: int
    control: bool = False
    ruined: bool = False
    # of the error bars: (low, high) of x, of y
    ends: tuple[tuple[float, float], tuple[float, float]] | None = None
    # (x, y, ruined) of the same method in other settings
    others: tuple[tuple[float, float, bool], ...] = ()

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """Its own, the ends of its error bars, and those of other settings."""
        ends = zip(*self.ends, strict=True) if self.ends else ()
        return ((self.x, self.y), *ends, *((x, y) for x, y, _ in self.others))

    @property
    def color(self) -> str:
        return "#666666" if self.control else LINE_COLORS[self.style % len(LINE_COLORS)]

    @property
    def marker(self) -> str:
        """Another one per round of colours."""
        place = self.style + self.style // len(LINE_COLORS)
        return "D" if self.control else LINE_MARKERS[place % len(LINE_MARKERS)]


@styled
def scatter_figure(
    marks: Sequence[Mark],
    title: str,
    xlabel: str,
    ylabel: str,
    right: float | None = None,
    region: tuple[float, float] | None = None,
) -> Figure:
    """One point a method; names beside, each with a line. Controls are grey diamonds, ruined
    methods hollow.

    Args:
        right: end of the x axis in per cent, which then begins below the lowest; None: it begins at
            nought, or below.
        region: shaded from below up to this (x, y), what cannot be told from the reference.
    """
    marks = sorted(marks, key=lambda mark: (mark.y, -mark.x))
    height = max(SIZE[1], 0.19 * len(marks) + 1.0)
    figure, axes = new_axes(SIZE[0] + 1.0, height)
    points = [point for mark in marks for point in mark.points]
    places = [100 * x for x, _ in points]
    bottom = min(-1.0, 100 * min(y for _, y in points) - 3)
    left = min(0.0, min(places)) - 3
    if right:
        left = max(0.0, 10 * np.floor((min(places) - 2) / 10))
    axes.set(ylim=(bottom, 102), xlim=(left, right or max(20.0, max(places) + 3)), xlabel=xlabel)
    # as long as the axis at most: a longer one would run into the title
    axes.set_ylabel(textwrap.fill(ylabel, round(10 * (height - 1.1))))
    if region:
        x, y = (100 * end for end in region)
        corner, sizes = (left - 1, bottom), (x - left + 1, y - bottom)
        axes.add_patch(Rectangle(corner, *sizes, facecolor="#e8f1e4", zorder=0))
    # from one name to the next, in per cent of the axis
    shift = 103 * 0.15 / (height - 0.9) * np.arange(len(marks))
    wanted = [100 * mark.y for mark in marks] - shift
    names = shift + isotonic_regression(wanted, y_min=bottom, y_max=100 - shift[-1])
    for mark, name in zip(marks, names, strict=True):
        _draw_mark(axes, mark)
        _draw_name(axes, mark, name)
    return titled(figure, title)


def _draw_mark(axes: Axes, mark: Mark) -> None:
    x, y, color = 100 * mark.x, 100 * mark.y, mark.color
    for other in mark.others:
        ends = [x, 100 * other[0]], [y, 100 * other[1]]
        axes.plot(*ends, color=color, linewidth=0.7, alpha=0.6, zorder=1)
        point: Style = {"marker": "o", "markersize": 3.5, "color": color, "alpha": 0.8}
        point["markerfacecolor"] = "white" if other[2] else color
        axes.plot(100 * other[0], 100 * other[1], clip_on=False, zorder=2, **point)
    if mark.ends:
        sides = []
        for value, (low, high) in zip((mark.x, mark.y), mark.ends, strict=True):
            sides.append([[100 * max(0.0, value - low)], [100 * max(0.0, high - value)]])
        bars: Style = {"color": color, "linewidth": 0.9, "alpha": 0.6}
        axes.errorbar(x, y, xerr=sides[0], yerr=sides[1], zorder=2, **bars)
    filling = "white" if mark.ruined else color
    point = {"marker": mark.marker, "markersize": 7, "color": color, "markerfacecolor": filling}
    axes.plot(x, y, linestyle="", clip_on=False, zorder=3, **point)


def _draw_name(axes: Axes, mark: Mark, height: float) -> None:
    """Right of the axes, with a line to the point."""
    # no colour of its own: it would pass for an interval
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "linestyle": "dotted"}
    line |= {"shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}
    axes.annotate(
        mark.label,
        (100 * mark.x, 100 * mark.y),
        (1.05, height),
        textcoords=axes.get_yaxis_transform(),
        va="center",
        fontsize=8.5,
        color="#444444" if mark.control else "black",
        annotation_clip=False,
        arrowprops=line,
    )
