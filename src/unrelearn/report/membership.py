"""Scores of two worlds on the page of a run: forgotten against held-out images, by each model, or
replicas with a record against replicas without it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from safetensors.numpy import load_file

from unrelearn.report.drawing import MODEL_STYLE, new_axes, styled, title_and_legend, titled
from unrelearn.report.records import MODELS, ONLY, Record, Row, measured, row_of
from unrelearn.report.words import row_label

BINS = 24
HELD_OUT = "#444444"


class Told(NamedTuple):
    """Scores of one game: of forgotten images (N,) and of held-out ones of their classes (M,), or
    of replicas of both worlds. Black: what it is compared with.
    """

    label: str
    color: str
    forget: np.ndarray
    held_out: np.ndarray


def told(record: Record, outputs: Path) -> tuple[str, list[Told]]:
    """The first score that was measured, by the original, the unlearned, the last attacked and the
    retrained model, as far as their files are on this disk.
    """
    rows = [row for model in MODELS if (row := row_of(record, model)) and row.get("records")]
    known = next((m for row in rows if (m := measured(row, "membership", ONLY))), None)
    if known is None:
        return "", []
    name, models = known["scores"][0], []
    for row in rows:
        color = MODEL_STYLE[row["model"]]["color"]
        models += _scores(outputs, row, "records", name, row_label(record, row), color)
    models += _scores(outputs, rows[0], "retrained", name, "retrain", "black")
    return name, models


def _scores(outputs: Path, row: Row, key: str, name: str, label: str, color: str) -> list[Told]:
    path = outputs / row[key] / "scores.safetensors"
    if not path.is_file():
        return []
    file = load_file(path)
    like = np.isin(file["held_out/labels"], file["forget/labels"])
    return [Told(label, color, file[f"forget/{name}"], file[f"held_out/{name}"][like])]


@styled
def histograms(models: Sequence[Told], xlabel: str, title: str) -> Figure:
    """One above the other on one axis: filled the forgotten images, a line the held-out ones."""
    figure = Figure(figsize=(5.2, 0.6 + 1.05 * len(models)), layout="constrained")
    FigureCanvasAgg(figure)
    every = list(figure.subplots(len(models), 1, sharex=True, squeeze=False).flat)
    values = np.concatenate([part for each in models for part in (each.forget, each.held_out)])
    low, high = np.quantile(values[np.isfinite(values)], (0.005, 0.995))
    bins: np.ndarray = np.linspace(float(low), float(high), BINS + 1)
    for axes, each in zip(every, models, strict=True):
        parts = [np.clip(part, bins[0], bins[-1]) for part in (each.forget, each.held_out)]
        axes.hist(parts[0], bins, density=True, color=each.color, alpha=0.55)
        axes.hist(parts[1], bins, density=True, histtype="step", color=HELD_OUT, linewidth=1.3)
        axes.set(yticks=[])
        axes.text(0.01, 0.92, each.label, transform=axes.transAxes, va="top", fontsize=9)
    every[-1].set_xlabel(xlabel)
    return titled(figure, title, 11)


def roc(forget: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(FPR, TPR) from the highest threshold down."""
    cuts: np.ndarray = np.append(np.inf, np.unique(np.concatenate([forget, held_out]))[::-1])
    above = [len(part) - np.searchsorted(np.sort(part), cuts) for part in (held_out, forget)]
    return np.asarray(above[0] / len(held_out)), np.asarray(above[1] / len(forget))


@styled
def roc_figure(models: Sequence[Told], xlabel: str, ylabel: str, title: str) -> Figure:
    """Both axes logarithmic, from the rate of half an image: below that so few can say nothing."""
    _, axes = new_axes()
    least = 0.5 / max(max(len(each.forget), len(each.held_out)) for each in models)
    for each in models:
        fpr, tpr = roc(each.forget, each.held_out)
        style = ":" if each.color == "black" else "-"
        axes.step(
            np.maximum(fpr, least),
            np.maximum(tpr, least),
            where="post",
            color=each.color,
            linestyle=style,
            label=each.label,
        )
    axes.plot([least, 1], [least, 1], color="#bbbbbb", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda rate, _: f"{100 * rate:g} %")
        axis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return title_and_legend(axes, title, 2)
