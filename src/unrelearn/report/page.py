"""One record as one HTML file that opens from disk: all inside, no script, nothing fetched."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from unrelearn.report import classified, drawing, published, published_page
from unrelearn.report.classified import is_classifier
from unrelearn.report.figures import curves_of, recovery_figure
from unrelearn.report.files import write_atomically
from unrelearn.report.membership import histograms, roc_figure, told
from unrelearn.report.records import (
    MODELS,
    QUALITY,
    Record,
    by_row,
    every,
    guidances,
    interval,
    main_guidance,
    measured,
    presence,
    retained_guidance,
    row_of,
    takes_steps,
)
from unrelearn.report.render import Cells, Context, data_url, natural_width, page
from unrelearn.report.samples import (
    Strip,
    replacement_figure,
    retain_figure,
    sample_strips,
    strip_png,
)
from unrelearn.report.summary import (
    STAGE_LEFT,
    stage_cells,
    stage_line,
    summary_caption,
    summary_cells,
)
from unrelearn.report.verdict import before_line, oracle_line, recovery_line, verdict
from unrelearn.report.words import (
    DASH,
    attacked_by,
    display_name,
    forgotten,
    guidance_label,
    percent,
    protocol_name,
    row_label,
    sentence,
)

TABLE_WIDTH = 127  # characters that the page holds without scrolling sideways, in a wide font
FORGOTTEN = (
    "presence",
    "paraphrase_accuracy",
    "concept_accuracy_kept",
    "nothing",
    "other_sampler",
    "off_grid",
    "entropy",
    "agreement",
)
MEMBERSHIP = ("membership",)
DISTANCES = (
    "domain_accuracy",
    "domain_accuracy_cross_domain",
    "nearby_damage",
    "retain_accuracy",
    "fid",
    "fd_oracle",
    "kid",
    "kid_oracle",
    "inception_score",
)
MANIFOLDS = ("precision_recall", "density_coverage")


def write_page(record: Record, outputs: Path, destination: Path) -> None:
    """Write the record's report; its sample paths are relative to `outputs`."""
    write_atomically(Path(destination), run_page(record, Path(outputs)))


def run_page(record: Record, outputs: Path) -> str:
    if published.is_published(record):
        return _published(record, outputs)
    return _classifier(record) if is_classifier(record) else _denoiser(record, outputs)


def _shared(record: Record) -> Context:
    """What the page of every kind shows."""
    return {
        "record": {"error": None, "command": None} | record,
        "created": str(record.get("created") or "").replace("T", " ")[:16],
        "stages": stage_cells(record),
        "stage_left": STAGE_LEFT,
        "stage_line": stage_line(record),
        "config": json.dumps(record["config"], indent=2, ensure_ascii=False),
    }


def _of_models(record: Record) -> Context:
    """And that of models which were made to forget."""
    what = f"{display_name(record['method'])}, {attacked_by(record['attack'])}"
    rows = [row for model in MODELS if (row := row_of(record, model))]
    return _shared(record) | {
        "title": sentence(f"{what}: {record['dataset']}, {forgotten(record)}"),
        "recovery": _recovery(record),
        "forgotten": forgotten(record),
        "weights": ", ".join(f"{row_label(record, r)}: {r.get('weights') or DASH}" for r in rows),
    }


def _published(record: Record, outputs: Path) -> str:
    headers, rows = published.cells(record)
    return page(
        "published",
        title=f"Published tables: {record['dataset']}, {len(record['parties'])} parties",
        verdict=published.verdict(record),
        tables=(headers, rows),
        caption=published.table_caption(record),
        **_shared(record),
        **published_page.context(record, outputs),
    )


def _classifier(record: Record) -> str:
    headers, rows = classified.cells(record)
    return page(
        "classifier",
        protocol=protocol_name(record),
        verdict=classified.verdict(record),
        tables=(headers, [[*map(classified.grey, row)] for row in rows]),
        caption=classified.table_caption(record),
        count=classified.count_of(record),
        augment=_settings(record["config"].get("augment")),
        **_of_models(record),
    )


def _denoiser(record: Record, outputs: Path) -> str:
    protocol = dict(record["config"].get("protocol") or {})
    protocol.pop("name", None)
    name = protocol_name(record)
    metrics = dict.fromkeys(quality.metric for quality in QUALITY)
    sizes = {metric: words for metric in metrics if (words := _sizes(record, metric))}
    return page(
        "run",
        protocol=name,
        verdict=verdict(record),
        numbers=_numbers(record),
        word=presence(record).of_word,
        main=main_guidance(record),
        tables=_tables(record) if record["rows"] else [],
        caption=summary_caption(record),
        oracle_line=oracle_line(record),
        before_line=before_line(record),
        grids=sample_grids(record, outputs),
        recovery_line=recovery_line(record),
        steps=takes_steps(record),
        classes=_classes(record),
        membership=_membership(record, outputs),
        protocol_words=name + (f": {_settings(protocol)}" if protocol else ""),
        oracle=_oracle(record),
        counts=_counts(record),
        sampler=_settings(record["config"].get("sampler")),
        sizes=sizes,
        **_of_models(record),
    )


def figure(drawn: Figure, title: str, note: str = "") -> Context:
    """As the template shows it."""
    return {"image": data_url(drawing.svg(drawn), "svg+xml"), "title": title, "note": note}


def _numbers(record: Record) -> list[Context]:
    """The three forget accuracies, large."""
    items = []
    for model in MODELS:
        row = row_of(record, model)
        value = interval(measured(row, presence(record).name, main_guidance(record)))
        if row and value:
            items.append(
                {
                    "color": drawing.MODEL_STYLE[model]["color"],
                    "label": row_label(record, row),
                    "share": percent(value[0]),
                    "ends": f"95 % interval {100 * value[1]:.1f} to {100 * value[2]:.1f}",
                }
            )
    return items


def _tables(record: Record) -> list[Cells]:
    """One table; if too wide, two or three: what is forgotten, what is retained."""
    for left_out in (
        [()],
        [DISTANCES + MANIFOLDS, FORGOTTEN + MEMBERSHIP],
        [
            DISTANCES + MANIFOLDS,
            FORGOTTEN + MANIFOLDS + MEMBERSHIP,
            FORGOTTEN + DISTANCES + MEMBERSHIP,
        ],
    ):
        parts = [summary_cells(record, leave_out=metrics) for metrics in left_out]
        if all(natural_width(*part) <= TABLE_WIDTH for part in parts):
            break
    return [(headers, rows) for headers, rows in parts if len(headers) > 1]


def sample_grids(record: Record, outputs: Path) -> list[Context]:
    """Grids before and after, of those sample files that are on this disk."""
    main, retain = main_guidance(record), retained_guidance(record)
    scales = sorted(guidances(record), key=lambda scale: scale != main)
    wanted = [("forget", scale, forgotten(record)) for scale in scales]
    wanted.append(("paraphrase", main, f"{forgotten(record)} in other words"))
    grids, columns = [], 10 if presence(record).of_word else 12
    for part, scale, what in [*wanted, ("retain", retain, "retained classes")]:
        if strips := sample_strips(record, outputs, part, scale, columns):
            title = f"Generated under {what}, guidance {guidance_label(scale)}"
            names = next(strip.names for strip in strips if strip.images is not None)
            names = names if len(set(names)) > 1 else ()
            grids.append({"title": title, "names": names, "strips": [*map(_strip, strips)]})
    return grids


def _strip(strip: Strip) -> Context:
    if strip.images is None:
        return {"label": strip.label, "image": "", "missing": strip.missing}
    alt = f"{len(strip.images)} images of the {strip.label} model"
    return {"label": strip.label, "image": data_url(strip_png(strip.images), "png"), "alt": alt}


def _recovery(record: Record) -> Context | None:
    curves = curves_of(record)
    title = f"What {display_name(record['attack'])} brings back"
    return figure(recovery_figure(curves, title), "Recovery curve") if curves else None


def _membership(record: Record, outputs: Path) -> list[Context]:
    name, models = told(record, outputs)
    if not models:
        return []
    words = f"{name}, higher: rather a member (filled: forgotten; line: held out)"
    rates = "held-out images above the threshold", "forgotten ones above it"
    drawings = {
        "Scores": histograms(models, words, "Scores of single images"),
        "ROC": roc_figure(models, *rates, "Forgotten against held-out images"),
    }
    return [figure(drawn, title) for title, drawn in drawings.items()]


def _classes(record: Record) -> list[Context]:
    drawings = {
        "Replacement classes": replacement_figure(record, main_guidance(record)),
        "Retain accuracy per class": retain_figure(record, retained_guidance(record)),
    }
    return [figure(drawn, title) for title, drawn in drawings.items() if drawn is not None]


# ---- how it was measured -------------------------------------------------------------------------

SIZES = {
    "n": "N = {}",
    "k": "k = {}",
    "features": "features: {}",
    "reference_n": "reference: {} real training images",
}


def _sizes(record: Record, metric: str) -> str:
    """``; N = 450, reference: 1168 real training images``; nothing of what was not made."""
    values = every(record, metric)
    words = [
        text.format(values[0][key]) for key, text in SIZES.items() if values and key in values[0]
    ]
    return "; " + ", ".join(words) if values else ""


def _oracle(record: Record) -> str:
    accuracy = (record.get("oracle") or {}).get("test_accuracy") or {}
    if (ends := interval(accuracy)) is None:
        return ""
    value, low, high = (100 * end for end in ends)
    n = accuracy.get("n", DASH)
    return f"; on real test images {value:.1f} % [{low:.1f}, {high:.1f}], n = {n}"


def _counts(record: Record) -> str:
    parts, under = [], f"under {forgotten(record)}"
    for metric, words in (("forget_accuracy", under), ("retain_accuracy", "of retained classes")):
        for guidance in guidances(record, metric):
            values = by_row(record, metric, guidance)
            for n in [value["n"] for value in values if value.get("n")][:1]:
                parts.append(f"{n} {words} at guidance {guidance_label(guidance)}")
    return ", ".join(parts)


def _settings(section: object) -> str:
    if not isinstance(section, dict):
        return str(section or "")
    items = [(key, json.dumps(value, ensure_ascii=False)) for key, value in section.items()]
    return ", ".join(f"{key} = {value}" for key, value in items)
