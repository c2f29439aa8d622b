"""One record in the terminal: the table of models, the table of stages, and its verdict."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unrelearn.report import classified, published, worlds
from unrelearn.report.classified import is_classifier
from unrelearn.report.records import (
    CLASS,
    ONLY,
    QUALITY,
    UNDER_FORGOTTEN,
    UNDER_RETAINED,
    Quality,
    Record,
    by_row,
    by_wording,
    every,
    foreign_features,
    guidances,
    interval,
    main_guidance,
    number,
    presence,
    retained_guidance,
)
from unrelearn.report.render import Cells, caption, console_table, natural_width
from unrelearn.report.verdict import before_line, oracle_line, recovery_line, verdict
from unrelearn.report.words import (
    DASH,
    forgotten,
    guidance_label,
    plain,
    protocol_name,
    quality_text,
    row_label,
    synonyms,
    wrap_safe,
)
from unrelearn.terminal import Console, Table, escape

WIDTH = 110  # columns, where a console does not say
# what a terminal that is too narrow for everything goes without, one after the other
LEAVE_OUT = (  # noqa: SIM905
    "other_sampler off_grid kid_oracle density_coverage kid inception_score precision_recall"
    " entropy nothing fd_oracle fid"
).split()


class ModelColumn(NamedTuple):
    """Of the table of models."""

    metric: str
    header: str
    texts: list[str]  # of each row


def summary_cells(record: Record, intervals: str = "all", leave_out: Sequence[str] = ()) -> Cells:
    """Headers and rows of the table of models, as text.

    Args:
        intervals: at ``all`` accuracies, at ``forget`` accuracies only, or at forget accuracy of
            the ``main`` guidance.
        leave_out: metrics that get no column.
    """
    if is_classifier(record):
        return classified.cells(record)
    if published.is_published(record):
        return published.cells(record)
    wide = intervals == "all"
    columns = [*_forgotten(record, intervals), *_retained(record, wide)]
    columns.append(_held_out(record, wide))
    columns += _membership(record)
    if not record["forget_classes"]:  # nothing is drawn under no class
        columns = [column for column in columns if set(column.texts) != {DASH}]
    columns = [column for column in columns if column.metric not in leave_out]
    rows = []
    for place, row in enumerate(record["rows"]):
        cells = [column.texts[place] for column in columns]
        if row.get("status") == "diverged" and cells:
            cells[0] = "diverged"
        rows.append([row_label(record, row), *cells])
    return ["model", *(column.header for column in columns)], rows


def _forgotten(record: Record, intervals: str) -> list[ModelColumn]:
    main, wide, columns = main_guidance(record), intervals == "all", []
    shown = presence(record)
    for g in guidances(record):
        header = f"{shown.words.split()[0]} acc. %\nguidance {guidance_label(g)}"
        ends = intervals != "main" or g == main
        texts = [_accuracy(value, ends) for value in by_row(record, shown.name, g)]
        columns.append(ModelColumn("presence", header, texts))
    known = by_row(record, CLASS.name, main)
    if shown.of_word:  # what else is measured of the class speaks of its exact combination
        columns += [*_of_words(record, UNDER_FORGOTTEN, main, wide), *_synonyms(record, main)]
        texts = [plain(number(value, "nothing"), 100) for value in known]
        return [*columns, ModelColumn("nothing", "nothing\n%", texts)]
    if any(number(value, "nothing") is not None for value in known):
        columns.append(ModelColumn("nothing", "another,\nnothing %", [*map(_shares, known)]))
    if guidances(record, "other_sampler"):
        texts = [_accuracy(value, wide) for value in by_row(record, "other_sampler", main)]
        columns.append(ModelColumn("other_sampler", "other\nsampler %", texts))
    if any(value.get("off_grid") for value in known):
        texts = [_accuracy(value.get("off_grid"), wide) for value in known]
        columns.append(ModelColumn("off_grid", "off\ngrid %", texts))
    texts = [plain(number(value), digits=2) for value in by_row(record, "entropy", main)]
    return [*columns, ModelColumn("entropy", "entropy\nnats", texts)]


def _held_out(record: Record, wide: bool) -> ModelColumn:
    shown, main = presence(record), main_guidance(record)
    if shown.of_word:
        known = [number(value, "held_out") for value in by_row(record, shown.name, main)]
        texts = [plain(value, 100) for value in known]
    else:
        values = by_row(record, "agreement", main)
        texts = [_accuracy(value.get("held_out_forget_accuracy"), wide) for value in values]
    return ModelColumn("agreement", f"held-out\n{shown.words.split()[0]} %", texts)


def _of_words(
    record: Record, shares: Sequence[Quality], guidance: str, wide: bool
) -> list[ModelColumn]:
    """Those of the shares that were measured."""
    columns = []
    for share in shares:
        known = by_row(record, share.metric, guidance)
        whole = wide and share.field == "value"
        if any(number(value, share.field) is not None for value in known):
            texts = [
                _accuracy(v, whole) if whole else plain(number(v, share.field), 100) for v in known
            ]
            columns.append(ModelColumn(share.name, f"{share.label}\n%", texts))
    return columns


def _synonyms(record: Record, guidance: str) -> list[ModelColumn]:
    """What shows under each, where there are several."""
    known = [by_wording(value) for value in by_row(record, "paraphrase_accuracy", guidance)]
    words = synonyms(record) if any(known) else {}
    columns = []
    for wording, name in words.items():
        texts = [plain(shares.get(wording), 100) for shares in known]
        columns.append(ModelColumn("paraphrase_accuracy", f"{name}\n%", texts))
    return columns if len(columns) > 1 else []


def _retained(record: Record, wide: bool) -> list[ModelColumn]:
    guidance = retained_guidance(record)
    columns = _of_words(record, UNDER_RETAINED, guidance, wide)
    texts = [_accuracy(value, wide) for value in by_row(record, "retain_accuracy", guidance)]
    columns.append(ModelColumn("retain_accuracy", "retain\nacc. %", texts))
    for quality in QUALITY:
        if guidances(record, quality.metric):
            known = by_row(record, quality.metric, guidance)
            texts = [quality_text(number(value, quality.field), quality) for value in known]
            header = f"{quality.label}\n{_beside(record, quality, known)}"
            columns.append(ModelColumn(quality.metric, header, texts))
    return columns


def _membership(record: Record) -> list[ModelColumn]:
    """How well forgotten images are told from held-out ones, by each score."""
    columns = []
    known = by_row(record, "membership", ONLY)
    for name in next((value["scores"] for value in known if value), []):
        texts = [plain(number(value.get(name)), digits=3) for value in known]
        beside = [number(value.get(f"{name}_retrain")) for value in known if value]
        header = f"{name}\nAUC\nretrain {plain(beside[0], digits=3)}"
        columns.append(ModelColumn("membership", header, texts))
    return columns


def _accuracy(value: object, ends: bool) -> str:
    """``97.0 [95.1, 98.2]`` in percent."""
    known = interval(value) if ends else None
    bounds = f" [{100 * known[1]:.1f}, {100 * known[2]:.1f}]" if known else ""
    return plain(number(value), 100) + bounds


def _shares(value: object) -> str:
    """``98.0, 1.5`` in percent."""
    another, nothing = number(value, "another"), number(value, "nothing")
    known = another is not None and nothing is not None
    return f"{plain(another, 100)}, {plain(nothing, 100)}" if known else DASH


def _beside(record: Record, quality: Quality, values: Sequence[Any]) -> str:
    """Below a header: the number of images, and what real ones get, or whose features."""
    if quality.beside is None:
        source = foreign_features(record, quality.metric)
        return f"({source})" if source else ""
    lines = [f"N={value['n']}" for value in values if value.get("n")][:1]
    known = [number(value, quality.beside) for value in values]
    known = [value for value in known if value is not None]
    lines += [f"{quality.beside} {quality_text(value, quality)}" for value in known[:1]]
    return "\n".join(lines)


def summary_caption(record: Record, leave_out: Sequence[str] = ()) -> str:
    """What a reader of the table of models needs to know."""
    if is_classifier(record):
        return classified.table_caption(record)
    if published.is_published(record):
        return published.table_caption(record)
    shown = presence(record)
    values = every(record, shown.name)
    counts = [value["n"] for value in values if value.get("n")]
    samplers = [v["sampler"] for v in every(record, "other_sampler") if v.get("sampler")]
    qualities = [q for q in QUALITY if guidances(record, q.metric) and q.metric not in leave_out]
    sources = {q.metric: foreign_features(record, q.metric) for q in qualities}
    beside = {q.beside for q in qualities if not sources[q.metric]}
    beside_it = {"nothing", "other_sampler", "off_grid"} - set(leave_out)
    return caption(
        "summary",
        protocol=protocol_name(record),
        what=forgotten(record),
        by_class=bool(record["forget_classes"]),
        shown=shown.words,
        membership=any(by_row(record, "membership", ONLY)),
        n=counts[0] if counts else None,
        shares="nothing" in beside_it and any(number(v, "nothing") is not None for v in values),
        sampler=samplers[0] if samplers and "other_sampler" in beside_it else None,
        off_grid="off_grid" in beside_it and any(value.get("off_grid") for value in values),
        forget_at=guidance_label(main_guidance(record)),
        retained_at=guidance_label(retained_guidance(record)),
        floor="floor" in beside,
        real="real" in beside,
        sources=list(dict.fromkeys(filter(None, sources.values()))),
    )


# ---- stages --------------------------------------------------------------------------------------


def stage_cells(record: Record) -> Cells:
    """What was computed, what was found finished, and what it cost."""
    rows = []
    for stage in record.get("stages") or []:
        names = [stage["stage"], str(stage.get("key") or DASH)[:8], stage.get("status") or DASH]
        seconds, memory = number(stage.get("seconds")), number(stage.get("peak_memory_mib"))
        cost = [plain(seconds), plain(memory, digits=0)]
        rows.append([*names, *cost, stage.get("device") or DASH])
    return ["stage", "key", "", "seconds", "peak memory\nMiB", "device"], rows


STAGE_LEFT = (0, 1, 2, 5)  # columns of it that are flush left


def stage_line(record: Record) -> str:
    stages, seconds = record.get("stages") or [], number(record.get("seconds"))
    reused = sum(stage.get("status") == "reused" for stage in stages)
    line = f"{len(stages) - reused} of {len(stages)} computed"
    line += f", {reused} reused (seconds of an earlier run)" if reused else ""
    return line + ("" if seconds is None else f"; {seconds:.1f} s in all")


# ---- printing ------------------------------------------------------------------------------------


def print_record(record: Record, console: Console, page: Path | None = None) -> None:
    """Print both tables and the result in words; `page` is where the HTML report is."""
    # A log file has no width of its own: what lands there should be whole.
    width = console.width if console.is_terminal else max(console.width, WIDTH)
    console.print(_summary_table(record, width), crop=False)
    if record.get("stages"):
        table = _rich_table(stage_cells(record), "Stages", stage_line(record), STAGE_LEFT)
        console.print(table, crop=False)
    for line in lines(record):
        console.print(_wrapped(line, width), markup=False, highlight=False, soft_wrap=True)
    if page:
        console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)


def lines(record: Record) -> list[str]:
    """The result in words."""
    if is_classifier(record):
        return [classified.verdict(record)]
    if published.is_published(record):
        return [published.verdict(record), *worlds.sentences(record)]
    each = (verdict(record), before_line(record), oracle_line(record), recovery_line(record))
    return [*filter(None, each)]


def _summary_table(record: Record, width: int) -> Table:
    """As many columns as fit, never a cut number."""
    fits = [("forget", ()), *(("main", LEAVE_OUT[:n]) for n in range(len(LEAVE_OUT) + 1))]
    for intervals, leave_out in fits:
        headers, rows = summary_cells(record, intervals, leave_out)
        if natural_width(headers, rows) <= width:
            break
    absent = [header.split("\n")[0] for header in summary_cells(record)[0] if header not in headers]
    note = f" Left out for want of width: {', '.join(absent)}." if absent else ""
    text = summary_caption(record, leave_out) + note
    return _rich_table((headers, rows), record["name"], text)


def _wrapped(text: str, width: int) -> str:
    """Lines of at most this width; a number keeps its percent sign, which rich would wrap away."""
    return textwrap.fill(wrap_safe(text), width).replace("\xa0", " ")


def _rich_table(cells: Cells, title: str, text: str, left: Sequence[int] = (0,)) -> Table:
    """A table of its natural width, whatever the console's, above its caption."""
    width = natural_width(*cells)
    words = {"title": escape(title), "caption": escape(_wrapped(text, width))}
    justified = {"title_justify": "left", "caption_justify": "left"}
    return console_table(cells, left, width=width, **words, **justified)
