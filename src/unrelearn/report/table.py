"""One record in the terminal: the table of models, the table of stages, and the result in plain
words.
"""

import textwrap
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unrelearn.report import (
    DASH,
    QUALITY,
    Quality,
    budget_words,
    display_name,
    foreign_features,
    forgotten,
    guidance_label,
    guidances,
    interval,
    main_guidance,
    measured,
    number,
    percent,
    protocol_name,
    retained_guidance,
    row_label,
    row_of,
    sentence,
    shows_class,
    takes_steps,
    weight_notes,
)
from unrelearn.report.strongest import BROKE, intact, strongest

WIDTH = 110  # columns, where a console does not say
NOTABLE = (
    0.10  # a change of accuracy worth a sentence of its own, if the intervals agree that it is one
)


# ---- the verdict
# --------------------------------------------------------------------------------------------------


def verdict(record: dict) -> str:
    """The result in one or two sentences, computed from the numbers.

    "Brought it back" and "took it from" are said only where the two 95 % intervals do not touch.
    """
    guidance = main_guidance(record)
    original, unlearned = (
        measured(row_of(record, m), "forget_accuracy", guidance) for m in ("original", "unlearned")
    )
    if interval(unlearned) is None:
        return _no_unlearned_model(record)
    first, removed = _unlearning_words(record, interval(original), interval(unlearned))
    second = _attack_words(record, guidance, interval(original), interval(unlearned), removed)
    notes = _caveats(record, guidance)
    return " ".join(
        [
            f"{sentence(first)}; {second} (forget accuracy, guidance {guidance_label(guidance)}).",
            *notes,
        ]
    )


def _no_unlearned_model(record: dict) -> str:
    method, what = display_name(record["method"]), forgotten(record)
    if record["status"] == "diverged":
        return (
            f"{sentence(method)} diverged while unlearning {what}: there is no unlearned model to"
            " measure or attack."
        )
    if record["status"] == "failed":
        return f"The run failed: {record.get('error') or 'no reason was recorded'}."
    return f"{sentence(method)} on {what}: the unlearned model was not measured."


def _unlearning_words(record: dict, original: tuple | None, unlearned: tuple) -> tuple[str, bool]:
    """The first half of the verdict, and whether the class is gone to a degree that the intervals
    confirm.
    """
    method, what, after = display_name(record["method"]), forgotten(record), percent(unlearned[0])
    if record["method"] == "original":
        return f"Control without unlearning: {what} stands at {after}", False
    removed = original is not None and unlearned[2] < original[1]
    if record["method"] == "retrain":
        return f"Training from scratch without {what} leaves it at {after}", removed
    if original is None:
        return f"{method} left {what} at {after}", False
    before = percent(original[0])
    if removed:
        return f"{method} took {what} from {before} to {after}", True
    return f"{method} did not lower {what}: {before} before, {after} after", False


def _attack_words(
    record: dict, guidance: str, original: tuple | None, unlearned: tuple, removed: bool
) -> str:
    """The second half of the verdict."""
    if record["attack"] == "none":
        return "no attack was run"
    attack = display_name(record["attack"])
    attacked = [row for row in record["rows"] if row["model"] == "attacked"]
    curve = [
        (row.get("step"), interval(measured(row, "forget_accuracy", guidance))) for row in attacked
    ]
    curve = [(step, value) for step, value in curve if value is not None]
    if not curve:
        ended = {
            "diverged": "diverged",
            "failed": f"failed ({record.get('error') or 'no reason was recorded'})",
        }
        return f"{attack} {ended.get(record['status'], 'was not measured')}"
    peak_step, peak = max(curve, key=lambda point: point[1][0])
    step, last = (
        curve[-1] if takes_steps(record) else (peak_step, peak)
    )  # levels are alternatives: no last one counts
    after, within = (
        ("", "")
        if step is None
        else (
            f" {word} {budget_words(record, step)}"
            for word in (("after", "in") if takes_steps(record) else ("at", "at"))
        )
    )
    if not removed:
        words = f"{attack} leaves it at {percent(last[0])}{after}"
    elif last[1] <= unlearned[2]:
        words = f"{attack} did not bring it back: {percent(last[0])}{after}"
    elif original is not None and last[2] >= original[1]:
        words = f"{attack} brought all of it back, to {percent(last[0])}{within}"
    else:
        words = f"{attack} brought it back to {percent(last[0])}{within}"
    if peak[1] > max(last[2], unlearned[2]):  # the last budget is not the attack's best one
        words += f", after a peak of {percent(peak[0])} at {budget_words(record, peak_step)}"
    if any(row.get("status") == "diverged" for row in attacked):
        words += ", and then it diverged"
    return words


def _caveats(record: dict, guidance: str) -> list[str]:
    """What would make the first sentence misleading if it stood alone."""
    notes = []
    rows = [row_of(record, model) for model in ("original", "unlearned", "attacked")]
    retain = [interval(measured(row, "retain_accuracy", retained_guidance(record))) for row in rows]
    attack = (
        "The attack"
        if takes_steps(record) or not rows[2]
        else f"The attack at {budget_words(record, rows[2]['step'])}"
    )
    for who, before, after in (("Unlearning", *retain[:2]), (attack, *retain[1:])):
        if before and after and after[2] < before[1] and before[0] - after[0] > NOTABLE:
            notes.append(
                f"{who} also took the retained classes from {percent(before[0])} to"
                f" {percent(after[0])}."
            )
    for who, name, after, before in (
        ("Unlearning ruined", "the model", rows[1], rows[0]),
        ("The attack broke", "it", rows[2], rows[1]),
    ):
        if (
            after
            and before
            and intact([(after, before)], retained_guidance(record)) is False
            and not notes
        ):
            notes.append(
                f"{who} {name}: retained accuracy or distance went further than a usable model's"
                " may."
            )
    for row in rows[1:]:
        oracle = interval(measured(row, "forget_accuracy", guidance))
        for who, value in _second_looks(row, guidance).items():
            other = interval(value)
            apart = oracle and other and (other[1] > oracle[2] or oracle[1] > other[2])
            if apart and abs(other[0] - oracle[0]) > NOTABLE:
                notes.append(
                    f"{who} on the {row['model']} model: {percent(other[0])}, not"
                    f" {percent(oracle[0])}."
                )
    return notes + [f"Note: {note}." for note in weight_notes(record)]


def _second_looks(row: dict | None, guidance: str) -> dict:
    """The same share by another classifier, or of other images."""
    return {
        "The held-out classifier disagrees": (
            (measured(row, "agreement", guidance) or {}).get("held_out_forget_accuracy")
        ),
        "Images of another sampler disagree": measured(row, "other_sampler", guidance),
        "Images on another time grid disagree": (
            (measured(row, "forget_accuracy", guidance) or {}).get("off_grid")
        ),
    }


def oracle_line(record: dict) -> str:
    """How far the classifier can be trusted: on real test images, and on what the original model
    generates.
    """
    guidance, original = main_guidance(record), row_of(record, "original")
    real = number((record.get("oracle") or {}).get("test_accuracy"))
    held_out = number((record.get("oracle") or {}).get("held_out_test_accuracy"))
    forget = number(measured(original, "forget_accuracy", guidance))
    retain = number(measured(original, "retain_accuracy", retained_guidance(record)))
    parts = [
        (
            f"{_tenth(real)} on real test images"
            if real is not None
            else "not measured on real test images"
        )
    ]
    if held_out is not None:
        parts[0] += f" (held-out classifier: {_tenth(held_out)})"
    if forget is not None:
        parts.append(f"{_tenth(forget)} on the original model's samples of {forgotten(record)}")
    if retain is not None:
        parts.append(f"{_tenth(retain)} on its samples of the retained classes")
    return "Oracle accuracy: " + ", ".join(parts) + "."


def recovery_line(record: dict) -> str | None:
    """Area and steps to half at every guidance, or the strongest level; None without an attack."""
    if not takes_steps(record):
        return _levels_line(record)
    parts = []
    for guidance, curve in sorted(
        (record.get("recovery") or {}).items(), key=lambda item: float(item[0])
    ):
        area, half = number(curve.get("area")), number(curve.get("steps_to_half"))
        last = max(curve.get("budgets") or [0])
        reached = f"half of the original's {'not reached' if half is None else 'reached'} "
        reached += f"in {last} steps" if half is None else f"after {half:.0f} steps"
        if not shows_class(record, guidance):
            reached = "the original does not show the class, so there is nothing to recover"
        area_text = DASH if area is None else f"{area:.3f}"
        parts.append(f"guidance {guidance_label(guidance)}: area {area_text}, {reached}")
    return "Recovery at " + "; at ".join(parts) + "." + _cost_words(record) if parts else None


def _cost_words(record: dict) -> str:
    """`` The attack: 800 steps, 0.4 of pretraining.``; older records do not say, nor do those of
    imported weights.
    """
    share, steps = (
        number(record.get("attack_share_of_pretraining")),
        record["rows"][-1].get("step") or 0,
    )
    return (
        ""
        if share is None
        else f" The attack: {budget_words(record, steps)}, {share:.2g} of pretraining."
    )


def _levels_line(record: dict) -> str | None:
    parts = []
    for guidance in guidances(record):
        best = strongest([record], guidance)
        if best and best.pairs:
            beyond, text = (
                best.mean("forget_accuracy", "difference"),
                f"guidance {guidance_label(guidance)}: ",
            )
            text += f"{BROKE}, " if best.broke else ""
            text += f"{_tenth(best.value['value'])} at {budget_words(record, best.at)}"
            parts.append(
                text
                + ("" if beyond is None else f", {100 * beyond:+.1f} points beyond other starts")
            )
    return "Strongest attack at " + "; at ".join(parts) + "." if parts else None


def _tenth(value: float) -> str:
    return f"{100 * value:.1f} %"


# ---- the tables
# --------------------------------------------------------------------------------------------------


def summary_cells(
    record: dict, intervals: str = "all", leave_out: tuple[str, ...] = ()
) -> tuple[list, list[list]]:
    """Headers and rows of the table of models, as text.

    Args: intervals: at ``all`` accuracies, at ``forget`` accuracies only, or at forget accuracy of
        the ``main`` guidance. leave_out: metrics that get no column.
    """
    main, retain = main_guidance(record), retained_guidance(record)
    wide = intervals == "all"
    columns = []  # metric, header, and how a row fills it
    for g in guidances(record):
        ends = intervals != "main" or g == main
        columns.append(
            (
                "forget_accuracy",
                f"forget acc. %\nguidance {guidance_label(g)}",
                lambda row, g=g, ends=ends: _accuracy(measured(row, "forget_accuracy", g), ends),
            )
        )
    columns += [
        *(
            [
                (
                    "nothing",
                    "another,\nnothing %",
                    lambda row: _shares(measured(row, "forget_accuracy", main)),
                )
            ]
            if any(
                number(measured(row, "forget_accuracy", main), "nothing") is not None
                for row in record["rows"]
            )
            else []
        ),
        *(
            [
                (
                    "other_sampler",
                    "other\nsampler %",
                    lambda row: _accuracy(measured(row, "other_sampler", main), wide),
                )
            ]
            if guidances(record, "other_sampler")
            else []
        ),
        ("entropy", "entropy\nnats", lambda row: _plain(measured(row, "entropy", main), ".2f")),
        (
            "retain_accuracy",
            "retain\nacc. %",
            lambda row: _accuracy(measured(row, "retain_accuracy", retain), wide),
        ),
        *(
            (
                quality.metric,
                f"{quality.words}\n{_beside(record, quality, retain)}",
                lambda row, quality=quality: _quality(
                    measured(row, quality.metric, retain), quality
                ),
            )
            for quality in QUALITY
            if guidances(record, quality.metric)
        ),
        (
            "agreement",
            "held-out\nforget %",
            lambda row: _accuracy(
                (measured(row, "agreement", main) or {}).get("held_out_forget_accuracy"), wide
            ),
        ),
    ]
    columns = [column for column in columns if column[0] not in leave_out]
    rows = [
        [row_label(record, row), *(fill(row) for _, _, fill in columns)] for row in record["rows"]
    ]
    for row, cells in zip(record["rows"], rows, strict=True):
        if row.get("status") == "diverged" and columns:
            cells[1] = "diverged"
    return ["model", *(header for _, header, _ in columns)], rows


def summary_caption(record: dict, leave_out: tuple[str, ...] = ()) -> str:
    """What a reader of the table of models, with these metrics left out, needs to know to read
    it.
    """
    n = next(
        (
            v["n"]
            for row in record["rows"]
            for g in guidances(record)
            if (v := measured(row, "forget_accuracy", g)) and v.get("n")
        ),
        None,
    )
    count = f", N = {n}" if n else ""
    what = forgotten(record)
    return (
        f"Protocol {protocol_name(record)}. Forget accuracy: share of images generated under {what}"
        " that the oracle calls "
        f"{what}, with its 95 % Wilson interval{count}; unlearning accuracy is 100 minus it."
        f" {_extra_words(record, leave_out)}"
        f"{_other_columns(record)}.{_beside_words(record, leave_out)}"
    )


def _extra_words(record: dict, leave_out: tuple[str, ...]) -> str:
    """What the columns mean that older records do not have."""
    values = [
        value
        for row in record["rows"]
        for g in guidances(record)
        if (value := measured(row, "forget_accuracy", g))
    ]
    sampler = next(
        (
            value["sampler"]
            for row in record["rows"]
            for g in guidances(record, "other_sampler")
            if (value := measured(row, "other_sampler", g)) and value.get("sampler")
        ),
        None,
    )
    shares = (
        any(number(value, "nothing") is not None for value in values) and "nothing" not in leave_out
    )
    words = "Another, nothing: shares that it calls another class, or no class. " if shares else ""
    return words + (
        f"Other sampler: {sampler}. " if sampler and "other_sampler" not in leave_out else ""
    )


def _other_columns(record: dict) -> str:
    forget, retain = map(guidance_label, (main_guidance(record), retained_guidance(record)))
    if forget == retain:
        return f"The other columns are at guidance {forget}"
    return f"Entropy and held-out are at guidance {forget}, the retained classes at {retain}"


def _beside_words(record: dict, leave_out: tuple[str, ...]) -> str:
    """What the second lines of the headers mean, as far as there are any."""
    shown = [
        quality
        for quality in QUALITY
        if guidances(record, quality.metric) and quality.metric not in leave_out
    ]
    words = {
        "floor": " Floor: real test images against real training images at the same N.",
        "real": " Real: the score of as many real test images.",
    }
    words |= {
        s: f" ({s}): in the {s}'s features, not Inception's."
        for q in shown
        if (s := foreign_features(record, q.metric))
    }
    used = {foreign_features(record, quality.metric) or quality.beside for quality in shown}
    return "".join(text for word, text in words.items() if word in used)


# What a terminal that is too narrow for everything goes without, one after the other.
LEAVE_OUT = (
    "other_sampler",
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
FITS = (
    {"intervals": "forget"},
    *({"intervals": "main", "leave_out": LEAVE_OUT[:n]} for n in range(len(LEAVE_OUT) + 1)),
)


def summary_table(record: dict, width: int = WIDTH) -> Table:
    """Rows original, unlearned, attacked at each budget; as many columns as fit, never a cut
    number.
    """
    for fit in FITS:
        headers, rows = summary_cells(record, **fit)
        if natural_width(headers, rows) <= width:
            break
    absent = [header.split("\n")[0] for header in summary_cells(record)[0] if header not in headers]
    note = f" Left out for want of width: {', '.join(absent)}." if absent else ""
    return _rich_table(
        headers, rows, record["name"], summary_caption(record, fit.get("leave_out", ())) + note
    )


def stage_cells(record: dict) -> tuple[list[str], list[list[str]]]:
    headers = ["stage", "key", "", "seconds", "peak memory\nMiB", "device"]
    rows = [
        [
            stage["stage"],
            str(stage.get("key") or DASH)[:8],
            stage.get("status") or DASH,
            _plain(stage.get("seconds"), ".1f"),
            _plain(stage.get("peak_memory_mib"), ".0f"),
            stage.get("device") or DASH,
        ]
        for stage in record.get("stages") or []
    ]
    return headers, rows


def stage_table(record: dict) -> Table:
    """What was computed, what was found finished, and what it cost."""
    return _rich_table(
        *stage_cells(record), "Stages", stage_line(record), text_columns=(0, 1, 2, 5)
    )


def stage_line(record: dict) -> str:
    stages, seconds = record.get("stages") or [], number(record.get("seconds"))
    reused = sum(stage.get("status") == "reused" for stage in stages)
    line = f"{len(stages) - reused} of {len(stages)} computed"
    line += f", {reused} reused (seconds of an earlier run)" if reused else ""
    return line + ("" if seconds is None else f"; {seconds:.1f} s in all")


def print_record(record: dict, console: Console, page: Path | None = None) -> None:
    """Print both tables and the result in plain words; `page` is where the HTML report was
    written.
    """
    # A log file has no width of its own: what lands there should be whole.
    width = console.width if console.is_terminal else max(console.width, WIDTH)
    console.print(summary_table(record, width), crop=False)
    if record.get("stages"):
        console.print(stage_table(record), crop=False)
    for line in filter(None, (verdict(record), oracle_line(record), recovery_line(record))):
        console.print(_wrapped(line, width), markup=False, highlight=False, soft_wrap=True)
    if page:
        console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)


def _wrapped(text: str, width: int) -> str:
    """Lines of at most this width; a number keeps its percent sign, which rich would wrap away."""
    return textwrap.fill(text.replace(" %", "\xa0%").replace(" = ", "\xa0=\xa0"), width).replace(
        "\xa0", " "
    )


def natural_width(headers: list[str], rows: list[list[str]]) -> int:
    """Of a table, in characters."""
    columns = zip(headers, *rows, strict=True)
    return sum(
        max(len(part) for cell in column for part in cell.split("\n")) + 2 for column in columns
    )


def _rich_table(
    headers: list[str],
    rows: list[list[str]],
    title: str,
    caption: str,
    text_columns: tuple[int, ...] = (0,),
) -> Table:
    """A table of its natural width, whatever the console's."""
    width = natural_width(headers, rows)
    table = Table(
        title=escape(title),
        caption=escape(_wrapped(caption, width)),
        title_justify="left",
        caption_justify="left",
        box=None,
        header_style="bold",
        width=width,
    )
    for index, header in enumerate(headers):
        table.add_column(
            escape(header), justify="left" if index in text_columns else "right", no_wrap=True
        )
    for row in rows:
        table.add_row(*map(escape, row))  # an interval is not markup
    return table


def _accuracy(value, with_interval: bool = True) -> str:
    """``97.0 [95.1, 98.2]`` in percent."""
    middle, ends = number(value), interval(value)
    if middle is None:
        return DASH
    bounds = f" [{100 * ends[1]:.1f}, {100 * ends[2]:.1f}]" if with_interval and ends else ""
    return f"{100 * middle:.1f}{bounds}"


def _shares(value: dict | None) -> str:
    """``98.0, 1.5`` in percent."""
    shares = [number(value, name) for name in ("another", "nothing")]
    return DASH if None in shares else ", ".join(f"{100 * share:.1f}" for share in shares)


def _plain(value, form: str) -> str:
    value = number(value)
    return DASH if value is None else format(value, form)


def _quality(value: dict | None, quality: Quality) -> str:
    found = number(value, quality.field)
    return DASH if found is None else quality.text(found)


def _beside(record: dict, quality: Quality, guidance: str) -> str:
    """Below a header: the number of images, and what real test images get, or whose features these
    are.
    """
    if quality.beside is None:
        source = foreign_features(record, quality.metric)
        return f"({source})" if source else ""
    made = [value for row in record["rows"] if (value := measured(row, quality.metric, guidance))]
    n = next((f"N={value['n']}" for value in made if value.get("n")), "")
    beside = next(
        (
            f"{quality.beside} {quality.text(known)}"
            for value in made
            if (known := number(value, quality.beside)) is not None
        ),
        "",
    )
    return "\n".join(filter(None, (n, beside)))
