"""Figures: recovery curves, methods against attacks, sample grids, replacement classes, retain
accuracy per class.

Every function draws on its own ``Figure`` (no pyplot, no global state) and returns it; ``svg`` and
``save`` write one. Colours are Okabe and Ito's, which colour-blind readers can tell apart; markers
and hatches repeat the distinction for black-and-white print.
"""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator
from PIL import Image
from safetensors.numpy import load_file
from sklearn.isotonic import isotonic_regression

from unrelearn.report import (
    attack_unit,
    class_name,
    fonts,
    forgotten,
    guidance_label,
    guidances,
    interval,
    measured,
    row_label,
    row_of,
    takes_steps,
)

MODELS = ("original", "unlearned", "attacked")
MODEL_STYLE = {  # grey is the reference; the two models under test get the two most distant colours
    "original": {"color": "#8c8c8c", "marker": "o", "hatch": ""},
    "unlearned": {"color": "#0072B2", "marker": "s", "hatch": ""},
    "attacked": {"color": "#D55E00", "marker": "^", "hatch": "////"},
}
LINE_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_MARKERS = ("o", "s", "^", "p", "v", "P", "X")  # the diamond is the controls'
CONTROL_MARKER = "D"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "hatch.color": "white",
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "unrelearn",  # the same record gives the same file
    "text.parse_math": False,  # a class may be called $5, which is no formula
}
SIZE = (5.2, 3.4)  # inches: small, so that the type stays readable when a phone shrinks the figure
MAX_CLASSES = 16  # beyond this many the class axis shows the ones that matter


@dataclass(frozen=True)
class Curve:
    """One line of a recovery figure: forget accuracy in [0, 1] over the attack's budget in
    optimiser steps, or its level.
    """

    label: str
    budgets: Sequence[float | None]  # None: the unlearned model, among levels
    middle: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    reference: float | None = None  # the original model's forget accuracy
    style: int | None = None  # colour and marker; by default the place in the figure
    unit: str = "steps"


styled = matplotlib.rc_context(STYLE)  # as a decorator: entered anew at every call


@styled
def svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()

    def write() -> None:
        buffer.truncate(buffer.seek(0))
        figure.savefig(buffer, format="svg", metadata={"Date": None})

    fonts.draw(figure, write)
    return buffer.getvalue()


@styled
def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the path's suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fonts.draw(figure, lambda: figure.savefig(path, dpi=200, bbox_inches="tight", pad_inches=0.03))


# ---- recovery
# --------------------------------------------------------------------------------------------------


def curves_of(record: dict) -> list[Curve]:
    """One curve per guidance; the band is the Wilson interval over the images of each budget."""
    curves = []
    for guidance in guidances(record):
        points = recovery_points(record, guidance)
        if len(points) < 2:
            continue
        budgets, values = zip(*points, strict=True)
        middle, low, high = zip(*map(interval, values), strict=True)
        reference = interval(measured(row_of(record, "original"), "forget_accuracy", guidance))
        label = f"guidance {guidance_label(guidance)}"
        curves.append(
            Curve(
                label,
                budgets,
                middle,
                low,
                high,
                reference and reference[0],
                unit=attack_unit(record),
            )
        )
    return curves


def recovery_points(record: dict, guidance: str) -> list[tuple[float | None, dict]]:
    """(budget, forget accuracy with its interval) from the unlearned model, budget 0, through the
    attacked ones.

    Levels (8 bits, 4 bits) stay in the order of the rows; there the unlearned model is at None, as
    0 may be a level.
    """
    start, points = 0 if takes_steps(record) else None, []
    for row in record["rows"]:
        value = measured(row, "forget_accuracy", guidance)
        if row["model"] != "original" and interval(value) is not None:
            points.append((start if row["model"] == "unlearned" else row["step"], value))
    return points


@styled
def recovery_figure(curves: Sequence[Curve], title: str = "") -> Figure:
    """Forget accuracy over the attack's budget, with bands; a dashed line of the same colour is the
    original model.

    Steps are an axis of numbers, levels are evenly spaced in their order. Curves that share one
    reference (several methods, one original model) share one grey dashed line.
    """
    longest = max((len(curve.label) for curve in curves), default=0)
    columns = 3 if longest < 14 else 2 if longest < 32 else 1
    figure, axes = _axes(extra_lines=(len(curves) // columns))
    references = {round(c.reference, 6) for c in curves if c.reference is not None}
    unit, budgets = curves[0].unit, _in_order(curves)
    place = {budget: budget if unit == "steps" else index for index, budget in enumerate(budgets)}
    alpha = 0.16 * min(1, 6 / len(curves))  # many bands lie on one another
    for index, curve in enumerate(curves):
        style = index if curve.style is None else curve.style
        color, marker = (
            LINE_COLORS[style % len(LINE_COLORS)],
            LINE_MARKERS[style % len(LINE_MARKERS)],
        )
        line = ("-", ":", "-.")[style // len(LINE_COLORS) % 3]
        x = [place[budget] for budget in curve.budgets]
        if curve.low is not None:
            low, high = np.clip(curve.low, 0, 1), np.clip(curve.high, 0, 1)
            axes.fill_between(x, 100 * low, 100 * high, color=color, alpha=alpha, linewidth=0)
        axes.plot(
            x,
            100 * np.asarray(curve.middle),
            line,
            color=color,
            marker=marker,
            markersize=5,
            linewidth=1.8,
            label=curve.label,
            clip_on=False,
            zorder=3,
        )
        if len(references) > 1 and curve.reference is not None:
            axes.axhline(100 * curve.reference, color=color, linestyle=(0, (5, 3)), linewidth=1.1)
    if len(references) == 1:
        axes.axhline(100 * references.pop(), color="#666666", linestyle=(0, (5, 3)), linewidth=1.1)
    if any(c.reference is not None for c in curves):
        axes.plot(
            [], [], color="#666666", linestyle=(0, (5, 3)), linewidth=1.1, label="original model"
        )
    if unit == "steps":
        _budget_axis(axes, budgets)
    else:
        axes.set_xticks(
            range(len(budgets)),
            ["unlearned" if budget is None else f"{budget:g}" for budget in budgets],
        )
        axes.set_xlim(0, len(budgets) - 1)
    axes.set(
        ylim=(0, 102),
        ylabel="forget accuracy (%)",
        xlabel="attack budget (optimiser steps)" if unit == "steps" else f"attack level ({unit})",
    )
    _title_and_legend(axes, title, columns)
    return figure


def _in_order(curves: Sequence[Curve]) -> list[float | None]:
    """Every budget of the curves, rising, or falling as they do (8 bits, 4 bits); the unlearned
    model first.
    """
    longest = [
        budget
        for budget in max(curves, key=lambda curve: len(curve.budgets)).budgets
        if budget is not None
    ]
    budgets = {budget for curve in curves for budget in curve.budgets}
    return [None] * (None in budgets) + sorted(budgets - {None}, reverse=longest[0] > longest[-1])


def _budget_axis(axes, budgets: list[int]) -> None:
    """Show every budget as a tick: a plain axis where they are evenly spread, symmetric log where
    they are not.
    """
    positive = [b for b in budgets if b > 0]
    last = max(positive, default=1)
    if positive and last / positive[0] > 6:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    axes.set_xlim(0, last)
    place = axes.transScale.transform
    ticks: list[int] = []
    for budget in reversed(budgets):  # from the right: the last budget always has its label
        gap = place((ticks[-1], 1))[0] - place((budget, 1))[0] if ticks else 1
        if not ticks or gap > 0.07 * (place((last, 1))[0] - place((0, 1))[0]):
            ticks.append(budget)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


# ---- methods against attacks
# ----------------------------------------------------------------------------------------

HEAT = LinearSegmentedColormap.from_list(
    "heat", ["#ffffff", "#f8c8a0", "#d55e00"]
)  # black stays readable on all of it
CELL = (0.46, 0.25)  # inches
GAP = 0.3  # of a cell, between groups of rows or columns


def heat_colour(share: float) -> str:
    """``#f8c8a0``: of a share in [0, 1] in a table."""
    return to_hex(HEAT(min(max(float(share), 0.0), 1.0)))


@styled
def heat_map(
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    row_groups: Sequence[int],
    column_groups: Sequence[tuple[str, int]],
    title: str,
) -> Figure:
    """A matrix of shares as words, from light (low) to dark (high).

    Args:
        values: (rows, columns) in [0, 1], NaN where there is none.
        texts: (rows, columns), what is written into the cells.
        row_groups: how many rows stand together, from above.
        column_groups: heading and number of the columns that stand together, from the left.
    """
    x, y = _places([count for _, count in column_groups]), _places(row_groups)
    names = (
        0.07 * max(map(len, rows)),
        0.055 * max(map(len, columns)),
    )  # inches; the column names are tilted
    width, height = CELL[0] * (x[-1] + 1) + names[0], CELL[1] * (y[-1] + 1) + names[1] + 0.8
    width = max(SIZE[0], width)
    letters = 16 * (width - names[0]) / (x[-1] + 1)  # of a heading that fit above one column
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (i, j), value in np.ndenumerate(values):
        known = not np.isnan(value)
        axes.add_patch(
            Rectangle(
                (x[j] - 0.5, y[i] - 0.5),
                1,
                1,
                facecolor=HEAT(value) if known else "white",
                edgecolor="#cccccc",
                linewidth=0.5,
            )
        )
        axes.text(x[j], y[i], texts[i][j], ha="center", va="center", fontsize=8)
    start = 0
    for heading, count in column_groups:
        if heading and count:
            first, last = x[start], x[start + count - 1]
            axes.plot([first - 0.45, last + 0.45], [-0.75, -0.75], color="#444444", linewidth=0.8)
            wrapped = textwrap.fill(heading, max(8, round(letters * (last - first + 1))))
            axes.text(
                (first + last) / 2,
                -0.95,
                wrapped,
                ha="center",
                va="bottom",
                fontsize=8.5,
                linespacing=1.1,
            )
        start += count
    axes.set(xlim=(-0.55, x[-1] + 0.55), ylim=(y[-1] + 0.55, -1.0))
    axes.set_xticks(x, columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(y, rows)
    axes.tick_params(length=0, labelsize=9, labelcolor="black")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def _places(counts: Sequence[int]) -> np.ndarray:
    """0, 1, 2, ... with a gap between groups of so many."""
    filled = [count for count in counts if count]
    return np.arange(sum(filled)) + GAP * np.repeat(np.arange(len(filled)), filled)


@dataclass(frozen=True)
class Mark:
    """One method of a scatter; accuracies, or differences of them, in [-1, 1]."""

    label: str
    x: float
    y: float
    style: int
    control: bool = False
    ruined: bool = False
    ends: tuple[tuple[float, float], tuple[float, float]] | None = (
        None  # of the error bars: (low, high) of x, of y
    )
    others: tuple[tuple[float, float], ...] = ()  # the same method in other settings


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

    Args: right: end of the x axis in per cent, which then begins below the lowest; None: it begins
        at nought, or below. region: shaded from below up to this (x, y), what cannot be told from
        the reference.
    """
    marks = sorted(marks, key=lambda mark: (mark.y, -mark.x))
    height = max(SIZE[1], 0.19 * len(marks) + 1.0)
    figure = Figure(figsize=(SIZE[0] + 1.0, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lowest, highest = (
        100 * end([value for mark in marks for value in (mark.x, *(x for x, _ in mark.others))])
        for end in (min, max)
    )
    bottom = min(-1.0, 100 * min(mark.y for mark in marks) - 3)
    left = max(0.0, 10 * np.floor((lowest - 2) / 10)) if right else min(0.0, lowest) - 3
    axes.set(
        ylim=(bottom, 102),
        xlim=(left, right or max(20.0, highest + 3)),
        xlabel=xlabel,
        ylabel=ylabel,
    )
    if region:
        x, y = (100 * end for end in region)
        axes.add_patch(
            Rectangle((left - 1, bottom), x - left + 1, y - bottom, facecolor="#e8f1e4", zorder=0)
        )
    shift = (
        103 * 0.15 / (height - 0.9) * np.arange(len(marks))
    )  # from one name to the next, in per cent of the axis
    names = shift + isotonic_regression(
        [100 * mark.y for mark in marks] - shift, y_min=bottom, y_max=100 - shift[-1]
    )
    for mark, name in zip(marks, names, strict=True):
        _mark(axes, mark, name)
    figure.suptitle(title, x=0.02, ha="left", fontsize=10, fontweight="bold")
    return figure


def _mark(axes, mark: Mark, name: float) -> None:
    """The point, what belongs to it, and its name at this height."""
    color = "#666666" if mark.control else LINE_COLORS[mark.style % len(LINE_COLORS)]
    marker = LINE_MARKERS[
        (mark.style + mark.style // len(LINE_COLORS)) % len(LINE_MARKERS)
    ]  # another one per round
    x, y = 100 * mark.x, 100 * mark.y
    for other in mark.others:
        axes.plot(
            [x, 100 * other[0]],
            [y, 100 * other[1]],
            color=color,
            linewidth=0.7,
            alpha=0.6,
            zorder=1,
        )
        axes.plot(
            100 * other[0],
            100 * other[1],
            marker="o",
            markersize=3.5,
            color=color,
            alpha=0.8,
            clip_on=False,
            zorder=2,
        )
    if mark.ends:
        sides = [
            [[100 * max(0.0, value - low)], [100 * max(0.0, high - value)]]
            for value, (low, high) in zip((mark.x, mark.y), mark.ends, strict=True)
        ]
        axes.errorbar(
            x, y, xerr=sides[0], yerr=sides[1], color=color, linewidth=0.9, alpha=0.6, zorder=2
        )
    axes.plot(
        x,
        y,
        linestyle="",
        marker=CONTROL_MARKER if mark.control else marker,
        markersize=7,
        color=color,
        markerfacecolor="white" if mark.ruined else color,
        clip_on=False,
        zorder=3,
    )
    axes.annotate(
        mark.label,
        (x, y),
        (1.05, name),
        textcoords=axes.get_yaxis_transform(),
        va="center",
        fontsize=8.5,
        color="#444444" if mark.control else "black",
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-",
            "color": color,
            "linewidth": 0.7,
            "alpha": 0.7,
            "shrinkA": 1,
            "shrinkB": 4,
            "relpos": (0, 0.5),
        },
    )


# ---- samples
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strip:
    """One row of a sample grid. `images` is (K, H, W, C) uint8, or None with the reason in
    `missing`.
    """

    label: str
    images: np.ndarray | None
    names: tuple[str, ...] = ()  # the class each column was generated under
    missing: str = ""


def load_samples(path: Path) -> dict[str, np.ndarray]:
    """Tensors of one ``samples.safetensors``: ``forget/1.0`` uint8 (N, C, H, W),
    ``forget/1.0/labels`` int64 (N,).
    """
    return load_file(path)


def sample_strips(
    record: dict, outputs: Path, part: str, guidance: str, columns: int = 12
) -> list[Strip]:
    """Original, unlearned and attacked at the last budget or level it survived, from the same noise
    column by column.

    Args:
        part: ``forget`` or ``retain``.
    """
    strips = [
        _strip(record, row, outputs, f"{part}/{guidance}", columns) for row in _sampled_rows(record)
    ]
    return strips if any(strip.images is not None for strip in strips) else []


def _sampled_rows(record: dict) -> list[dict]:
    attacked = [row for row in record["rows"] if row["model"] == "attacked"]
    survived = [row for row in attacked if row.get("status") != "diverged"]
    return [row for row in record["rows"] if row["model"] != "attacked"] + (survived or attacked)[
        -1:
    ]


def sample_files(record: dict, outputs: Path) -> list[Path]:
    """Of the rows that a sample grid shows; they may be absent."""
    return [
        Path(outputs) / row["samples"] / "samples.safetensors"
        for row in _sampled_rows(record)
        if row.get("samples")
    ]


def _strip(record: dict, row: dict, outputs: Path, key: str, columns: int) -> Strip:
    label = row_label(record, row)
    if not row.get("samples"):
        return Strip(
            label, None, missing="diverged" if row.get("status") == "diverged" else "no samples"
        )
    path = Path(outputs) / row["samples"] / "samples.safetensors"
    if not path.is_file():
        return Strip(label, None, missing="the sample file is not on this disk")
    samples = load_samples(path)
    if key not in samples:
        return Strip(label, None, missing="not sampled")
    images, labels = samples[key], samples[f"{key}/labels"]
    chosen = _spread(labels, columns)
    names = tuple(class_name(record, int(label)) for label in labels[chosen])
    return Strip(label, images[chosen].transpose(0, 2, 3, 1), names)


def _spread(labels: np.ndarray, columns: int) -> np.ndarray:
    """Indices of the first images: the first of every class, then the second of every class, ...,
    sorted by class.
    """
    rank = np.zeros(
        len(labels), dtype=int
    )  # how many images of the same class come before this one
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    chosen = np.lexsort((labels, rank))[:columns]
    return chosen[np.lexsort((chosen, labels[chosen]))]


def tiles(images: np.ndarray, size: int = 64, gap: int = 4) -> np.ndarray:
    """Images (K, H, W, C) side by side on white, each pixel enlarged to a square: (H', W', 3)
    uint8.
    """
    scale = max(1, size // images.shape[1])
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    if enlarged.shape[-1] == 1:
        enlarged = enlarged.repeat(3, axis=-1)
    padded = np.pad(enlarged, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(padded), axis=1)[:, :-gap]


def strip_png(strip: Strip) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(tiles(strip.images)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


# ---- bars
# --------------------------------------------------------------------------------------------------


@styled
def replacement_figure(record: dict, guidance: str) -> Figure | None:
    """What the oracle sees in images generated under c_f: share of each class, for the three
    models.
    """
    counts = {model: measured(row_of(record, model), "replacement", guidance) for model in MODELS}
    shares = {model: np.asarray(c, float) / max(sum(c), 1) for model, c in counts.items() if c}
    if not shares:
        return None
    total = np.max(list(shares.values()), axis=0)
    known = len(record.get("class_names") or total)
    nothing = [known] if len(total) > known else []  # the last is no class; older records lack it
    shown = _most(total, [*record["forget_classes"], *nothing])
    names = ["nothing" if index in nothing else class_name(record, index) for index in shown]
    if len(shown) < len(total):  # many classes: the rest in one bar
        rest = np.setdiff1d(np.arange(len(total)), shown)
        shares = {
            model: np.append(share[shown], share[rest].sum()) for model, share in shares.items()
        }
        names.append("other")
    figure, axes = _axes()
    width, position = 0.8 / len(shares), np.arange(len(names))
    for index, (model, share) in enumerate(shares.items()):
        style = MODEL_STYLE[model]
        axes.bar(
            position + (index - (len(shares) - 1) / 2) * width,
            100 * share,
            width,
            color=style["color"],
            hatch=style["hatch"],
            edgecolor="white",
            linewidth=0.5,
            label=_label(record, model),
        )
    axes.set(ylim=(0, 102), ylabel="share of images (%)", xlabel="class seen by the oracle")
    _class_axis(axes, names, [class_name(record, index) for index in record["forget_classes"]])
    _title_and_legend(
        axes, f"What {forgotten(record)} is replaced by (guidance {guidance_label(guidance)})"
    )
    return figure


@styled
def retain_figure(record: dict, guidance: str) -> Figure | None:
    """Accuracy on each retained class, for the three models; points, because the axis need not
    start at 0.
    """
    found = {
        m: (measured(row_of(record, m), "retain_accuracy", guidance) or {}).get("per_class")
        for m in MODELS
    }
    values = {
        m: np.array([np.nan if v is None else v for v in per_class], float)
        for m, per_class in found.items()
        if per_class
    }
    if not values:
        return None
    stack = np.array(list(values.values()))
    retained = np.flatnonzero(~np.isnan(stack).all(axis=0))
    if not len(retained):
        return None
    shown = retained
    if len(retained) > MAX_CLASSES:  # many classes: the worst ones
        shown = np.sort(
            retained[np.argsort(np.nanmin(stack[:, retained], axis=0), kind="stable")[:MAX_CLASSES]]
        )
    figure, axes = _axes()
    for index, (model, value) in enumerate(values.items()):
        style = MODEL_STYLE[model]
        offset = (index - (len(values) - 1) / 2) * 0.22
        axes.plot(
            np.arange(len(shown)) + offset,
            100 * value[shown],
            linestyle="",
            marker=style["marker"],
            markersize=6.5,
            color=style["color"],
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=_label(record, model),
            clip_on=False,
            zorder=3,
        )
    lowest = 100 * np.nanmin(stack[:, shown])
    bottom = max(0.0, 10 * np.floor((lowest - 2) / 10))
    axes.set(
        ylim=(bottom, 100 + 0.02 * (100 - bottom)),
        xlabel="retained class",
        ylabel="retain accuracy (%)",
    )
    _class_axis(axes, [class_name(record, index) for index in shown], [])
    which = (
        "Retained classes"
        if len(shown) == len(retained)
        else f"The {MAX_CLASSES} worst retained classes"
    )
    _title_and_legend(axes, f"{which} (guidance {guidance_label(guidance)})")
    return figure


def _most(total: np.ndarray, always: list[int]) -> np.ndarray:
    """The classes to show: all, or the largest ones together with those that must be there; in
    class order.
    """
    if len(total) <= MAX_CLASSES:
        return np.arange(len(total))
    rank = total.astype(float).copy()
    rank[always] = np.inf
    return np.sort(np.argsort(-rank, kind="stable")[:MAX_CLASSES])


def _label(record: dict, model: str) -> str:
    return row_label(record, row_of(record, model))


def _axes(extra_lines: int = 0):
    """Axes of one size; a legend of more than one line makes the figure taller, not the plot
    smaller.
    """
    figure = Figure(figsize=(SIZE[0], SIZE[1] + 0.19 * extra_lines), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _class_axis(axes, names: list[str], marked: list[str]) -> None:
    """Class names below the axis, tilted when they are words; the forgotten ones in bold."""
    tilt = (
        {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        if max(map(len, names), default=0) > 3
        else {}
    )
    axes.set_xticks(range(len(names)), names, **tilt)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(names) - 0.4)
    for label in axes.get_xticklabels():
        if label.get_text() in marked:
            label.set_fontweight("bold")


def _title_and_legend(axes, title: str, columns: int = 3) -> None:
    """Both above the axes, where they hide no data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=1.8,
        columnspacing=1.2,
        handletextpad=0.5,
    )
    if title:
        axes.figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold")
