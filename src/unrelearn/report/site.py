"""The report of many runs as pages that open from disk: a front page, one page a method, one page
an attack.

The front page ranks; every number on it leads to the page of its method, where the runs, artefacts
and commands behind it are listed. Pages hold their figures inside, so that the folder can be copied
away.
"""

import ast
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unrelearn.report import (
    DASH,
    class_name,
    display_name,
    forgotten,
    guidance_label,
    main_guidance,
    measured,
    retained_guidance,
    row_of,
    sentence,
    significant,
)
from unrelearn.report import leaderboard as boards
from unrelearn.report.board import Board, Entry
from unrelearn.report.compare import estimate_text, run_table, seed_curve, tables, to_html, troubles
from unrelearn.report.figures import heat_colour, recovery_figure, replacement_figure, sample_files
from unrelearn.report.groups import Group, estimate, gathered, versions_line
from unrelearn.report.leaderboard import SCATTER, Column, costs, difference_text, scatters, title
from unrelearn.report.matrix import CAPTION as MATRIX_CAPTION
from unrelearn.report.matrix import COLUMNS, NONE, Treatment, column_name
from unrelearn.report.page import (
    TableCell,
    document,
    escape,
    figure_box,
    html_table,
    samples_section,
    settings_list,
)
from unrelearn.report.strongest import BROKE

QUESTION = "Can what a diffusion model has unlearned be brought back?"
FRONT = "index.html"


@dataclass(frozen=True)
class Addresses:
    """Where each page lies, relative to the front page."""

    methods: dict[tuple[str, Treatment], str]  # by table
    attacks: dict[tuple[str, str], str]  # by table and name


def pages(
    groups: Sequence[Group],
    found: Sequence[Board],
    matrices: Mapping[str, str],
    folder: Path,
    files: Sequence[str],
) -> dict[str, str]:
    """Every page, by its address below the folder.

    Args:
        matrices: HTML of the methods against the attacks, by the title of their table.
        files: names of the other files of the report, to link to.
    """
    methods = dict.fromkeys(
        (board.matrix.table, entry.method) for board in found for entry in board.entries
    )
    attacks = dict.fromkeys((group.table, group.first["attack"]) for group in groups)
    at = Addresses(_addresses("methods", methods, groups), _addresses("attacks", attacks, groups))
    made = {FRONT: front(groups, found, matrices, at, files)}
    for (table, method), address in at.methods.items():
        same = [board for board in found if board.matrix.table == table]
        made[address] = method_page(same, method, folder / "methods")
    for (table, name), address in at.attacks.items():
        members = [
            group for group in groups if (group.table, group.first["attack"]) == (table, name)
        ]
        same = [board for board in found if board.matrix.table == table]
        made[address] = to_html(
            members,
            folder / "attacks",
            {table: _under(same, name, at)},
            sentence(attack_name(name)),
            BACK,
        )
    return made


def _under(found: Sequence[Board], name: str, at: Addresses) -> str:
    """All methods under every setting of one attack."""
    parts = []
    for board in found:
        lines = []
        for attack in (attack for attack in board.attacks if attack.name == name):
            settings = f" ({attack.settings})" if attack.settings else ""
            for entry in board.entries:
                page = at.methods[board.matrix.table, entry.method]
                lines.append(
                    (
                        TableCell(entry.method.label + settings, f"../{page}#{anchor(attack)}"),
                        entry,
                        attack,
                    )
                )
        parts.append(difference_table(board, lines))
    return "".join(parts) + _difference_note(found)


def attack_name(name: str) -> str:
    return "no attack" if name == NONE.name else display_name(name)


BACK = f'<p class="kicker"><a href="../{FRONT}">Unrelearn: all methods and attacks</a></p>'


def _addresses(folder: str, keys: Sequence[tuple], groups: Sequence[Group]) -> dict:
    """``methods/digits-dimum.html``, ``methods/digits-dimum-2.html`` for another protocol or other
    settings.
    """
    datasets = {group.table: group.first["dataset"] for group in groups}
    found, taken = {}, set()
    for table, what in keys:
        stem = slug(f"{datasets[table]}-{what.name if isinstance(what, Treatment) else what}")
        name = next(
            name
            for n in range(1, len(taken) + 2)
            if (name := stem if n == 1 else f"{stem}-{n}") not in taken
        )
        taken.add(name)
        found[table, what] = f"{folder}/{name}.html"
    return found


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


# ---- the front page
# -------------------------------------------------------------------------------------------------


def front(
    groups: Sequence[Group],
    found: Sequence[Board],
    matrices: Mapping[str, str],
    at: Addresses,
    files: Sequence[str],
) -> str:
    records = [record for group in groups for record in group.records]
    parts = [
        '<p class="kicker">Unrelearn</p>',
        f"<h1>{escape(QUESTION)}</h1>",
        f"<p>{escape(_extent(records))}</p>",
    ]
    titles = list(tables(groups))
    if len(titles) > 1:
        parts += [
            (
                f"<p>{len(titles)} tables, because numbers of other data, protocols or versions are"
                " never averaged:</p><ul>"
            ),
            *(f'<li><a href="#{slug(table)}">{escape(table)}</a></li>' for table in titles),
            "</ul>",
        ]
    for table in titles:
        same = [board for board in found if board.matrix.table == table]
        parts.append(f'<h2 id="{slug(table)}">{escape(table)}</h2>')
        for board in same:
            boxes = "".join(figure_box(drawing, name, SCATTER) for name, drawing in scatters(board))
            parts.append(f'<div class="pair">{boxes}</div>' if boxes else "")
            parts += [
                f"<h3>{escape(sentence(title(board, guidance)))}</h3>"
                f"{board_table(board, guidance, at)}"
                for guidance in board.guidances
            ]
        note = (
            f"{boards.caption(same)} Every number links to the runs, artefacts and commands"
            " behind it."
        )
        parts.append(f'<p class="soft">{escape(note)}</p>')
        parts += [matrices.get(table, ""), _links(table, at)]
    if unfinished := troubles(groups):
        parts += [
            "<h2>Runs that did not finish</h2><ul>",
            *(f"<li>{escape(line)}</li>" for line in unfinished),
            "</ul>",
        ]
    parts.append(
        "<h2>Files</h2><p>"
        + ", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in files)
        + "</p>"
    )
    return document("Unrelearn: comparison of runs", parts, kind="comparison")


def _extent(records: Sequence[dict]) -> str:
    """How much is compared, and with which versions it was made."""
    counts = [
        (len({record[key] for record in records}), word)
        for key, word in (("method", "method"), ("attack", "attack"), ("seed", "seed"))
    ]
    words = ", ".join(
        f"{n} {word}" + ("s" if n != 1 else "") for n, word in [(len(records), "run"), *counts]
    )
    return f"{words} (no attack counts as one). {sentence(versions_line(records))}"


def board_table(board: Board, guidance: str, at: Addresses) -> str:
    columns = boards.columns(board, guidance)
    entries = board.ranked(guidance)
    pages = [at.methods[board.matrix.table, entry.method] for entry in entries]
    rows = [
        [TableCell(entry.method.label, page), *_linked(entry, columns, page)]
        for entry, page in zip(entries, pages, strict=True)
    ]
    return html_table(["method", *(column.header for column in columns)], rows)


def _linked(entry: Entry, columns: Sequence[Column], page: str = "") -> list[TableCell]:
    """The line of a method, each number a link to the runs behind it on the method's page."""
    return [
        TableCell(text, f"{page}#{anchor(column.behind)}" if text != DASH and known else "")
        for column in columns
        for text, known in [
            (column.text(entry), column.behind is None or entry.behind(column.behind))
        ]
    ]


def anchor(attack: Treatment | None) -> str:
    """Of the runs behind a number on the page of its method; None: behind a whole row of the
    matrix.
    """
    return "matrix" if attack is None else "runs-" + slug(f"{attack.name} {attack.settings}")


def _links(table: str, at: Addresses) -> str:
    def line(heading: str, pages: dict[str, str]) -> str:
        links = (
            f'<a href="{escape(address)}">{escape(name)}</a>' for name, address in pages.items()
        )
        return f"<h3>{heading}</h3><p>{' · '.join(links)}</p>"

    methods = {method.label: address for (of, method), address in at.methods.items() if of == table}
    attacks = {
        attack_name(name): address for (of, name), address in at.attacks.items() if of == table
    }
    return line("Methods: what each is, samples, damage, every attack, cost", methods) + line(
        "Attacks: tables, recovery curves, runs and commands", attacks
    )


# ---- differences
# --------------------------------------------------------------------------------------------------


def difference_table(board: Board, lines: Sequence[tuple[TableCell, Entry, Treatment]]) -> str:
    """What an attack brings back of a method, and the difference to the reference.

    Args:
        lines: the first cell, the method and the attack; those that were never measured get no row.
    """
    headers = [
        "",
        *(
            header
            for guidance in board.guidances
            for header in (
                f"forget %\n(s={guidance_label(guidance)})",
                "minus\nreference",
                "p\n(Holm)",
            )
        ),
        "compared\nover",
        "reference",
    ]
    rows = [
        [label, *_difference_cells(board, entry, attack)]
        for label, entry, attack in lines
        if entry.behind(attack)
    ]
    heading = f"{board.matrix.forgotten}: what comes back, and the difference to a reference"
    return f"<h3>{escape(sentence(heading))}</h3>{html_table(headers, rows)}" if rows else ""


def _difference_note(found: Sequence[Board]) -> str:
    words = (
        "Forget accuracy: at the strongest learning rate or level that leaves the model whole, for"
        " each seed."
    )
    return f'<p class="soft">{words} {escape(boards.difference_words(found))}</p>'


def _difference_cells(board: Board, entry: Entry, attack: Treatment) -> list[str]:
    cells, pairs, references = [], [], []
    for guidance in board.guidances:
        value = estimate(list(entry.forget_accuracies(attack, guidance).values()))
        broke = (cell := entry.cell(attack, guidance)).every and cell.broke
        made = board.differences.get((guidance, attack, entry.method))
        text = estimate_text(value, 100, 1, len(entry.unlearned))
        text = (BROKE if value is None else f"{BROKE}, {text}") if broke else text
        cells += [
            text,
            difference_text(board, guidance, attack, entry.method),
            DASH if made is None or made.adjusted is None else significant(made.adjusted),
        ]
        if made:
            pairs.append(f"{made.n} {made.test if made.n > 1 else made.test.removesuffix('s')}")
            references.append(board.references[guidance, attack].label)
    return [*cells, *(" or ".join(dict.fromkeys(words)) or DASH for words in (pairs, references))]


# ---- the page of a method
# -------------------------------------------------------------------------------------------


def method_page(found: Sequence[Board], method: Treatment, folder: Path) -> str:
    """One method in one table of the comparison, over all classes that it was made to forget.

    Args:
        folder: where the page will lie.
    """
    entries = [
        (board, entry) for board in found for entry in board.entries if entry.method == method
    ]
    board, entry = entries[0]
    record = _shown(entry, board)
    name = sentence(method.label)
    parts = [
        BACK,
        f"<h1>{escape(name)}</h1>",
        f'<p class="lead">{escape(board.matrix.table)}</p>',
        what_it_is(record["config"]["method"]),
        f"<h2>Settings</h2>{settings_list(record['config']['method'])}",
        "<h2>In numbers</h2>",
        _own_rows(entries),
        f'<p class="soft">{escape(boards.caption(found))}</p>',
        '<h2 id="matrix">Against every attack</h2>',
        _matrix_rows(entries),
        f'<p class="soft">{escape(MATRIX_CAPTION)} {escape(COLUMNS)}</p>',
        *(
            difference_table(
                board,
                [
                    (TableCell(attack.label, f"#{anchor(attack)}"), entry, attack)
                    for attack in board.attacks
                ],
            )
            for board, entry in entries
        ),
        _difference_note(found),
        *(_figures(board, entry) for board, entry in entries),
        samples_section(
            record,
            _outputs(record),
            f"{forgotten(record)}, {_attack_words(record)}, seed {record['seed']}",
        ),
        interference([entry for _, entry in entries]),
        _cost(entries),
        *(_runs(board, entry, folder) for board, entry in entries),
    ]
    return document(f"Unrelearn: {name}", parts, kind="comparison")


def what_it_is(settings: dict) -> str:
    """The docstring of the method's file, read and not run; nothing where the file is not
    installed.
    """
    module = str(settings.get("_target_") or "").rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(module) if module else None
        text = (
            ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
            if spec and spec.origin
            else None
        )
    except (ImportError, ValueError, OSError, SyntaxError):
        text = None
    if not text:
        return ""
    # an indented block is a formula
    blocks = (
        "<pre>{}</pre>" if part.startswith(" ") else "<p>{}</p>" for part in text.split("\n\n")
    )
    return "<h2>What it is</h2>" + "".join(
        block.format(escape(part)) for block, part in zip(blocks, text.split("\n\n"), strict=True)
    )


def _shown(entry: Entry, board: Board) -> dict:
    """The run whose samples and replacement classes are shown: of the main attack, and with sample
    files on this disk.
    """
    ordered = [
        record
        for attack in sorted(entry.attacks, key=lambda attack: attack != board.main)
        for record in entry.behind(attack)
    ]
    return max(
        ordered,
        key=lambda record: sum(file.is_file() for file in sample_files(record, _outputs(record))),
    )


def _outputs(record: dict) -> Path:
    """The folder that the record's sample paths are relative to:
    ``<outputs>/runs/<name>/result.json``.
    """
    return Path(record.get("path") or "runs/name/result.json").parent.parent.parent


def _attack_words(record: dict) -> str:
    return (
        f"{'' if record['attack'] == NONE.name else 'attacked by '}{attack_name(record['attack'])}"
    )


def _own_rows(entries: Sequence[tuple[Board, Entry]]) -> str:
    """Its line of every board, for each guidance under one head where the columns are the same."""
    lines, made = (
        [
            (guidance, boards.columns(board, guidance), board, entry)
            for board, entry in entries
            for guidance in board.guidances
        ],
        "",
    )
    for (guidance, *headers), same in gathered(
        lines, lambda line: (line[0], *(column.header for column in line[1]))
    ).items():
        rows = [
            [sentence(board.matrix.forgotten), *_linked(entry, columns)]
            for _, columns, board, entry in same
        ]
        made += (
            "<h3>Guidance"
            f" {guidance_label(guidance)}</h3>{html_table(['forgotten', *headers], rows)}"
        )
    return made


def _matrix_rows(entries: Sequence[tuple[Board, Entry]]) -> str:
    """Its line of every matrix."""
    made = ""
    for names, same in gathered(
        entries, lambda pair: tuple(map(column_name, pair[0].matrix.columns))
    ).items():
        rows = [
            [
                f"{sentence(board.matrix.forgotten)}, s={guidance_label(guidance)}",
                *_heat(board, entry, guidance),
            ]
            for board, entry in same
            for guidance in board.guidances
        ]
        made += html_table(
            [
                "forgotten, guidance",
                *(name.replace(" (", "\n(").replace(", ", ",\n") for name in names),
            ],
            rows,
        )
    return made


def _heat(board: Board, entry: Entry, guidance: str) -> list[TableCell]:
    matrix = board.matrix
    return [
        TableCell(
            matrix.text(guidance, entry.method, column),
            heat=heat_colour(cell.estimate.mean) if cell and cell.estimate else "",
        )
        for column in matrix.columns
        for cell in [matrix.cells.get((guidance, entry.method, column))]
    ]


def _figures(board: Board, entry: Entry) -> str:
    """What the main attack brings back at each guidance, and what the class is replaced by."""
    alike, record, boxes = entry.groups.get(board.main, []), _shown(entry, board), []
    found = [
        (g, curve)
        for g in sorted(board.guidances, key=float)
        if alike and (curve := seed_curve(alike, g))
    ]
    n = len({record["seed"] for group in alike for record in group.finished})
    curves = [
        replace(curve, label=f"guidance {guidance_label(g)}, n={n}", style=index)
        for index, (g, curve) in enumerate(found)
    ]
    if curves:
        boxes.append(
            figure_box(
                recovery_figure(curves, f"What {board.main.label} brings back"),
                "Recovery curve",
                "Bands: 95 % t-interval over five seeds and more, lowest and highest of fewer; of"
                " one, Wilson over images.",
            )
        )
    if replaced := replacement_figure(record, main_guidance(record)):
        boxes.append(
            figure_box(
                replaced,
                "Replacement classes",
                f"{sentence(_attack_words(record))}, seed {record['seed']}.",
            )
        )
    heading = f"<h2>{escape(f'Recovery and replacement, {board.matrix.forgotten}')}</h2>"
    return f'{heading}<div class="pair">{"".join(boxes)}</div>' if boxes else ""


def interference(entries: Sequence[Entry]) -> str:
    """Forgotten classes against retained ones: accuracy of the unlearned model minus that of the
    original, in points.
    """
    rows, names = [], []
    for entry in entries:
        first = next(iter(entry.unlearned.values()), None)
        changes = [
            change
            for record in entry.unlearned.values()
            if (change := _changes(record)) is not None
        ]
        if not changes:
            continue
        names = names or [class_name(first, index) for index in range(len(changes[0]))]
        row: list = [forgotten(first)]
        for values in zip(*changes, strict=True):
            known = [value for value in values if not np.isnan(value)]
            row.append(
                TableCell(
                    estimate_text(estimate(known), 100, 1, len(changes)),
                    heat=heat_colour(-np.mean(known)),
                )
                if known
                else DASH
            )
        rows.append(row)
    if not rows:
        return ""
    note = (
        "Accuracy on each retained class, unlearned model minus original model, in points; of each"
        " seed, of five and more mean ± half of the 95 % t-interval. Darker: more damage."
    )
    return (
        f"<h2>What forgetting damages</h2>{html_table(['forgotten', *names], rows)}<p"
        f' class="soft">{escape(note)}</p>'
    )


def _changes(record: dict) -> list[float] | None:
    """Per class, NaN where it was not measured."""
    guidance = retained_guidance(record)
    before, after = (
        (measured(row_of(record, model), "retain_accuracy", guidance) or {}).get("per_class")
        for model in ("original", "unlearned")
    )
    if not before or not after:
        return None
    return [np.nan if b is None or a is None else a - b for b, a in zip(before, after, strict=True)]


def _cost(entries: Sequence[tuple[Board, Entry]]) -> str:
    rows = [
        [
            board.matrix.forgotten,
            str(cost["seed"]),
            f"{cost['seconds']:.1f}",
            f"{cost.get('peak_memory_mib') or 0:.0f}",
            cost.get("device") or DASH,
            f"unlearn/{cost['key']}",
        ]
        for board, entry in entries
        for cost in costs(entry)
    ]
    if not rows:
        return "<h2>Cost</h2><p>There is no stage that unlearns.</p>"
    headers = ["forgotten", "seed", "seconds", "peak memory\nMiB", "device", "artefact"]
    return f"<h2>Cost of the unlearning</h2>{html_table(headers, rows, left=(0, 4, 5))}"


def _runs(board: Board, entry: Entry, folder: Path) -> str:
    """For each attack the runs behind its numbers; the unlearned model first."""
    parts = [f"<h2>{escape(f'Runs behind the numbers, {board.matrix.forgotten}')}</h2>"]
    for attack in board.attacks:
        if records := entry.behind(attack):
            heading = "unlearned model" if attack == NONE else attack.label
            parts.append(
                f'<h3 id="{anchor(attack)}">{escape(sentence(heading))}</h3>'
                f"{run_table(records, folder)}"
            )
    return "".join(parts)
