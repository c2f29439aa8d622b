"""Figures of one record: sample grids, replacement classes, retain accuracy per class."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from safetensors.numpy import load_file

from unrelearn.report.drawing import MODEL_STYLE, Style, new_axes, styled, title_and_legend
from unrelearn.report.records import MODELS, Record, Row, measured, row_of, rows_of
from unrelearn.report.words import class_name, forgotten, guidance_label, row_label

MAX_CLASSES = 16  # beyond this many the class axis shows the ones that matter

# ---- samples -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strip:
    """One row of a sample grid: (K, H, W, C) uint8, or None with the reason in `missing`."""

    label: str
    images: np.ndarray | None
    names: tuple[str, ...] = ()  # the class each column was generated under
    missing: str = ""


def load_samples(path: Path) -> dict[str, np.ndarray]:
    """``forget/1.0`` uint8 (N, C, H, W), ``forget/1.0/labels`` int64 (N,), and so on."""
    samples: dict[str, np.ndarray] = load_file(path)
    return samples


def sample_strips(
    record: Record, outputs: Path, part: str, guidance: str, columns: int = 12
) -> list[Strip]:
    """Of ``forget``, ``paraphrase`` or ``retain``: a row a model, from the same noise column by
    column.
    """
    key, strips = f"{part}/{guidance}", []
    for row in _sampled_rows(record):
        strips.append(_strip(record, row, outputs, key, columns))
    return strips if any(strip.images is not None for strip in strips) else []


def _sampled_rows(record: Record) -> list[Record]:
    attacked = rows_of(record, "attacked")
    survived = [row for row in attacked if row.get("status") != "diverged"]
    before = [row for row in record["rows"] if row["model"] != "attacked"]
    return before + (survived or attacked)[-1:]


def sample_files(record: Record, outputs: Path) -> list[Path]:
    """Of the rows that a sample grid shows; they may be absent."""
    folders = [row["samples"] for row in _sampled_rows(record) if row.get("samples")]
    return [Path(outputs) / folder / "samples.safetensors" for folder in folders]


def _strip(record: Record, row: Row, outputs: Path, key: str, columns: int) -> Strip:
    label = row_label(record, row)
    if not row.get("samples"):
        diverged = row.get("status") == "diverged"
        return Strip(label, None, missing="diverged" if diverged else "no samples")
    path = Path(outputs) / row["samples"] / "samples.safetensors"
    if not path.is_file():
        return Strip(label, None, missing="the sample file is not on this disk")
    samples = load_samples(path)
    if key not in samples:
        return Strip(label, None, missing="not sampled")
    images, labels = samples[key], samples[f"{key}/labels"]
    wording = samples.get(f"{key}/wording")
    if wording is None:
        chosen = _spread(labels, columns)
        names = tuple(class_name(record, int(label)) for label in labels[chosen])
    else:  # drawn in turn: each class in each wording
        chosen = np.arange(len(labels))[:columns]
        rows, captions = len(record["class_names"]) + 1, record.get("paraphrases") or {}
        names = tuple(captions.get(str(k), "") for k in (labels + rows * wording)[chosen])
    return Strip(label, images[chosen].transpose(0, 2, 3, 1), names)


def _spread(labels: np.ndarray, columns: int) -> np.ndarray:
    """Indices of the first of every class, then the second of every class, ..., by class."""
    # how many images of the same class come before
    rank: np.ndarray = np.zeros(len(labels), dtype=int)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    chosen: np.ndarray = np.lexsort((labels, rank))[:columns]
    order: np.ndarray = np.lexsort((chosen, labels[chosen]))
    return chosen.take(order)


def tiles(images: np.ndarray, size: int = 64, gap: int = 4) -> np.ndarray:
    """(K, H, W, C) side by side on white, each pixel a square: (H', W', 3) uint8."""
    scale = max(1, size // images.shape[1])
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    if enlarged.shape[-1] == 1:
        enlarged = enlarged.repeat(3, axis=-1)
    padded = np.pad(enlarged, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    side_by_side: np.ndarray = np.concatenate(list(padded), axis=1)
    return side_by_side[:, :-gap]


def strip_png(images: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(tiles(images)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


# ---- classes -------------------------------------------------------------------------------------


@styled
def replacement_figure(record: Record, guidance: str) -> Figure | None:
    """What the oracle sees under c_f: the share of each class, for the three models."""
    rows = {model: row for model in MODELS if (row := row_of(record, model))}
    counts = {model: measured(row, "replacement", guidance) for model, row in rows.items()}
    shares = {model: np.asarray(c, float) / max(sum(c), 1) for model, c in counts.items() if c}
    if not shares:
        return None
    names, shares = _by_word(record, shares) or _shown_shares(record, shares)
    _, axes = new_axes()
    width = 0.8 / len(shares)
    for index, (model, values) in enumerate(shares.items()):
        style = MODEL_STYLE[model]
        axes.bar(
            np.arange(len(names)) + (index - (len(shares) - 1) / 2) * width,
            100 * values,
            width,
            color=style["color"],
            hatch=style["hatch"],
            edgecolor="white",
            linewidth=0.5,
            label=row_label(record, rows[model]),
        )
    axes.set(ylim=(0, 102), ylabel="share of images (%)", xlabel="class seen by the oracle")
    marked = {class_name(record, index) for index in record["forget_classes"]}
    _class_axis(axes, names, [*marked, str((record.get("config") or {}).get("forget"))])
    title = f"What {forgotten(record)} is replaced by (guidance {guidance_label(guidance)})"
    return title_and_legend(axes, title)


def _by_word(
    record: Record, shares: dict[str, np.ndarray]
) -> tuple[list[str], dict[str, np.ndarray]] | None:
    """Of too many classes those of one word in the place of the forgotten one in one bar; None
    where forgotten classes have no word in common.
    """
    classes = [name.split() for name in record.get("class_names") or []]
    if len(classes) <= MAX_CLASSES or len({len(words) for words in classes}) > 1:
        return None
    own = [classes[index] for index in record["forget_classes"]]
    places = [
        place
        for place, words in enumerate(zip(*classes, strict=True))
        if len({words[place] for words in own}) == 1 < len(set(words))
    ]
    words = [" ".join(name[place] for place in places) for name in classes] + ["nothing"]
    names = list(dict.fromkeys(words))
    if not places or len(names) > MAX_CLASSES:
        return None
    member = np.array([[word == name for name in names] for word in words], float)
    return names, {model: share @ member[: len(share)] for model, share in shares.items()}


def _shown_shares(
    record: Record, shares: dict[str, np.ndarray]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Names and heights of the bars; of many classes the largest, and the rest in one bar."""
    total = np.max(list(shares.values()), axis=0)
    known = len(record.get("class_names") or total)
    nothing = [known] if len(total) > known else []  # the last is no class; older records lack it
    rank = total.copy()
    rank[[*record["forget_classes"], *nothing]] = np.inf
    shown = np.arange(len(total))
    if len(total) > MAX_CLASSES:
        shown = np.sort(np.argsort(-rank, kind="stable")[:MAX_CLASSES])
    names = [
        "nothing" if index in nothing else class_name(record, index) for index in shown.tolist()
    ]
    rest = np.setdiff1d(np.arange(len(total)), shown)
    if len(rest):
        names.append("other")
        shares = {m: np.append(share[shown], share[rest].sum()) for m, share in shares.items()}
    return names, shares


@styled
def retain_figure(record: Record, guidance: str) -> Figure | None:
    """Accuracy on each retained class; points, because the axis need not start at 0."""
    values, rows = {}, {model: row for model in MODELS if (row := row_of(record, model))}
    for model, row in rows.items():
        accuracy = measured(row, "retain_accuracy", guidance) or {}
        if per_class := accuracy.get("per_class"):
            values[model] = np.array([np.nan if v is None else v for v in per_class], float)
    if not values:
        return None
    stack = np.array(list(values.values()))
    retained: np.ndarray = np.flatnonzero(~np.isnan(stack).all(axis=0))
    if not len(retained):
        return None
    worst = np.argsort(np.nanmin(stack[:, retained], axis=0), kind="stable")[:MAX_CLASSES]
    shown = np.sort(retained[worst])
    _, axes = new_axes()
    for index, (model, value) in enumerate(values.items()):
        axes.plot(
            np.arange(len(shown)) + (index - (len(values) - 1) / 2) * 0.22,
            100 * value[shown],
            linestyle="",
            marker=MODEL_STYLE[model]["marker"],
            markersize=6.5,
            color=MODEL_STYLE[model]["color"],
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=row_label(record, rows[model]),
            clip_on=False,
            zorder=3,
        )
    bottom = max(0.0, 10 * np.floor((100 * np.nanmin(stack[:, shown]) - 2) / 10))
    axes.set(ylim=(bottom, 100 + 0.02 * (100 - bottom)), xlabel="retained class")
    axes.set_ylabel("retain accuracy (%)")
    _class_axis(axes, [class_name(record, index) for index in shown.tolist()], [])
    every = len(shown) == len(retained)
    which = "Retained classes" if every else f"The {MAX_CLASSES} worst retained classes"
    return title_and_legend(axes, f"{which} (guidance {guidance_label(guidance)})")


def _class_axis(axes: Axes, names: Sequence[str], marked: Sequence[str]) -> None:
    """Class names below the axis, tilted when they are words; the forgotten ones in bold."""
    words = max(map(len, names), default=0) > 3
    tilt: Style = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if words else {}
    axes.set_xticks(range(len(names)), names, **tilt)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(names) - 0.4)
    for label in axes.get_xticklabels():
        if label.get_text() in marked:
            label.set_fontweight("bold")
