"""One record in the terminal: the table of models, the table of stages, and its verdict."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unrelearn.report.records import (
    QUALITY,
    Quality,
    Record,
    Row,
    every,
    foreign_features,
    guidances,
    interval,
    main_guidance,
    measured,
    number,
    retained_guidance,
)
from unrelearn.report.render import caption, natural_width
from unrelearn.report.verdict import oracle_line, recovery_line, verdict
from unrelearn.report.words import (
    DASH,
    forgotten,
    guidance_label,
    plain,
    protocol_name,
    quality_text,
    row_label,
    wrap_safe,
)

WIDTH = 110  # columns, where a console does not say
# what a terminal that is too narrow for everything goes without, one after the other
LEAVE_OUT = (
    "other_sampler",
    "off_grid",
    "kid_oracle",
    "density_coverage",
    "kid",
    "inception_score",
    "precision_recall",
    "entropy",
    "nothing",
    "fd_oracle",
    "fid",
)


@dataclass(frozen=True)
class ModelColumn:
    """Of the table of models."""

    metric: str
    header: str
    text: Callable[[Row], str]  # of a row


def summary_cells(
    record: Record, intervals: str = "all", leave_out: tuple[str, ...] = ()
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table of models, as text.

    Args:
        intervals: at ``all`` accuracies, at ``forget`` accuracies only, or at forget accuracy of
            the ``main`` guidance.
        leave_out: metrics that get no column.
    """
    columns = [*_forgotten(record, intervals), *_retained(record, intervals == "all")]
    held_out = main_guidance(record), intervals == "all", "held_out_forget_accuracy"
    columns.append(
        ModelColumn("agreement", "held-out\nforget %", _accuracy("agreement", *held_out))
    )
    columns = [column for column in columns if column.metric not in leave_out]
    rows = []
    for row in record["rows"]:
        cells = [column.text(row) for column in columns]
        if row.get("status") == "diverged" and cells:
            cells[0] = "diverged"
        rows.append([row_label(record, row), *cells])
    return ["model", *(column.header for column in columns)], rows


def _forgotten(record: Record, intervals: str) -> list[ModelColumn]:
    main, wide, columns = main_guidance(record), intervals == "all", []
    for g in guidances(record):
        header = f"forget acc. %\nguidance {guidance_label(g)}"
        ends = intervals != "main" or g == main
        text = _accuracy("forget_accuracy", g, ends)
        columns.append(ModelColumn("forget_accuracy", header, text))
    known = [measured(row, "forget_accuracy", main) or {} for row in record["rows"]]
    if any(number(value, "nothing") is not None for value in known):
        columns.append(ModelColumn("nothing", "another,\nnothing %", _shares(main)))
    if guidances(record, "other_sampler"):
        text = _accuracy("other_sampler", main, wide)
        columns.append(ModelColumn("other_sampler", "other\nsampler %", text))
    if any(value.get("off_grid") for value in known):
        text = _accuracy("forget_accuracy", main, wide, "off_grid")
        columns.append(ModelColumn("off_grid", "off\ngrid %", text))

    def entropy(row: Row) -> str:
        return plain(number(measured(row, "entropy", main)), digits=2)

    return [*columns, ModelColumn("entropy", "entropy\nnats", entropy)]


def _retained(record: Record, wide: bool) -> list[ModelColumn]:
    guidance = retained_guidance(record)
    text = _accuracy("retain_accuracy", guidance, wide)
    columns = [ModelColumn("retain_accuracy", "retain\nacc. %", text)]
    for quality in QUALITY:
        if guidances(record, quality.metric):
            header = f"{quality.label}\n{_beside(record, quality, guidance)}"
            columns.append(ModelColumn(quality.metric, header, _quality(quality, guidance)))
    return columns


def _accuracy(metric: str, guidance: str, ends: bool, field: str = "") -> Callable[[Row], str]:
    """``97.0 [95.1, 98.2]`` in percent."""

    def text(row: Row) -> str:
        value = measured(row, metric, guidance)
        value = (value or {}).get(field) if field else value
        known = interval(value) if ends else None
        bounds = f" [{100 * known[1]:.1f}, {100 * known[2]:.1f}]" if known else ""
        return plain(number(value), 100) + bounds

    return text


def _shares(guidance: str) -> Callable[[Row], str]:
    """``98.0, 1.5`` in percent."""

    def text(row: Row) -> str:
        value = measured(row, "forget_accuracy", guidance) or {}
        another, nothing = number(value, "another"), number(value, "nothing")
        known = another is not None and nothing is not None
        return f"{plain(another, 100)}, {plain(nothing, 100)}" if known else DASH

    return text


def _quality(quality: Quality, guidance: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = measured(row, quality.metric, guidance) or {}
        return quality_text(number(value, quality.field), quality)

    return text


def _beside(record: Record, quality: Quality, guidance: str) -> str:
    """Below a header: the number of images, and what real ones get, or whose features."""
    if quality.beside is None:
        source = foreign_features(record, quality.metric)
        return f"({source})" if source else ""
    values = [measured(row, quality.metric, guidance) or {} for row in record["rows"]]
    lines = [f"N={value['n']}" for value in values if value.get("n")][:1]
    known = [number(value, quality.beside) for value in values]
    known = [value for value in known if value is not None]
    lines += [f"{quality.beside} {quality_text(value, quality)}" for value in known[:1]]
    return "\n".join(lines)


def summary_caption(record: Record, leave_out: tuple[str, ...] = ()) -> str:
    """What a reader of the table of models needs to know."""
    values = every(record, "forget_accuracy")
    counts = [value["n"] for value in values if value.get("n")]
    samplers = [v["sampler"] for v in every(record, "other_sampler") if v.get("sampler")]
    qualities = [q for q in QUALITY if guidances(record, q.metric) and q.metric not in leave_out]
    sources = {q.metric: foreign_features(record, q.metric) for q in qualities}
    beside = {q.beside for q in qualities if not sources[q.metric]}
    shown = {"nothing", "other_sampler", "off_grid"} - set(leave_out)
    return caption(
        "summary",
        protocol=protocol_name(record),
        what=forgotten(record),
        n=counts[0] if counts else None,
        shares="nothing" in shown and any(number(v, "nothing") is not None for v in values),
        sampler=samplers[0] if samplers and "other_sampler" in shown else None,
        off_grid="off_grid" in shown and any(value.get("off_grid") for value in values),
        forget_at=guidance_label(main_guidance(record)),
        retained_at=guidance_label(retained_guidance(record)),
        floor="floor" in beside,
        real="real" in beside,
        sources=list(dict.fromkeys(filter(None, sources.values()))),
    )


# ---- stages --------------------------------------------------------------------------------------


def stage_cells(record: Record) -> tuple[list[str], list[list[str]]]:
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
        table = _rich_table(*stage_cells(record), "Stages", stage_line(record), STAGE_LEFT)
        console.print(table, crop=False)
    for line in filter(None, (verdict(record), oracle_line(record), recovery_line(record))):
        console.print(_wrapped(line, width), markup=False, highlight=False, soft_wrap=True)
    if page:
        console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)


def _summary_table(record: Record, width: int) -> Table:
    """As many columns as fit, never a cut number."""
    fits = [("forget", ()), *(("main", LEAVE_OUT[:n]) for n in range(len(LEAVE_OUT) + 1))]
    for intervals, leave_out in fits:
        headers, rows = summary_cells(record, intervals, leave_out)
        if natural_width(headers, rows) <= width:
            break
    absent = [header.split("\n")[0] for header in summary_cells(record)[0] if header not in headers]
    note = f" Left out for want of width: {', '.join(absent)}." if absent else ""
    return _rich_table(headers, rows, record["name"], summary_caption(record, leave_out) + note)


def _wrapped(text: str, width: int) -> str:
    """Lines of at most this width; a number keeps its percent sign, which rich would wrap away."""
    return textwrap.fill(wrap_safe(text), width).replace("\xa0", " ")


def _rich_table(
    headers: list[str],
    rows: list[list[str]],
    title: str,
    text: str,
    left: tuple[int, ...] = (0,),
) -> Table:
    """A table of its natural width, whatever the console's, above its caption."""
    width = natural_width(headers, rows)
    table = Table(
        title=escape(title),
        caption=escape(_wrapped(text, width)),
        title_justify="left",
        caption_justify="left",
        box=None,
        header_style="bold",
        width=width,
    )
    for index, header in enumerate(headers):
        side = "left" if index in left else "right"
        table.add_column(escape(header), justify=side, no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))  # an interval is not markup
    return table
