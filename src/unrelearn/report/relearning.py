"""Relearning curves of many classifiers: a small panel for each method, all with retrain's band."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unrelearn.report.drawing import LINE_COLORS, styled, titled
from unrelearn.report.figures import Curve, budget_axis

COLUMNS = 4


@styled
def relearning_figure(curves: Sequence[Curve], retrain: Curve, title: str = "") -> Figure:
    """One panel a curve, the lowest at the end first: the method (orange) with its band,
    `retrain` (black) with its band in grey, and the untouched original model (dashed).
    """
    ordered = sorted(curves, key=lambda curve: curve.middle[-1])
    rows = -(-len(ordered) // COLUMNS)
    figure = Figure(figsize=(7.2, 0.7 + 1.25 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for axes, curve in zip(panels, ordered, strict=False):
        _draw(axes, retrain, "black", "#bbbbbb")
        _draw(axes, curve, LINE_COLORS[0], LINE_COLORS[0])
        if curve.reference is not None:
            axes.axhline(100 * curve.reference, color="#666666", linestyle=(0, (5, 3)), lw=0.9)
        axes.set_title(curve.label, fontsize=8, loc="left", pad=2)
        axes.tick_params(labelsize=7)
    for axes in panels[len(ordered) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(ordered) - COLUMNS) : len(ordered)]:
        axes.tick_params(labelbottom=True)  # below a last row that is not full, too
    budget_axis(panels[0], [budget for budget in retrain.budgets if budget is not None])
    panels[0].set_ylim(top=102)
    figure.supylabel("forget accuracy (%)", fontsize=8)
    key = "orange: the method, black: retrain, dashed: the original model"
    figure.supxlabel(f"attack budget (optimiser steps); {key}", fontsize=8)
    return titled(figure, title, 10)


def _draw(axes: Axes, curve: Curve, color: str, band: str) -> None:
    low, high, middle = (
        100 * np.clip(np.asarray(line, float), 0, 1)
        for line in (curve.low, curve.high, curve.middle)
    )
    x = np.asarray(curve.budgets, float)
    axes.fill_between(x, low, high, color=band, alpha=0.35, linewidth=0)
    axes.plot(x, middle, color=color, linewidth=1.5)
