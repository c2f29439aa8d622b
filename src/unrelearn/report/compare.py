"""Groups of runs side by side: Markdown, CSV, LaTeX, one HTML page with the recovery curves."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from unrelearn.report import (
    DASH,
    attack_unit,
    csv_text,
    display_name,
    forgotten,
    guidance_label,
    guidances,
    main_guidance,
    number,
    protocol_name,
    retained_guidance,
    row_of,
)
from unrelearn.report.figures import MODELS, Curve, recovery_figure, recovery_points
from unrelearn.report.groups import ENOUGH, Estimate, Group, comparison, estimate, gathered, pooled
from unrelearn.report.page import FILE_NAME, TableCell, document, escape, figure_box, html_table
from unrelearn.report.strongest import BROKE, averaged, intact, learning_rate

FULL_WIDTH = 150  # a narrower terminal gets fewer columns; the files have all


def cells(groups: Sequence[Group], brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of one table as text; `brief` keeps the columns that fit a narrow
    terminal.
    """
    every = pooled(record for group in groups for record in group.records)
    scales, main, retain = guidances(every), main_guidance(every), retained_guidance(every)
    columns = [  # header, and how a group fills it
        (
            f"{model} %\n(s={guidance_label(g)})",
            partial(text, f"{model}_forget_accuracy@{g}", 100, 1),
        )
        for g in ([main] if brief else scales)
        for model, text in (("unlearned", _text), ("attacked", _attacked_text))
    ]
    columns += (
        []
        if brief
        else [
            (
                f"{field} %\n(s={guidance_label(main)})",
                partial(_text, f"unlearned_{field}@{main}", 100, 1),
            )
            for field in ("another", "nothing")
            if any(f"unlearned_{field}@{main}" in group.estimates for group in groups)
        ]
    )
    half = ("steps\nto half", partial(_half_text, main))
    columns += (
        [half]
        if brief
        else [
            ("area", partial(_text, f"area@{main}", 1, 3)),
            half,
            *(
                (f"{short}\n{when}", partial(_text, f"{model}_{metric}@{retain}", scale, digits))
                for metric, short, scale, digits in (
                    ("retain_accuracy", "retain %", 100, 1),
                    _distance(groups, retain),
                )
                for model, when in (("unlearned", "before"), ("attacked", "after"))
            ),
        ]
    )
    noted = any(group.note for group in groups)
    headers = [
        "forgotten",
        "method",
        "attack",
        *(["settings"] if noted else []),
        "seeds",
        *(h for h, _ in columns),
    ]
    rows = []
    for group in groups:
        row = [
            forgotten(group.first),
            display_name(group.first["method"]),
            display_name(group.first["attack"]),
        ]
        row += [group.note or DASH] if noted else []
        rows.append([*row, group.seeds, *(fill(group) for _, fill in columns)])
    return headers, rows


def _distance(groups: Sequence[Group], guidance: str) -> tuple[str, str, int, int]:
    """Column, header with N, scale, digits: FID if every row that has a distance has it, else that
    in the oracle's features.
    """
    have = {
        metric: {
            i
            for i, group in enumerate(groups)
            if any(f"{m}_{metric}@{guidance}" in group.estimates for m in MODELS)
        }
        for metric in ("fid", "fd_oracle")
    }
    n = next(
        (f" (N={group.distance_images})" for group in groups if group.distance_images), ""
    )  # one in each table
    fid = have["fid"] and have["fid"] >= have["fd_oracle"]
    return ("fid", f"FID{n}", 1, 1) if fid else ("fd_oracle", f"FD{n}", 1, 2)


def _text(column: str, scale: float, digits: int, group: Group) -> str:
    return estimate_text(group.estimates.get(column), scale, digits, group.n)


def _attacked_text(column: str, scale: float, digits: int, group: Group) -> str:
    text = _text(column, scale, digits, group)
    after = [
        (row_of(r, "attacked"), row_of(r, "unlearned"))
        for r in group.records
        if row_of(r, "attacked")
    ]
    broke = after and all(
        intact([pair], retained_guidance(pooled(group.records))) is False for pair in after
    )
    return f"{BROKE}, {text}" if broke else text


def estimate_text(value: Estimate | None, scale: float, digits: int, n: int) -> str:
    """``1.2 ± 0.9`` of five seeds and more, of fewer each (``0.5, 1.0, 2.1``), of one ``2.0 [1.0,
    4.0]`` over images.

    ``(n=2)`` stands behind it where n seeds were expected.
    """
    if value is None:
        return DASH
    text = f"{scale * value.mean:.{digits}f}"
    if 1 < value.n < ENOUGH:
        text = ", ".join(f"{scale * each:.{digits}f}" for each in value.values)
    elif value.n > 1:
        text += f" ± {scale * (value.high - value.mean):.{digits}f}"
    elif value.low is not None:
        text += f" [{scale * value.low:.{digits}f}, {scale * value.high:.{digits}f}]"
    return text + (f" (n={value.n})" if value.n != n else "")


def _half_text(guidance: str, group: Group) -> str:
    return half_text(group.estimates.get(f"steps_to_half@{guidance}"), group.budgets)


def half_text(value: Estimate | None, budgets: Sequence[float]) -> str:
    """``130 ± 12``, ``120, 140``, ``130 (1 of 3)`` where the others never got there, ``> 400``
    where none did.
    """
    if value is None:
        return DASH
    if value.reached == 0:
        return f"> {budgets[-1]}" if budgets else "not reached"
    if value.reached < value.n:
        return f"{value.mean:.0f} ({value.reached} of {value.n})"
    return estimate_text(
        replace(value, low=None, high=None) if value.n == 1 else value, 1, 0, value.n
    )


CAPTION = (
    "Forget accuracy: share of images generated under the forgotten class that the oracle still"
    " calls by it, for the unlearned model and after the attack's last budget (or level), at"
    " guidance scale s; another, nothing: shares of the unlearned model's images that the oracle"
    " calls another class, or no class. Of five seeds and more the mean ± half of the 95 %"
    " t-interval, of fewer the value of each seed, of one its 95 % Wilson interval over images;"
    " attack seeds are averaged inside their seed. Equal values in every seed say nothing about the"
    " images. Before and after mean the attack; N: images behind a distance. Attack broke the"
    " model: its retained accuracy fell by more than 2 points or its distance grew by more than"
    " half. Area: mean forget accuracy over the budget axis; steps to half: budget at which it"
    " reaches half of the original model's, a dash where that is nought. These two, retain accuracy"
    " and FID, or FD (the Fréchet distance in the oracle's features, where not every run has FID),"
    " are at s=1 where that was measured."
)


def tables(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Groups by the title of their table: numbers of two protocols never share one."""
    return gathered(groups, lambda group: group.table)


def troubles(groups: Sequence[Group]) -> list[str]:
    """One line per run that did not finish."""
    return [
        f"{record['name']}: {record['status']}"
        + (f" ({record['error']})" if record.get("error") else "")
        for group in groups
        for record in group.records
        if record["status"] != "finished"
    ]


def to_markdown(groups: Sequence[Group], brief: bool = False) -> str:
    parts = []
    for title, members in tables(groups).items():
        headers, rows = cells(members, brief)
        parts.append(
            f"### {markdown(title)}\n\n{markdown_table(headers, rows, headers.index('seeds') + 1)}"
        )
    parts.append(CAPTION)
    if unfinished := troubles(groups):
        parts.append(
            "Runs that did not finish:\n\n"
            + "\n".join(f"- {markdown(line)}" for line in unfinished)
        )
    return "\n\n".join(parts) + "\n"


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The first `left` columns are flush left, the others right."""
    rule = ["---"] * left + ["---:"] * (len(headers) - left)
    lines = [map(markdown, headers), rule, *(map(markdown, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(records: Sequence[dict], console: Console | None = None) -> None:
    """Print the comparison of these records: all columns if they fit, else those that matter
    most.
    """
    console = console or Console()
    console.print(Markdown(to_markdown(comparison(records), brief=console.width < FULL_WIDTH)))


def markdown(text: str) -> str:
    """Escape what would end a cell or start markup; underscores inside words are safe and stay
    readable.
    """
    return "".join("\\" + c if c in "\\|<*`" else c for c in str(text).replace("\n", " "))


def to_csv(groups: Sequence[Group]) -> str:
    """One line per group and column, raw numbers (accuracies as fractions); a group without numbers
    has one line.
    """
    names = (
        "table",
        "protocol",
        "dataset",
        "forgotten",
        "method",
        "attack",
        "settings",
        "seeds",
        "diverged",
        "failed",
    )
    rows = []
    for group in groups:
        first, seeds = (
            group.first,
            " ".join(dict.fromkeys(str(record["seed"]) for record in group.finished)),
        )
        row = [
            group.table,
            protocol_name(first),
            first["dataset"],
            " ".join(map(str, first["forget_classes"])),
            first["method"],
            first["attack"],
            group.note,
            seeds,
            group.count("diverged"),
            group.count("failed"),
        ]
        rows += [
            [
                *row,
                *column.split("@"),
                value.mean,
                value.low,
                value.high,
                value.n,
                value.reached,
                " ".join(f"{each:.6g}" for each in value.values),
            ]
            for column, value in group.estimates.items()
        ] or [[*row, *[""] * 8]]
    return csv_text(
        [*names, "measurement", "guidance", "mean", "low", "high", "n", "reached", "values"], rows
    )


def to_latex(groups: Sequence[Group]) -> str:
    """One booktabs table per protocol; needs ``\\usepackage{booktabs,graphicx}``."""
    parts = []
    for title, members in tables(groups).items():
        headers, rows = cells(members)
        parts.append(latex_table(f"{title}. {CAPTION}", headers, rows, headers.index("seeds") + 1))
    return "\n".join(parts)


def latex_table(
    caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> str:
    head, *body = (" & ".join(map(latex, row)) + r" \\" for row in [headers, *rows])
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(caption)}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(headers) - left)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    DASH: "--",
    '"': r"\textquotedbl{}",
}


def latex(text: str) -> str:
    """Escape text, character by character, so that no replacement meets another one."""
    return "".join(LATEX.get(character, character) for character in str(text).replace("\n", " "))


def to_html(
    groups: Sequence[Group],
    folder: Path,
    matrices: Mapping[str, str] = MappingProxyType({}),
    title: str = "",
    links: str = "",
) -> str:
    """The comparison as one page.

    Args: folder: where it will lie, so that links to the runs' reports are relative. matrices: HTML
        of the methods against the attacks, by the title of the table that they stand above. title:
        by default how many runs it compares. links: HTML above the title.
    """
    records = [record for group in groups for record in group.records]
    parts = [
        links or '<p class="kicker">Unrelearn</p>',
        f"<h1>{escape(title or f'Comparison of {len(records)} runs')}</h1>",
        '<p class="lead">Can what a diffusion model has unlearned be brought back?</p>',
    ]
    for table, members in tables(groups).items():
        headers, rows = cells(members)
        runs = headers.index("seeds")
        for row, group in zip(rows, members, strict=True):
            row[runs] = TableCell(row[runs], f"#{group.first['name']}")
        left = tuple(range(runs + 1))
        parts += [
            f"<h2>{escape(table)}</h2>",
            matrices.get(table, ""),
            html_table(headers, rows, left=left),
        ]
        boxes = [figure_box(drawing, name) for name, drawing in recovery_figures(members)]
        parts.append(f'<div class="pair">{"".join(boxes)}</div>' if boxes else "")
    note = (
        "Bands in the figures: the same intervals. Dashed: the original model. Every other"
        " measurement: table.csv."
    )
    parts.append(f'<p class="soft">{escape(CAPTION)} {escape(note)}</p>')
    if unfinished := troubles(groups):
        parts += [
            "<h2>Runs that did not finish</h2><ul>",
            *(f"<li>{escape(line)}</li>" for line in unfinished),
            "</ul>",
        ]
    parts.append(
        "<h2>Runs</h2>"
        + run_table(sorted(records, key=lambda record: record["name"]), folder, anchors=True)
    )
    return document(title or "Comparison of runs", parts, kind="comparison")


def run_table(records: Sequence[dict], folder: Path, anchors: bool = False) -> str:
    """What is behind the numbers: the runs, the artefacts whose models they measured, the commands
    that made them.
    """
    rows = [
        [
            TableCell(record["name"], _page_of(record, folder)),
            record["status"],
            *(artefact(record, model) for model in ("unlearned", "attacked")),
            TableCell(record.get("command") or DASH, code=True),
        ]
        for record in records
    ]
    headers = ["run", "status", "unlearned model", "attacked model", "command"]
    return html_table(
        headers,
        rows,
        left=tuple(range(5)),
        ids=[record["name"] for record in records] if anchors else (),
    )


def artefact(record: dict, model: str) -> str:
    """``unlearn/e1d3bd2ef94cd53c (raw)``, below ``artifacts/``; of an attack that of its last
    budget or level.
    """
    return (row_of(record, model) or {}).get("weights") or DASH


def _page_of(record: dict, folder: Path) -> str:
    """Relative address of the run's own page, if it lies on this disk."""
    page = Path(record.get("path") or "").parent / FILE_NAME
    if not record.get("path") or not page.is_file():
        return ""
    return Path(os.path.relpath(page, Path(folder).resolve())).as_posix()


# ---- figures
# --------------------------------------------------------------------------------------------------


def recovery_figures(groups: Sequence[Group]) -> list[tuple[str, object]]:
    """(title, figure) for every forgotten class, attack and guidance of one table, DiMRA first; one
    line per method.

    Of runs that differ only in the attack's learning rate a line shows, for each seed and budget,
    the strongest.
    """
    panels: dict[tuple, list[Group]] = {}
    for group in groups:
        if (attack := group.first["attack"]) != "none":
            panel = (
                tuple(group.first["forget_classes"]),
                attack != "dimra",
                attack,
                group.attack_note,
            )
            panels.setdefault(panel, []).append(group)
    figures = []
    for (*_, attack, settings), members in sorted(panels.items()):
        lines = gathered(members, lambda group: (group.first["method"], group.method_note)).values()
        rates = max(map(len, lines))
        for guidance in guidances(pooled(record for group in members for record in group.records)):
            curves = [
                curve for alike in lines if (curve := seed_curve(alike, guidance)) is not None
            ]
            made = [curve.reference for curve in curves if curve.reference is not None]
            if curves:
                # all methods start from one original model per seed: one line, their mean, even if
                # seeds are missing
                mean = float(np.mean(made)) if made else None
                curves = [replace(curve, reference=mean) for curve in curves]
                named = display_name(attack) + (f" ({settings})" if settings else "")
                name = (
                    f"{named}, {forgotten(members[0].first)}, guidance {guidance_label(guidance)}"
                )
                name += f", strongest of {rates} learning rates" if rates > 1 else ""
                figures.append((name, recovery_figure(curves, name)))
    return figures


def seed_curve(alike: Sequence[Group], guidance: str) -> Curve | None:
    """The mean recovery curve of the finished seeds with its band (the ends of `Estimate`)."""
    group, points = alike[0], []
    for records in gathered(
        (record for group in alike for record in group.finished), lambda record: record["seed"]
    ).values():
        points.append({})
        for replicates in gathered(records, learning_rate).values():
            curves = [dict(recovery_points(record, guidance)) for record in replicates]
            for budget in curves[0]:
                value = averaged([curve.get(budget) for curve in curves])
                points[-1][budget] = max(points[-1].get(budget, value), value, key=number)
    budgets = (
        [budget for budget in points[0] if all(budget in seed for seed in points)] if points else []
    )
    if len(budgets) < 2:
        return None
    means = [estimate([seed[budget] for seed in points]) for budget in budgets]
    middle, low, high = ([getattr(e, end) for e in means] for end in ("mean", "low", "high"))
    reference = group.estimates.get(f"original_forget_accuracy@{guidance}")
    note = f" ({group.method_note})" if group.method_note else ""
    label = f"{display_name(group.first['method'])}{note}, n={len(points)}"
    return Curve(
        label,
        budgets,
        middle,
        low,
        high,
        reference and reference.mean,
        group.style,
        attack_unit(group.first),
    )


RENDERERS: dict[str, Callable[[Sequence[Group]], str]] = {
    "table.csv": to_csv,
    "table.tex": to_latex,
}
