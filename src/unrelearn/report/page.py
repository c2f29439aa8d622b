"""One record as one HTML file: images inside, styles inside, no script, nothing fetched. It opens
from disk.
"""

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unrelearn.report import (
    DASH,
    display_name,
    forgotten,
    guidance_label,
    guidances,
    interval,
    main_guidance,
    measured,
    percent,
    protocol_name,
    retained_guidance,
    row_label,
    row_of,
    sentence,
    takes_steps,
    write_atomically,
)
from unrelearn.report.figures import (
    MODEL_STYLE,
    MODELS,
    Strip,
    curves_of,
    recovery_figure,
    replacement_figure,
    retain_figure,
    sample_strips,
    strip_png,
    svg,
)
from unrelearn.report.table import (
    natural_width,
    oracle_line,
    recovery_line,
    stage_cells,
    stage_line,
    summary_caption,
    summary_cells,
    verdict,
)

FILE_NAME = "report.html"  # beside result.json; the comparison links to it
TABLE_WIDTH = 127  # characters that the page holds without scrolling sideways, in a wide font
FORGOTTEN = ("forget_accuracy", "nothing", "other_sampler", "entropy", "agreement")
DISTANCES = ("retain_accuracy", "fid", "fd_oracle", "kid", "kid_oracle", "inception_score")
MANIFOLDS = ("precision_recall", "density_coverage")

CSS = """
:root { --ink: #1c1c1c; --soft: #5c5c5c; --line: #dcdcdc; --wash: #f6f6f4; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 66rem; background: #fff; color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
body.comparison { max-width: 84rem; }
.comparison table { font-size: .85rem; } .comparison th, .comparison td { padding: .3rem .4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-top: .7rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
h2, h3, li { overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
a { color: #0062a3; }
.kicker { color: var(--soft); margin: 0; font-size: .9rem; }
.lead { font-size: 1.15rem; line-height: 1.45; }
.soft, figcaption, caption { color: var(--soft); font-size: .88rem; }
.badge { display: inline-block; padding: 0 .5em; border: 1px solid currentColor; border-radius: 1em; font-size: .8rem; }
.badge.finished { color: #00664b; } .badge.diverged, .badge.failed { color: #a33e00; font-weight: 600; }
.numbers { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; padding: 0; list-style: none; }
.numbers li { flex: 1 1 9rem; padding: .6rem .9rem; background: var(--wash); border-left: 5px solid; }
.numbers b { display: block; font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.numbers span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; font-weight: 600; border-bottom: 1.5px solid var(--ink); }
tbody th { font-weight: 400; border-bottom: 1px solid var(--line); }
.left, th:first-child, td:first-child { text-align: left; }
.comparison th:first-child, .comparison td:first-child { position: sticky; left: 0; background: #fff; }
td a { color: inherit; text-decoration-color: #b5b5b5; text-underline-offset: .2em; }
td:first-child a { color: #0062a3; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure img { display: block; width: 100%; max-width: 34rem; height: auto; }
.wide figure { overflow-x: auto; } .wide img { width: auto; max-width: 60rem; margin-bottom: 1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.5rem; }
.strips { display: grid; grid-template-columns: 8rem 1fr; gap: .3rem .6rem; align-items: center; max-width: 58rem;
  break-inside: avoid; }
.strips > span { font-size: .9rem; text-align: right; }
.strips img { display: block; width: 100%; height: auto; }
.strips .absent { text-align: left; color: var(--soft); padding: .4rem .6rem; background: var(--wash); }
.names { display: grid; color: var(--soft); font-size: .75rem; text-align: center; }
.names i { font-style: normal; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .35rem 1rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; max-width: 44rem; }
pre { margin: .5rem 0; padding: .7rem .9rem; background: var(--wash); border: 1px solid var(--line); font-size: .85rem;
  line-height: 1.4; white-space: pre-wrap; overflow-wrap: anywhere; }
pre.command { user-select: all; -webkit-user-select: all; }
summary { cursor: pointer; }
@media (max-width: 40rem) {
  body { padding: 1rem 1rem 3rem; }
  .numbers li { flex-basis: 100%; display: flex; align-items: baseline; gap: .2rem .7rem; flex-wrap: wrap; }
  .numbers b { font-size: 1.5rem; order: 2; }
  .numbers span:last-child { order: 3; }
  .strips { grid-template-columns: 1fr; gap: .15rem; }
  .strips > span { text-align: left; margin-top: .4rem; }
  .strips > span:empty { display: none; }
  .names { font-size: .55rem; } .names i { text-overflow: clip; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
}
@page wide { size: A4 landscape; margin: 10mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  body.comparison { page: wide; max-width: none; } .comparison table { font-size: 7pt; }
  .comparison th, .comparison td { padding: .1rem .2rem; } td a { text-decoration: none; }
  td code { white-space: normal; overflow-wrap: anywhere; }
  .wide figure { overflow: visible; } .wide img { max-width: 100%; max-height: 150mm; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: .15rem .35rem; }
  h2, h3 { break-after: avoid; } .scroll { break-before: avoid; }
  .numbers li, pre { background: none; border: 1px solid var(--line); }
  .pair { grid-template-columns: 1fr 1fr; gap: .8rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def write_page(record: dict, outputs: Path, destination: Path) -> None:
    """Write the record's report.

    Args:
        outputs: the folder that the record's sample paths are relative to.
        destination: the HTML file to write or replace.
    """
    attack = (
        "no attack"
        if record["attack"] == "none"
        else f"attacked by {display_name(record['attack'])}"
    )
    title = sentence(
        f"{display_name(record['method'])}, {attack}: {record['dataset']}, {forgotten(record)}"
    )
    parts = [
        f'<p class="kicker">{escape(record["name"])} · seed {escape(record["seed"])} · '
        f"protocol {escape(protocol_name(record))} · "
        f'{escape(_when(record))} <span class="badge {escape(record["status"])}">'
        f"{escape(record['status'])}</span></p>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(verdict(record))}</p>',
        f"<p>{escape(record['error'])}</p>" if record.get("error") else "",
        _numbers(record),
        _table(record),
        samples_section(record, Path(outputs)),
        _curves(record),
        _classes(record),
        _protocol(record),
        _stages(record),
        _command(record),
    ]
    write_atomically(Path(destination), document(title, parts))


# ---- building blocks, also used by the comparison
# -------------------------------------------------------------------


def escape(value) -> str:
    """Text for HTML; a number keeps its percent sign or its name on its line."""
    return html.escape(str(value)).replace(" %", "&nbsp;%").replace(" = ", "&nbsp;=&nbsp;")


def document(title: str, parts: list[str], kind: str = "run") -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body class='{kind}'>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


@dataclass(frozen=True)
class TableCell:
    """A cell that is more than text."""

    text: str
    target: str = ""  # what it links to
    heat: str = ""  # its background
    code: bool = False


def html_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str | TableCell]],
    left: tuple[int, ...] = (0,),
    ids: Sequence[str] = (),
) -> str:
    """A table in a box that scrolls by itself, so that the page never does sideways.

    Args:
        left: columns that are flush left; the others are flush right.
        ids: of the rows, for links to them.
    """

    def cell(tag: str, index: int, shown: str | TableCell) -> str:
        made = shown if isinstance(shown, TableCell) else TableCell(shown)
        text = escape(made.text).replace("\n", "<br>")
        text = f"<code>{text}</code>" if made.code else text
        text = f'<a href="{escape(made.target)}">{text}</a>' if made.target else text
        side = ' class="left"' if index in left else ""
        heat = f' style="background: {made.heat}"' if made.heat else ""
        return f"<{tag}{side}{heat}>{text}</{tag}>"

    head = "".join(cell("th", i, text) for i, text in enumerate(headers))
    body = "".join(
        "<tr"
        + (f' id="{escape(ids[n])}"' if ids else "")
        + ">"
        + "".join(cell("td", i, text) for i, text in enumerate(row))
        + "</tr>\n"
        for n, row in enumerate(rows)
    )
    return (
        "<div"
        f' class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
    )


def image(data: bytes, kind: str, alt: str) -> str:
    source = base64.b64encode(data).decode()
    return f'<img src="data:image/{kind};base64,{source}" alt="{escape(alt)}">'


def figure_box(drawing, alt: str, caption: str = "") -> str:
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{image(svg(drawing), 'svg+xml', alt)}{note}</figure>"


# ---- sections
# --------------------------------------------------------------------------------------------------


def _when(record: dict) -> str:
    """``2026-11-23 10:00``, as far as the record says."""
    return str(record.get("created") or "").replace("T", " ")[:16]


def _numbers(record: dict) -> str:
    """The three forget accuracies, large."""
    guidance, items = main_guidance(record), []
    for model in MODELS:
        row = row_of(record, model)
        value = interval(measured(row, "forget_accuracy", guidance))
        if value is not None:
            ends = f"95 % interval {100 * value[1]:.1f} to {100 * value[2]:.1f}"
            items.append(
                '<li style="border-color:'
                f' {MODEL_STYLE[model]["color"]}"><span>{escape(row_label(record, row))}</span>'
                f"<b>{escape(percent(value[0]))}</b><span>{escape(ends)}</span></li>"
            )
    if not items:
        return ""
    label = (
        f"Forget accuracy: images generated under {forgotten(record)} that the oracle calls"
        f" {forgotten(record)}"
    )
    return (
        f'<ul class="numbers">{"".join(items)}</ul>'
        f'<p class="soft">{escape(f"{label}, at guidance {guidance_label(guidance)}.")}</p>'
    )


def _table(record: dict) -> str:
    """Everything in one table; if that is too wide, in two or three: what is forgotten, what is
    retained.
    """
    if not record["rows"]:
        return ""
    for left_out in (
        [()],
        [DISTANCES + MANIFOLDS, FORGOTTEN],
        [DISTANCES + MANIFOLDS, FORGOTTEN + MANIFOLDS, FORGOTTEN + DISTANCES],
    ):
        parts = [summary_cells(record, leave_out=metrics) for metrics in left_out]
        if all(natural_width(*part) <= TABLE_WIDTH for part in parts):
            break
    tables = "".join(html_table(headers, rows) for headers, rows in parts if len(headers) > 1)
    return (
        f"<h2>Measurements</h2>{tables}"
        f'<p class="soft">{escape(summary_caption(record))}</p><p>{escape(oracle_line(record))}</p>'
    )


def samples_section(record: dict, outputs: Path, which: str = "") -> str:
    """Grids before and after; what is not on this disk is said."""
    heading = "<h2>Samples</h2>" + (f"<p>{escape(sentence(which))}.</p>" if which else "")
    scales = sorted(guidances(record), key=lambda g: g != main_guidance(record))
    grids = [
        (f"Generated under {forgotten(record)}, guidance {guidance_label(g)}", strips)
        for g in scales
        if (strips := sample_strips(record, outputs, "forget", g))
    ]
    retain = retained_guidance(record)
    retained = sample_strips(record, outputs, "retain", retain)
    if retained:
        label = f"Generated under retained classes, guidance {guidance_label(retain)}"
        grids.append((label, retained))
    if not grids:
        return f"{heading}<p>The sample files this record names are not on this disk.</p>"
    note = (
        "Every column starts from the same noise in every row. The images are the first ones, not"
        " chosen."
    )
    boxes = "".join(f"<h3>{escape(label)}</h3>{_grid(strips)}" for label, strips in grids)
    return f'{heading}<p class="soft">{note}</p>{boxes}'


def _grid(strips: list[Strip]) -> str:
    cells = []
    names = next(strip.names for strip in strips if strip.images is not None)
    if len(set(names)) > 1:
        row = "".join(f"<i>{escape(name)}</i>" for name in names)
        columns = f"grid-template-columns: repeat({len(names)}, 1fr)"
        cells.append(f'<span></span><div class="names" style="{columns}">{row}</div>')
    for strip in strips:
        cells.append(f"<span>{escape(strip.label)}</span>")
        if strip.images is None:
            cells.append(f'<span class="absent">{escape(strip.missing)}</span>')
        else:
            cells.append(
                image(
                    strip_png(strip),
                    "png",
                    f"{len(strip.images)} images of the {strip.label} model",
                )
            )
    return f'<div class="strips">{"".join(cells)}</div>'


def _curves(record: dict) -> str:
    curves = curves_of(record)
    if not curves:
        return ""
    drawing = recovery_figure(curves, f"What {display_name(record['attack'])} brings back")
    note = (
        "Bands: 95 % Wilson interval over the images of one model. Dashed: the original model at"
        " the same guidance."
    )
    if takes_steps(record):
        note = (
            f"Budget 0 is the unlearned model. {note} Area: mean forget accuracy over the budget"
            " axis. Half: where the curve first reaches half of the original model's forget"
            " accuracy, linearly interpolated."
        )
    text = (
        f'<div><p>{escape(recovery_line(record) or "")}</p><p class="soft">{escape(note)}</p></div>'
    )
    return f'<h2>Recovery</h2><div class="pair">{figure_box(drawing, "Recovery curve")}{text}</div>'


def _classes(record: dict) -> str:
    drawings = (
        ("Replacement classes", replacement_figure(record, main_guidance(record))),
        ("Retain accuracy per class", retain_figure(record, retained_guidance(record))),
    )
    boxes = [figure_box(drawing, alt) for alt, drawing in drawings if drawing is not None]
    return f'<h2>Class by class</h2><div class="pair">{"".join(boxes)}</div>' if boxes else ""


EXPLAINED = {
    "fid": (
        "FID",
        "Fréchet distance between generated and real retained images in Inception features",
    ),
    "fd_oracle": (
        "FD oracle",
        (
            "Fréchet distance between generated and real retained images in the oracle's features."
            " Those are not Inception's: this is no FID, and comparable only within one oracle and"
            " one N"
        ),
    ),
    "kid": (
        "KID",
        (
            "unbiased squared maximum mean discrepancy (cubic kernel) in Inception features; can be"
            " below 0"
        ),
    ),
    "kid_oracle": (
        "KID oracle",
        (
            "unbiased squared maximum mean discrepancy (cubic kernel) in the oracle's features; can"
            " be below 0"
        ),
    ),
    "inception_score": (
        "IS",
        (
            "Inception Score: sure predictions of single images, and many different ones over all;"
            " it grows with N, so read it beside that of real images"
        ),
    ),
    "precision_recall": (
        "Precision, recall",
        (
            "share of generated images within the manifold of the real ones, and of real ones"
            " within that of the generated; a manifold reaches from each image to its k-th"
            " neighbour"
        ),
    ),
    "density_coverage": (
        "Density, coverage",
        (
            "how many of the real images' balls a generated image lies in, divided by k "
            "(1 is expected of real images), and share of balls that hold a generated image"
        ),
    ),
}


def _sizes(record: dict, metric: str) -> str:
    """``; N = 450, reference: 1168 real training images`` of a measurement; nothing if it was not
    made.
    """
    values = (measured(row, metric, retained_guidance(record)) for row in record["rows"])
    found = next((value for value in values if value), {})
    words = {
        "n": "N = {}",
        "k": "k = {}",
        "features": "features: {}",
        "reference_n": "reference: {} real training images",
    }
    return (
        "; " + ", ".join(text.format(found[key]) for key, text in words.items() if key in found)
        if found
        else ""
    )


def _protocol(record: dict) -> str:
    settings = {k: v for k, v in (record["config"].get("protocol") or {}).items() if k != "name"}
    items = [
        ("Protocol", protocol_name(record) + (f": {_settings(settings)}" if settings else "")),
        ("Data", f"{record['dataset']}; forgotten: {forgotten(record)}; seed {record['seed']}"),
        (
            "Oracle",
            "a classifier trained on real images of every class, the forgotten ones included"
            + _oracle(record),
        ),
        ("Images", _counts(record)),
        ("Sampler", _settings(record["config"].get("sampler"))),
        (
            "Noise",
            "image i starts from noise i in every model, so models are compared on the same noise",
        ),
        ("Guidance", "diffusers' guidance_scale s = 1 + w; 1 is plain conditional sampling"),
        (
            "Weights",
            ", ".join(f"{row_label(record, r)}: {r.get('weights') or DASH}" for r in _ends(record)),
        ),
        ("Intervals", "95 %, Wilson, over the images of one model"),
        *(
            (name, text + sizes)
            for metric, (name, text) in EXPLAINED.items()
            if (sizes := _sizes(record, metric))
        ),
        (
            "Held-out",
            "forget accuracy by a second classifier that no method and no tuning has seen",
        ),
    ]
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in items if text
    )
    return f"<h2>How it was measured</h2><dl>{rows}</dl>"


def _ends(record: dict) -> list[dict]:
    return [row for model in MODELS if (row := row_of(record, model))]


def _oracle(record: dict) -> str:
    value = interval((record.get("oracle") or {}).get("test_accuracy"))
    return (
        ""
        if value is None
        else (
            f"; on real test images {100 * value[0]:.1f} % [{100 * value[1]:.1f},"
            f" {100 * value[2]:.1f}], n = {record['oracle']['test_accuracy'].get('n', DASH)}"
        )
    )


def _counts(record: dict) -> str:
    parts = []
    for metric, words in (
        ("forget_accuracy", f"under {forgotten(record)}"),
        ("retain_accuracy", "of retained classes"),
    ):
        for guidance in guidances(record, metric):
            values = (measured(row, metric, guidance) for row in record["rows"])
            n = next((value["n"] for value in values if value and value.get("n")), None)
            parts += [f"{n} {words} at guidance {guidance_label(guidance)}"] if n else []
    return ", ".join(parts)


def _settings(section) -> str:
    if not isinstance(section, dict):
        return str(section or "")
    return ", ".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in section.items()
    )


def settings_list(section: dict) -> str:
    """One line a setting; the address of the code is none."""
    rows = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(json.dumps(value, ensure_ascii=False))}</dd>"
        for key, value in section.items()
        if key not in ("_target_", "preset")
    )
    return f"<dl>{rows}</dl>" if rows else "<p>None.</p>"


def _stages(record: dict) -> str:
    headers, rows = stage_cells(record)
    if not rows:
        return ""
    return (
        "<h2>Stages and"
        f" cost</h2><p>{escape(stage_line(record))}.</p>{html_table(headers, rows, left=(0, 1, 2, 5))}"
    )


def _command(record: dict) -> str:
    config = json.dumps(record["config"], indent=2, ensure_ascii=False, sort_keys=False)
    return (
        "<h2>Run it again</h2><p>The same command finds what is finished and computes only the"
        " rest.</p>"
        f'<pre class="command">{html.escape(str(record.get("command") or DASH))}</pre>'
        "<details><summary>The full"
        f" configuration</summary><pre>{html.escape(config)}</pre></details>"
    )
