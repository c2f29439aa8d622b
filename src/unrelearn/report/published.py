"""Records of published tables: the table of models, the verdict, and the page."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from safetensors.numpy import load_file

from unrelearn.report import drawing
from unrelearn.report.records import ONLY, Record, Row, measured, number
from unrelearn.report.render import Cells, Context, caption, data_url
from unrelearn.report.words import DASH, plain

PUBLISHED = "vflgan"  # record["kind"]
PERMUTED = "real: last party permuted"
SHOWN = 12  # stitched records
# measurement, field, header, decimal places
COLUMNS = (
    ("cross_dependence", "", "cross-party\ncorr. error", 3),
    ("intra_dependence", "", "within-party\ncorr. error", 3),
    ("fd_raw", "", "FD\n(raw)", 2),
    ("tstr", "", "TSTR\nacc.", 3),
    ("tstr", "f1", "TSTR\nF1", 3),
    ("nearest_record", "", "nearest\nratio", 2),
    ("sdmetrics", "", "column\nscore", 3),
    ("sdmetrics", "pairs", "pair\nscore", 3),
    ("sdmetrics", "detection", "detection\nscore", 3),
)


def is_published(record: Record) -> bool:
    return record.get("kind") == PUBLISHED


def value_of(row: Row, metric: str, field: str = "") -> Any:
    """{"value", "sd", "values"} over replicas, or None."""
    known = measured(row, metric, ONLY)
    return known.get(field) if known and field else known


def cells(record: Record) -> Cells:
    """Headers and rows; mean ± standard deviation over replicas."""
    rows = record["rows"]
    columns = [c for c in COLUMNS if any(value_of(row, c[0], c[1]) for row in rows)]
    lines = []
    for row in rows:
        texts = [_estimate(value_of(row, metric, field), n) for metric, field, _, n in columns]
        lines.append([_label(row), *texts, *_cost(row)])
    headers = [header for _, _, header, _ in columns]
    last = ["KiB a step\nup, down", "epsilon\nclaimed", "epsilon\na record"]
    return ["model", *headers, *last], lines


def _label(row: Row) -> str:
    label = str(row["model"])
    return label + (f" ({row['diverged']} diverged)" if row.get("diverged") else "")


def _estimate(value: Any, digits: int) -> str:
    mean, spread = number(value), number(value, "sd")
    if mean is None:
        return DASH
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _cost(row: Row) -> list[str]:
    """Bytes that crossed, and what is claimed and what holds."""
    crossed, account = row.get("bytes"), row.get("privacy")
    sent = DASH
    if crossed:
        sent = f"{crossed['up'] / 1024:.1f}, {crossed['down'] / 1024:.1f}"
    if not account:
        return [sent, DASH, DASH]
    claimed = plain(number(account.get("epsilon_claimed")), digits=2)
    record = number(account.get("epsilon_record"))
    return [sent, claimed, "no guarantee" if record is None else f"{record:.2f}"]


def table_caption(record: Record) -> str:
    return caption(
        "published",
        replicas=record["replicas"],
        statistics=record["statistics"],
        select=record["select"],
        reasons=reasons(record),
    )


def reasons(record: Record) -> list[str]:
    """Of each line with a mode of privacy: what was noised, and why nothing is guaranteed."""
    found = []
    for row in record["rows"]:
        account = row.get("privacy") or {}
        if account.get("mechanism", "none") == "none":
            continue
        delta, said = account.get("delta"), account.get("no_guarantee")
        words = f"{row['model']}: {account['mechanism']}, {account['sampling']},"
        words += f" {account['adjacency']}" + ("" if delta is None else f", delta {delta:g}")
        found.append(words + (f"; no guarantee: {said}" if said else ""))
    return found


def verdict(record: Record) -> str:
    """Cross-party dependence of the first federated design, between its floor and no dependence."""
    errors = {
        row["model"]: value
        for row in record["rows"]
        if (value := number(value_of(row, "cross_dependence"))) is not None
    }
    floor, level = errors.get("real: drawn again"), errors.get(PERMUTED)
    if floor is None or level is None:
        return "The error of correlations between parties was not measured."
    words = f"Correlations between parties: error {floor:.3f} of real rows drawn again,"
    words += f" {level:.3f} where the last party's rows are permuted"
    trained = {name: value for name, value in errors.items() if not name.startswith("real")}
    listed = ", ".join(f"{name} {value:.3f}" for name, value in trained.items())
    below = [name for name, value in trained.items() if value < level]
    tail = f" Below the permuted rows: {', '.join(below) or 'none'}."
    return f"{words}; {listed}.{tail}"


# ---- the page ------------------------------------------------------------------------------------


def context(record: Record, outputs: Path) -> Context:
    """What templates/published.html shows besides what it shares with others."""
    found = {row["model"]: _rows(row, outputs) for row in record["rows"]}
    tables = {label: rows for label, rows in found.items() if rows is not None}
    return {
        "strips": strips(record, tables),
        "dependence": _drawn(dependence(record, tables)),
        "reasons": reasons(record),
        "bargain": _drawn(bargain(record)),
    }


def _drawn(figure: Figure | None) -> Context | None:
    if figure is None:
        return None
    return {"image": data_url(drawing.svg(figure), "svg+xml"), "title": "", "note": ""}


def _rows(row: Row, outputs: Path) -> np.ndarray | None:
    """(R, N, columns), if they are on this disk."""
    file = Path(outputs) / str(row.get("tables")) / "tables.safetensors"
    if not file.exists():
        return None
    rows: np.ndarray = load_file(file)["tables"]
    return rows


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
    """Cross-party error against epsilon; hollow where there is no guarantee."""
    points = []
    for row in record["rows"]:
        account, error = row.get("privacy") or {}, number(value_of(row, "cross_dependence"))
        claimed = [number(account.get(f"epsilon_{kind}")) for kind in ("record", "claimed")]
        known = [epsilon for epsilon in claimed if epsilon is not None]
        if known and error is not None:
            points.append((known[0], error, row["model"], claimed[0] is not None))
    if not points:
        return None
    _, axes = drawing.new_axes()
    for (epsilon, error, label, holds), color in zip(points, _colors(len(points)), strict=True):
        face = color if holds else "white"
        axes.plot([epsilon], [error], "o", color=color, markerfacecolor=face, label=label)
    axes.set_xlabel("epsilon (hollow: claimed, no guarantee)")
    axes.set_ylabel("cross-party correlation error")
    axes.set_ylim(bottom=0)
    return drawing.title_and_legend(axes, "What a guarantee costs", columns=2)


def _colors(count: int) -> Sequence[str]:
    return [drawing.LINE_COLORS[place % len(drawing.LINE_COLORS)] for place in range(count)]
