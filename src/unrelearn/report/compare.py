"""Many runs side by side: collect the records, average over seeds, never over protocols; Markdown, CSV, LaTeX, HTML.

A *group* is one row of the comparison: the same data, model, oracle, protocol, forgotten classes, method and attack,
with the same settings, under any number of seeds. Runs that differ in how they were *measured* go to separate tables;
runs of one method or attack with different settings go to separate rows. Either way the difference is named.
"""

import csv
import io
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from rich.console import Console
from rich.markdown import Markdown
from scipy import stats

from unrelearn.report import (
    DASH,
    QUALITY,
    attack_unit,
    display_name,
    foreign_features,
    forgotten,
    guidance_label,
    guidances,
    interval,
    main_guidance,
    measured,
    number,
    protocol_name,
    read_record,
    retained_guidance,
    row_of,
    takes_steps,
)
from unrelearn.report.figures import MODELS, Curve, recovery_figure, recovery_points
from unrelearn.report.page import FILE_NAME, document, escape, figure_box, html_table

log = logging.getLogger(__name__)

# config sections
MEASUREMENT = ("dataset", "model", "precision", "oracle", "protocol", "sampler", "eval")  # a table holds one of each
TREATMENT = ("method", "attack")  # a row holds one of each
CONTROLS = ("original", "row_swap", "retrain", "random_weights")  # these rows come first
IGNORED = {"_target_", "download", "root", "verify"}  # says which code, which the names say, or how data arrived
MAX_NAMED = 4  # settings spelled out when two protocols differ
FULL_WIDTH = 150  # a narrower terminal gets fewer columns; the files have all


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds with its 95 % t-interval; for one seed its own interval over images, where it has one."""

    mean: float
    low: float | None
    high: float | None
    n: int
    reached: int | None = None  # steps to half: how many of the n got there (the mean is over those)


@dataclass
class Group:
    """One row of the comparison. `estimates` maps a column, e.g. ``attacked_forget_accuracy@1.0``, to its Estimate."""

    records: list[dict]
    measurement: dict
    treatment: dict
    num_images: int | None
    budgets: tuple[float, ...]  # optimiser steps, or levels in the order in which they were measured
    table: str = ""  # title of the table it belongs to, naming what sets that table apart
    note: str = ""  # settings that set it apart from another row of the same name
    style: int = 0  # colour and marker: a method looks the same in every figure
    estimates: dict[str, Estimate] = field(default_factory=dict)

    @property
    def first(self) -> dict:
        return self.records[0]

    @property
    def finished(self) -> list[dict]:
        return [record for record in self.records if record["status"] == "finished"]

    def count(self, status: str) -> int:
        return sum(record["status"] == status for record in self.records)

    @property
    def seeds(self) -> str:
        """``n=3``, ``n=2, 1 diverged``."""
        counts = [f"n={len(self.finished)}"] if self.finished else []
        return ", ".join(counts + [f"{n} {status}" for status in ("diverged", "failed") if (n := self.count(status))])


# ---- collecting -----------------------------------------------------------------------------------------------------


def collect(paths: Iterable[Path]) -> list[dict]:
    """Every ``result.json`` at or below the paths, the newest of each name, sorted by name.

    A broken file is named in a warning and skipped. Each record gains ``"path"``, the file it came from.
    """
    files = {file.resolve() for path in map(Path, paths) for file in (path.rglob("result.json") if path.is_dir() else [path])}
    newest: dict[str, dict] = {}
    for file in sorted(files):
        try:
            record = {**read_record(file), "path": str(file)}
        except ValueError as error:
            log.warning("skipped %s: %s", file, error)
            continue
        newest[record["name"]] = max(record, newest.get(record["name"], record), key=_created)
    return [newest[name] for name in sorted(newest)]


def _created(record: dict) -> str:
    return str(record.get("created") or "")  # ISO 8601 in UTC sorts as text


# ---- grouping -------------------------------------------------------------------------------------------------------


def comparison(records: Sequence[dict]) -> list[Group]:
    """Group the records and average each group over its seeds; sorted as the tables show them."""
    groups: list[Group] = []
    # Finished runs first: they show the protocol in full, and a run that broke off joins the group it fits.
    for record in sorted(records, key=lambda r: (r["status"] != "finished", r["seed"], r["name"])):
        group = next((group for group in groups if _belongs(record, group)), None)
        if group is None:
            measurement, treatment = fingerprint(record, MEASUREMENT), fingerprint(record, TREATMENT)
            groups.append(Group([record], measurement, treatment, _num_images(record), _budgets(record)))
        else:
            group.records.append(record)
    for group in groups:
        group.records = _one_per_seed(group.records)
        group.estimates = estimates(group)
    for group in groups:
        alike = [(o.measurement, o.num_images) for o in [group, *groups] if _title(o) == _title(group)]
        unlike = difference(_counted("num_images", alike))
        group.table = _title(group) + (f" ({unlike})" if unlike else "")
    for group in groups:
        alike = [(o.treatment, o.budgets) for o in [group, *groups] if _row_name(o) == _row_name(group)]
        group.note = difference(_counted("measured_budgets", alike))
    groups.sort(key=_order)
    methods = list(dict.fromkeys((group.first["method"], group.note) for group in groups))
    for group in groups:
        group.style = methods.index((group.first["method"], group.note))
    return groups


def fingerprint(record: dict, sections: Sequence[str]) -> dict[str, str]:
    """The settings that decide what the numbers mean: ``{"sampler.num_inference_steps": "20", ...}``."""
    flat: dict[str, str] = {}
    for section in sections:
        _flatten(section, record["config"].get(section), flat)
    return flat


def _flatten(prefix: str, value, flat: dict[str, str]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "_target_" and prefix.startswith(("method.", "attack.")):  # an object in it: nothing else names it
                flat[prefix] = json.dumps(inner.rpartition(".")[2])
            elif key not in IGNORED:
                _flatten(f"{prefix}.{key}", inner, flat)
    else:
        flat[prefix] = json.dumps(value, sort_keys=True)


def _belongs(record: dict, group: Group) -> bool:
    """Same names, same settings, same numbers of images and budgets as far as both got to show them."""
    names = ("dataset", "class_names", "protocol", "method", "attack", "forget_classes")
    return (
        all(record.get(name) == group.first.get(name) for name in names)
        and fingerprint(record, MEASUREMENT) == group.measurement
        and fingerprint(record, TREATMENT) == group.treatment
        and (record["status"] != "finished"
             or (_num_images(record), _budgets(record)) == (group.num_images, group.budgets))
    )  # fmt: skip


def _num_images(record: dict) -> int | None:
    guidance = main_guidance(record)
    counts = [measured(row, "forget_accuracy", guidance) for row in record["rows"]]
    return next((count["n"] for count in counts if count and count.get("n")), None)


def _budgets(record: dict) -> tuple[float, ...]:
    return tuple(row["step"] for row in record["rows"] if row["model"] == "attacked" and row.get("step") is not None)


def _one_per_seed(records: list[dict]) -> list[dict]:
    """A repeated run is not another seed: keep the finished one, then the newest."""
    best: dict[int, dict] = {}
    for record in sorted(records, key=lambda r: (r["status"] == "finished", _created(r))):
        best[record["seed"]] = record
    return [best[seed] for seed in sorted(best)]


def _title(group: Group) -> str:
    model = json.loads(group.measurement.get("model.name", '""'))
    parts = [group.first["dataset"], f"model {model}" if model else "", f"protocol {protocol_name(group.first)}"]
    return ", ".join(part for part in parts if part)


def _row_name(group: Group) -> tuple:
    return (group.table, tuple(group.first["forget_classes"]), group.first["method"], group.first["attack"])


def _counted(name: str, alike: Sequence[tuple[dict[str, str], object]]) -> list[dict[str, str]]:
    """The settings, each with what was counted as one more of them; a run that counted nothing does not differ in it."""
    first_count = alike[0][1]
    return [{**settings, name: json.dumps(first_count and (count or first_count))} for settings, count in alike]


def difference(alike: Sequence[dict[str, str]]) -> str:
    """What the first of these has in the settings in which they are not all alike: ``sampler.num_inference_steps=20``."""
    own, *others = alike
    unlike = sorted(key for key in set().union(own, *others) if any(o.get(key) != own.get(key) for o in others))
    named = [f"{key}={own.get(key, 'absent')}" for key in unlike]
    if len(named) > MAX_NAMED:  # the checksum keeps apart what differs only in settings that are not spelled out
        named[MAX_NAMED:] = [f"and {len(named) - MAX_NAMED} more: {zlib.crc32(str(named).encode()):08x}"]
    return ", ".join(named)


def place(method: str) -> tuple:
    """Sorts methods: the controls first, in their order."""
    return (CONTROLS.index(method) if method in CONTROLS else len(CONTROLS), method)


def _order(group: Group) -> tuple:
    return (group.table, group.first["forget_classes"], place(group.first["method"]), group.first["attack"], group.note)


# ---- averaging ------------------------------------------------------------------------------------------------------


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of n >= 2 values by Student's t with n - 1 degrees of freedom."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def estimate(values: Sequence) -> Estimate | None:
    """Average measurements (numbers, or accuracies with their intervals) over seeds; None where none was made."""
    made = [value for value in values if number(value) is not None]
    if not made:
        return None
    if len(made) == 1:
        _, low, high = interval(made[0]) or (None, None, None)
        return Estimate(number(made[0]), low, high, 1)
    means = [number(value) for value in made]
    return Estimate(float(np.mean(means)), *t_interval(means), len(means))


def estimates(group: Group) -> dict[str, Estimate]:
    """Every column of one group. A diverged run counts where it has a measurement, and only there."""
    records, pooled, found = group.records, _pooled(group.records), {}

    def values(model: str, metric: str, g: str) -> list:
        return [measured(_row(record, model, group.budgets), metric, g) for record in records]

    for metric in ("forget_accuracy", "retain_accuracy"):
        for g in guidances(pooled, metric):
            found |= {f"{model}_{metric}@{g}": estimate(values(model, metric, g)) for model in MODELS}
    for q in QUALITY:
        name = "_".join(filter(None, (q.name, foreign_features(pooled, q.metric))))
        for g in guidances(pooled, q.metric):
            numbers = {model: values(model, q.metric, g) for model in MODELS}
            found |= {f"{model}_{name}@{g}": estimate([number(v, q.field) for v in made]) for model, made in numbers.items()}
            if q.beside:  # no matter of which model: it is of real images
                found[f"{name}_{q.beside}@{g}"] = estimate([number(v, q.beside) for v in numbers["original"]])
    for g in guidances(pooled):
        curves = [curve for record in records if (curve := (record.get("recovery") or {}).get(g))]
        found[f"area@{g}"] = estimate([curve.get("area") for curve in curves])
        if takes_steps(group.first):
            found[f"steps_to_half@{g}"] = _steps_to_half([number(curve.get("steps_to_half")) for curve in curves])
    return {column: value for column, value in found.items() if value is not None}


def _pooled(records: Iterable[dict]) -> dict:
    """One record with the rows of all: for what was measured in any of them."""
    return {"rows": [row for record in records for row in record["rows"]]}


def _row(record: dict, model: str, budgets: tuple[float, ...]) -> dict | None:
    """The row to average; an attack that broke off early has none at the last budget."""
    row = row_of(record, model)
    early = model == "attacked" and budgets and row is not None and row.get("step") != budgets[-1]
    return None if early else row


def _steps_to_half(values: list[float | None]) -> Estimate | None:
    """Seeds that never got to half have no number to average: count them beside the mean of the others."""
    made = [value for value in values if value is not None]
    if len(made) < len(values):
        return Estimate(float(np.mean(made)) if made else float("inf"), None, None, len(values), len(made))
    return replace(estimate(made), reached=len(made)) if made else None


# ---- rendering ------------------------------------------------------------------------------------------------------


def cells(groups: Sequence[Group], brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of one table as text; `brief` keeps the columns that fit a narrow terminal."""
    pooled = _pooled(record for group in groups for record in group.records)
    scales, main, retain = guidances(pooled), main_guidance(pooled), retained_guidance(pooled)
    columns = [  # header, and how a group fills it
        (f"{model} %\n(s={guidance_label(g)})", partial(_text, f"{model}_forget_accuracy@{g}", 100, 1))
        for g in ([main] if brief else scales)
        for model in ("unlearned", "attacked")
    ]
    half = ("steps\nto half", partial(_half_text, main))
    columns += [half] if brief else [
        ("area", partial(_text, f"area@{main}", 1, 3)), half,
        *((f"{short}\n{when}", partial(_text, f"{model}_{metric}@{retain}", scale, digits))
          for metric, short, scale, digits in (("retain_accuracy", "retain %", 100, 1), _distance(groups, retain))
          for model, when in (("unlearned", "before"), ("attacked", "after"))),
    ]  # fmt: skip
    noted = any(group.note for group in groups)
    headers = ["forgotten", "method", "attack", *(["settings"] if noted else []), "seeds", *(h for h, _ in columns)]
    rows = []
    for group in groups:
        row = [forgotten(group.first), display_name(group.first["method"]), display_name(group.first["attack"])]
        row += [group.note or DASH] if noted else []
        rows.append([*row, group.seeds, *(fill(group) for _, fill in columns)])
    return headers, rows


def _distance(groups: Sequence[Group], guidance: str) -> tuple[str, str, int, int]:
    """Column, header, scale and digits: FID if every row that has a distance has it, else that in the oracle's features."""
    have = {metric: {i for i, group in enumerate(groups) if any(f"{m}_{metric}@{guidance}" in group.estimates for m in MODELS)}
            for metric in ("fid", "fd_oracle")}  # fmt: skip
    return ("fid", "FID", 1, 1) if have["fid"] and have["fid"] >= have["fd_oracle"] else ("fd_oracle", "FD", 1, 2)


def _text(column: str, scale: float, digits: int, group: Group) -> str:
    """``1.2 ± 0.9`` over seeds, ``2.0 [1.0, 4.0]`` for one."""
    value = group.estimates.get(column)
    if value is None:
        return DASH
    text = f"{scale * value.mean:.{digits}f}"
    if value.n > 1:
        text += f" ± {scale * (value.high - value.mean):.{digits}f}"
    elif value.low is not None:
        text += f" [{scale * value.low:.{digits}f}, {scale * value.high:.{digits}f}]"
    return text + (f" (n={value.n})" if value.n != len(group.finished) else "")


def _half_text(guidance: str, group: Group) -> str:
    value = group.estimates.get(f"steps_to_half@{guidance}")
    if value is None:
        return DASH
    if value.reached == 0:
        return f"> {group.budgets[-1]}" if group.budgets else "not reached"
    if value.reached < value.n:
        return f"{value.mean:.0f} ({value.reached} of {value.n})"
    return f"{value.mean:.0f}" + (f" ± {value.high - value.mean:.0f}" if value.n > 1 else "")


CAPTION = (
    "Forget accuracy: share of images generated under the forgotten class that the oracle still calls by it, for the "
    "unlearned model and after the attack's last budget (or level), at guidance scale s. Mean ± half of the 95 % t-interval over "
    "n seeds; for n=1 the value with its 95 % Wilson interval over images. Equal values in every seed give ± 0, which "
    "says nothing about the images. Before and after mean the attack. Area: mean forget "
    "accuracy over the budget axis; steps to half: budget at which it reaches half of the original model's. These two, "
    "retain accuracy and FID, or FD (the Fréchet distance in the oracle's features, where not every run has FID), are at "
    "s=1 where that was measured."
)


def tables(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Groups by the title of their table: numbers of two protocols never share one."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.table, []).append(group)
    return found


def troubles(groups: Sequence[Group]) -> list[str]:
    """One line per run that did not finish."""
    return [
        f"{record['name']}: {record['status']}" + (f" ({record['error']})" if record.get("error") else "")
        for group in groups
        for record in group.records
        if record["status"] != "finished"
    ]


def to_markdown(groups: Sequence[Group], brief: bool = False) -> str:
    parts = []
    for title, members in tables(groups).items():
        headers, rows = cells(members, brief)
        left = headers.index("seeds") + 1
        rule = ["---"] * left + ["---:"] * (len(headers) - left)
        lines = [list(map(markdown, headers)), rule, *(list(map(markdown, row)) for row in rows)]
        parts.append(f"### {markdown(title)}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    parts.append(CAPTION)
    if unfinished := troubles(groups):
        parts.append("Runs that did not finish:\n\n" + "\n".join(f"- {markdown(line)}" for line in unfinished))
    return "\n\n".join(parts) + "\n"


def show(records: Sequence[dict], console: Console | None = None) -> None:
    """Print the comparison of these records: all columns if they fit, else those that matter most."""
    console = console or Console()
    console.print(Markdown(to_markdown(comparison(records), brief=console.width < FULL_WIDTH)))


def markdown(text: str) -> str:
    """Escape what would end a cell or start markup; underscores inside words are safe and stay readable."""
    return "".join("\\" + c if c in "\\|<*`" else c for c in str(text).replace("\n", " "))


def to_csv(groups: Sequence[Group]) -> str:
    """One line per group and column, raw numbers (accuracies as fractions); a group without numbers has one line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ("table", "protocol", "dataset", "forgotten", "method", "attack", "settings", "seeds", "diverged", "failed")
    writer.writerow([*names, "measurement", "guidance", "mean", "low", "high", "n", "reached"])
    for group in groups:
        first, seeds = group.first, " ".join(str(record["seed"]) for record in group.finished)
        row = [group.table, protocol_name(first), first["dataset"], " ".join(map(str, first["forget_classes"])),
               first["method"], first["attack"], group.note, seeds, group.count("diverged"), group.count("failed")]  # fmt: skip
        for column, value in group.estimates.items():
            writer.writerow([*row, *column.split("@"), value.mean, value.low, value.high, value.n, value.reached])
        if not group.estimates:
            writer.writerow([*row, *[""] * 7])
    return buffer.getvalue()


def to_latex(groups: Sequence[Group]) -> str:
    """One booktabs table per protocol; needs ``\\usepackage{booktabs,graphicx}``."""
    parts = []
    for title, members in tables(groups).items():
        headers, rows = cells(members)
        head, *body = (" & ".join(map(latex, row)) + r" \\" for row in [headers, *rows])
        left = headers.index("seeds") + 1
        parts.append("\n".join([
            r"\begin{table}", r"\centering", rf"\caption{{{latex(title)}. {latex(CAPTION)}}}", r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(headers) - left)}}}",
            r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}", "",
        ]))  # fmt: skip
    return "\n".join(parts)


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", DASH: "--", '"': r"\textquotedbl{}",
}  # fmt: skip


def latex(text: str) -> str:
    """Escape text, character by character, so that no replacement meets another one."""
    return "".join(LATEX.get(character, character) for character in str(text).replace("\n", " "))


def to_html(groups: Sequence[Group], folder: Path, matrices: Mapping[str, str] = MappingProxyType({})) -> str:
    """The comparison as one page.

    Args:
        folder: where it will lie, so that links to the runs' reports are relative.
        matrices: HTML of the methods against the attacks, by the title of the table that they stand above.
    """
    records = [record for group in groups for record in group.records]
    parts = [
        '<p class="kicker">Unrelearn</p>',
        f"<h1>{escape(f'Comparison of {len(records)} runs')}</h1>",
        f'<p class="lead">{escape("Can what a diffusion model has unlearned be brought back?")}</p>',
    ]
    for title, members in tables(groups).items():
        headers, rows = cells(members)
        left = tuple(range(headers.index("seeds") + 1))
        parts += [f"<h2>{escape(title)}</h2>", matrices.get(title, ""), html_table(headers, rows, left=left)]
        boxes = [figure_box(drawing, name) for name, drawing in recovery_figures(members)]
        parts.append(f'<div class="pair">{"".join(boxes)}</div>' if boxes else "")
    note = "Bands in the figures: the same intervals. Dashed: the original model. Every other measurement: table.csv."
    parts.append(f'<p class="soft">{escape(CAPTION)} {escape(note)}</p>')
    if unfinished := troubles(groups):
        parts += ["<h2>Runs that did not finish</h2><ul>", *(f"<li>{escape(line)}</li>" for line in unfinished), "</ul>"]
    parts.append("<h2>Runs</h2>" + _runs(records, folder))
    return document("Comparison of runs", parts, kind="comparison")


def _runs(records: list[dict], folder: Path) -> str:
    rows = "".join(
        f'<tr><td>{_link(record, folder)}</td><td class="left">{escape(record["status"])}</td>'
        f'<td class="left"><code>{escape(record.get("command") or DASH)}</code></td></tr>\n'
        for record in sorted(records, key=lambda r: r["name"])
    )
    head = '<tr><th>run</th><th class="left">status</th><th class="left">command</th></tr>'
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>\n{rows}</tbody></table></div>'


def _link(record: dict, folder: Path) -> str:
    page = Path(record.get("path") or "").parent / FILE_NAME
    if not record.get("path") or not page.is_file():
        return escape(record["name"])
    target = Path(os.path.relpath(page, Path(folder).resolve())).as_posix()
    return f'<a href="{escape(target)}">{escape(record["name"])}</a>'


# ---- figures --------------------------------------------------------------------------------------------------------


def recovery_figures(groups: Sequence[Group]) -> list[tuple[str, object]]:
    """(title, figure) for every forgotten class, attack and guidance of one table; one line per method."""
    panels: dict[tuple, list[Group]] = {}
    for group in groups:
        if group.first["attack"] != "none":
            panels.setdefault((tuple(group.first["forget_classes"]), group.first["attack"]), []).append(group)
    figures = []
    for (_, attack), members in sorted(panels.items()):
        for guidance in guidances(_pooled(record for group in members for record in group.records)):
            curves = [curve for group in members if (curve := seed_curve(group, guidance)) is not None]
            made = [curve.reference for curve in curves if curve.reference is not None]
            if curves:
                # all methods start from one original model per seed: one line, their mean, even if seeds are missing
                mean = float(np.mean(made)) if made else None
                curves = [replace(curve, reference=mean) for curve in curves]
                name = f"{display_name(attack)}, {forgotten(members[0].first)}, guidance {guidance_label(guidance)}"
                figures.append((name, recovery_figure(curves, name)))
    return figures


def seed_curve(group: Group, guidance: str) -> Curve | None:
    """The mean recovery curve of the finished seeds with its t-band, or one seed's with its Wilson band."""
    points = [dict(recovery_points(record, guidance)) for record in group.finished]
    budgets = [budget for budget in points[0] if all(budget in seed for seed in points)] if points else []
    if len(budgets) < 2:
        return None
    averaged = [estimate([seed[budget] for seed in points]) for budget in budgets]
    middle, low, high = ([getattr(e, end) for e in averaged] for end in ("mean", "low", "high"))
    reference = group.estimates.get(f"original_forget_accuracy@{guidance}")
    label = display_name(group.first["method"]) + (f" ({group.note})" if group.note else "") + f", n={len(points)}"
    return Curve(label, budgets, middle, low, high, reference and reference.mean, group.style, attack_unit(group.first))


RENDERERS: dict[str, Callable[[Sequence[Group]], str]] = {
    "table.md": to_markdown,
    "table.csv": to_csv,
    "table.tex": to_latex,
}
