"""Pictures of published tables: records of halves put together, dependence, privacy, audits."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from safetensors.numpy import load_file

from unrelearn.report import drawing, worlds
from unrelearn.report.membership import Told, histograms, roc_figure
from unrelearn.report.published import AGAIN, PERMUTED, reasons, value_of
from unrelearn.report.records import Record, Row, number
from unrelearn.report.render import Context, data_url

SHOWN = 12  # stitched records
TABLES = "tables.safetensors"


def context(record: Record, outputs: Path) -> Context:
    """What templates/published.html shows besides what it shares with others."""
    tables = _tables(record, outputs)
    return {
        "strips": strips(record, tables),
        "dependence": _drawn(dependence(record, tables)),
        "reasons": reasons(record),
        "bargain": _drawn(bargain(record)),
        "audits": worlds.cells(record) if worlds.audits(record) else None,
        "audited": worlds.table_caption(record) if worlds.audits(record) else "",
        "worlds": [_drawn(figure, title) for title, figure in audited(record, outputs)],
    }


def figures(record: Record, outputs: Path) -> dict[str, Figure]:
    """The same as files, by name."""
    drawn = {"dependence": dependence(record, _tables(record, outputs)), "privacy": bargain(record)}
    for place, (_, figure) in enumerate(audited(record, outputs), start=1):
        drawn[f"worlds-{place}"] = figure
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _drawn(figure: Figure | None, title: str = "") -> Context | None:
    if figure is None:
        return None
    return {"image": data_url(drawing.svg(figure), "svg+xml"), "title": title, "note": ""}


def _tables(record: Record, outputs: Path) -> dict[str, np.ndarray]:
    """(R, N, columns) of each row, if they are on this disk."""
    files = {r["model"]: outputs / str(r.get("tables")) / TABLES for r in record["rows"]}
    return {label: load_file(file)["tables"] for label, file in files.items() if file.exists()}


def strips(record: Record, tables: dict[str, np.ndarray]) -> list[Context]:
    """The first records of the first replica as images, halves put together."""
    size = record.get("image_size")
    if not size:
        return []
    drawn = []
    for label, rows in tables.items():
        images = rows[0, :SHOWN].reshape(-1, size, size)
        strip = np.concatenate([np.pad(image, 1) for image in images], axis=1)
        pixels = np.nan_to_num(strip).round().clip(0, 255).astype(np.uint8)
        buffer, zoom = io.BytesIO(), max(1, 48 // size)
        image = Image.fromarray(pixels).resize([side * zoom for side in pixels.shape[::-1]], 0)
        image.save(buffer, "png")
        alt = f"{len(images)} records of {label}"
        drawn.append({"label": label, "image": data_url(buffer.getvalue(), "png"), "alt": alt})
    return drawn


def _correlations(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(0)
    norms = np.sqrt((centred**2).sum(0))
    scaled = centred / np.where(norms > 1e-9, norms, np.inf)
    matrix: np.ndarray = scaled.T @ scaled
    return matrix


@drawing.styled
def dependence(record: Record, tables: dict[str, np.ndarray]) -> Figure | None:
    """Correlations of columns, party by party: real rows, and each model's first replica."""
    left_out = ("real: half against half",)
    shown = {label: rows for label, rows in tables.items() if label not in left_out}
    if not shown:
        return None
    order = [column for part in record["parties"] for column in part]
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(1.9 * across, 2.0 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for place, (label, rows) in zip(axes, shown.items(), strict=False):
        matrix = _correlations(rows[0][:, order].astype(float))
        place.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        for edge in np.cumsum([len(part) for part in record["parties"]])[:-1] - 0.5:
            place.axhline(edge, color="black", linewidth=0.8)
            place.axvline(edge, color="black", linewidth=0.8)
        place.set_title(label, fontsize=8)
    for place in axes:
        place.set_axis_off()
    return figure


@drawing.styled
def bargain(record: Record) -> Figure | None:
    """Cross-party error against epsilon, ± its deviation over replicas; hollow where there is no
    guarantee. Lines: the same design without privacy, and rows that show no or all dependence.
    """
    errors = {row["model"]: value_of(row, "cross_dependence") for row in record["rows"]}
    points = []
    for row in record["rows"]:
        account, error = row.get("privacy") or {}, number(errors[row["model"]])
        claimed = [number(account.get(f"epsilon_{kind}")) for kind in ("record", "claimed")]
        known = [epsilon for epsilon in claimed if epsilon is not None]
        if known and error is not None:
            points.append((known[0], error, row["model"], claimed[0] is not None))
    if not points:
        return None
    _, axes = drawing.new_axes()
    for label in (points[0][2].partition(",")[0], PERMUTED, AGAIN):
        level = number(errors.get(label))
        if level is not None:
            axes.axhline(level, color="0.5", linewidth=0.8, linestyle=":")
            place, at = (0.5, level), ("axes fraction", "data")
            axes.annotate(label, place, xycoords=at, ha="center", va="bottom", size=8, color="0.4")
    for (epsilon, error, label, holds), color in zip(points, _colors(len(points)), strict=True):
        face, spread = color if holds else "white", number(errors[label], "sd")
        axes.errorbar(
            [epsilon], [error], spread, fmt="o", color=color, markerfacecolor=face, label=label
        )
    axes.set_xlabel("epsilon (hollow: claimed, no guarantee)")
    axes.set_ylabel("cross-party correlation error")
    axes.set_ylim(bottom=0)
    return drawing.title_and_legend(axes, "What a guarantee costs", columns=2)


def _colors(count: int) -> Sequence[str]:
    return [drawing.LINE_COLORS[place % len(drawing.LINE_COLORS)] for place in range(count)]


def audited(record: Record, outputs: Path) -> list[tuple[str, Figure]]:
    """Titles and pictures, of each model whose scores are on this disk."""
    drawn = []
    for audit in worlds.audits(record):
        attack, games = told(audit, outputs)
        if games:
            title = f"{audit['model']}: worlds by {attack}"
            xlabel = f"{attack}, higher: rather in (filled: with the record; line: without it)"
            rates = "replicas without the record, above the threshold", "with it, above it"
            drawn.append((title, histograms(games, xlabel, title)))
            drawn.append((title, roc_figure(games, *rates, title)))
    return drawn


def told(audit: Row, outputs: Path) -> tuple[str, list[Told]]:
    """Scores of all games of a model by the attack that has the largest AUC in the first."""
    file = outputs / "artifacts" / audit["audit"] / "scores.safetensors"
    verdicts = audit["verdicts"]
    first = [one for one in verdicts if one["target"] == verdicts[0]["target"]]
    attack = max(first, key=lambda one: number(one, "auc") or 0.0)["attack"]
    played = [one for one in verdicts if one["attack"] == attack and number(one, "auc") is not None]
    if not file.is_file() or not played:
        return attack, []
    scores, games = load_file(file), []
    for one, color in zip(played, _colors(len(played)), strict=True):
        parts = (scores[f"{one['target']}/{attack}/{part}"] for part in ("in", "out"))
        shade = "black" if one["target"] == worlds.NULL else color
        games.append(Told(worlds.name_of(one), shade, *parts))
    return attack, games
