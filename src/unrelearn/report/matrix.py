"""Every method against every attack: what the strongest attacker of each kind brings back; Markdown, CSV, heat maps.

One matrix for each table of the comparison and forgotten class. A cell takes, for each seed, the highest forget accuracy
over the budgets or levels of the attack and over runs that differ only in ``attack.learning_rate``, and averages that
over the seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape as plain
from rich.table import Table

from unrelearn.report import (
    DASH,
    csv_text,
    display_name,
    forgotten,
    guidance_label,
    guidances,
    measured,
    number,
    retained_guidance,
    row_of,
    sees_forgotten,
    strongest,
)
from unrelearn.report.compare import markdown, markdown_table, tables
from unrelearn.report.figures import Mark, heat_map, trade_off_figure
from unrelearn.report.groups import CONTROLS, RATE, Estimate, Group, differences, estimate, fingerprint, gathered, place
from unrelearn.report.page import escape, figure_box

HOLDS_NOTHING, HOLDS_CLASS, WORST = "holds nothing of the class", "holds the class", "worst case"
AUDITS = ("interpolation", "context_probe")  # their ends are the original and the images themselves: no worst case
KINDS = ("", HOLDS_NOTHING, HOLDS_CLASS, WORST)  # headings, from left to right
CAPTION = (
    "Strongest forget accuracy in %: for each seed the highest over all measured budgets or levels of the attack and over "
    "runs that differ only in attack.learning_rate, as an attacker would choose who sees the result; then the mean over "
    "seeds. none: the unlearned model. Holds the class: attacks with images of the forgotten class or weights of the "
    "original model. Worst case: for each seed the highest of none and the attacks that hold nothing of the class, or of "
    "all but the audits interpolation and context probe, whose ends are the original and the images themselves; ≥ where one "
    "of them was not measured in every seed. A maximum of more runs is higher by chance alone: compare "
    "methods that met the same attacks, learning rates and budgets, and each with retrain, on which an attack reaches only "
    "what it has brought along. A dash: diverged or not run."
)
COLUMNS = (
    "†: holds the class. Retained: accuracy on the retained classes before the attack. Unlearn s: wall-clock seconds of the "
    "unlearning, in the run that computed it. matrix.csv has the intervals (t over seeds, Wilson over images for one seed) "
    "and names the strongest runs, with the retained classes after the attack."
)
TRADE_OFF = (
    "Recovery: the strongest of DiMRA's budgets and learning rates. Best: lower right. Hollow: controls; random weights, which "
    "generate every class at chance, are left out."
)


@dataclass(frozen=True)
class Treatment:
    """A method or an attack, with the settings that set it apart from another one of the same name."""

    name: str
    settings: str = ""

    @property
    def label(self) -> str:
        return display_name(self.name) + (f" ({self.settings})" if self.settings else "")


NONE = Treatment("none")


@dataclass(frozen=True)
class Column:
    """One attack, or the worst of several; `heading` is one of KINDS."""

    attack: Treatment
    heading: str


@dataclass(frozen=True)
class Best:
    """The strongest attack on one seed."""

    value: dict  # forget accuracy with its Wilson interval
    at: float | None  # its budget or level; None for the unlearned model
    retained: float | None  # retain accuracy of the attacked model: an attack that ruins the model has recovered nothing
    run: str


@dataclass(frozen=True)
class Cell:
    seeds: dict[int, Best]
    bound: bool = False  # something is missing: the worst case is at least this

    @cached_property
    def estimate(self) -> Estimate | None:
        return estimate([best.value for best in self.seeds.values()])


@dataclass(frozen=True)
class Matrix:
    """The methods (rows) and attacks (columns) of one table of the comparison, for one forgotten class."""

    table: str
    forgotten: str
    methods: list[Treatment]
    columns: list[Column]
    cells: dict[tuple[str, Treatment, Column], Cell]  # by guidance, method and column; what was not measured is absent
    retained: dict[Treatment, Estimate]  # retain accuracy of the unlearned model
    seconds: dict[Treatment, Estimate]  # of the unlearning

    @property
    def guidances(self) -> list[str]:
        return sorted({guidance for guidance, _, _ in self.cells}, key=float)

    def title(self, guidance: str) -> str:
        return f"{self.table}, {self.forgotten}, guidance {guidance_label(guidance)}"

    def text(self, guidance: str, method: Treatment, column: Column) -> str:
        """``58.2``, ``≥ 58.2``, ``58.2 (n=2)`` where other cells of the row have more seeds."""
        cell = self.cells.get((guidance, method, column))
        if cell is None:
            return DASH
        n = max(len(c.seeds) for (_, m, _), c in self.cells.items() if m == method)
        fewer = f" (n={len(cell.seeds)})" if len(cell.seeds) < n else ""
        return f"{'≥ ' if cell.bound else ''}{100 * cell.estimate.mean:.1f}{fewer}"


# ---- collecting -----------------------------------------------------------------------------------------------------


def panels(groups: Sequence[Group], ignored: tuple[str, ...] = (RATE,)) -> Iterator[tuple]:
    """The title, the groups, and the method and attack of each group, for each table and forgotten class.

    In each table the class with the most methods comes first.
    """
    for table, members in tables(groups).items():
        named = zip(members, treatments(members, "method"), treatments(members, "attack", ignored), strict=True)
        found = gathered(named, lambda parts: tuple(parts[0].first["forget_classes"])).values()
        for same in sorted(found, key=lambda parts: -len({method for _, method, _ in parts})):
            yield table, *zip(*same, strict=True)


def matrices(groups: Sequence[Group], attacks: int = 2) -> list[Matrix]:
    """One for each table and forgotten class of the comparison in which there are at least so many attacks, none included."""
    return [_matrix(table, same, methods, named) for table, same, methods, named in panels(groups)
            if len({group.first["attack"] for group in same}) >= attacks]  # fmt: skip


def _matrix(table: str, groups: Sequence[Group], methods: Sequence[Treatment], attacks: Sequence[Treatment]) -> Matrix:
    sees = {attacks[i] for i, group in enumerate(groups) if any(map(sees_forgotten, group.records))}
    none = Column(NONE, "")
    columns = [Column(attack, HOLDS_CLASS if attack in sees else HOLDS_NOTHING)
               for attack in set(attacks) if attack.name != "none"]
    columns.sort(key=lambda column: (KINDS.index(column.heading), column.attack.name, column.attack.settings))
    of = {column.attack: column for column in columns}

    found: dict[tuple[str, Treatment, Column], dict[int, Best]] = {}
    retained: dict[Treatment, dict[int, dict]] = {}
    seconds: dict[Treatment, dict[int, float]] = {}
    for group, method, attack in zip(groups, methods, attacks, strict=True):
        for record in group.records:
            seed, unlearned = record["seed"], row_of(record, "unlearned")
            for guidance in guidances(record):
                made = [(none, unlearned, measured(unlearned, "forget_accuracy", guidance))]
                if attack in of:
                    made.append((of[attack], *(strongest(record, guidance) or (None, None))))
                for column, row, value in made:
                    if number(value) is not None:
                        best = found.setdefault((guidance, method, column), {})
                        kept = number(measured(row, "retain_accuracy", retained_guidance(record)))
                        best[seed] = _stronger(best.get(seed), Best(value, row.get("step"), kept, record["name"]))
            if value := measured(unlearned, "retain_accuracy", retained_guidance(record)):
                retained.setdefault(method, {}).setdefault(seed, value)
            spent = [stage["seconds"] for stage in record.get("stages") or [] if stage["stage"] == "unlearn"]
            if spent:
                seconds.setdefault(method, {}).setdefault(seed, spent[0])

    cells = {key: Cell(best) for key, best in found.items()}
    worst = [Column(Treatment("nothing of the class"), WORST), Column(Treatment("all"), WORST)]
    for guidance, method in dict.fromkeys((guidance, method) for guidance, method, _ in found):
        for column in worst:
            over = [none, *(c for c in columns if c.heading == HOLDS_NOTHING
                            or (column == worst[1] and c.attack.name not in AUDITS))]
            cells[guidance, method, column] = _worst([found.get((guidance, method, c), {}) for c in over])
    return Matrix(
        table, forgotten(groups[0].first), sorted(set(methods), key=lambda method: (place(method.name), method.settings)),
        [none, *columns, *worst], cells,
        *({method: estimate(list(seeds.values())) for method, seeds in values.items()} for values in (retained, seconds)),
    )  # fmt: skip


def treatments(groups: Sequence[Group], section: str, ignored: tuple[str, ...] = (RATE,)) -> list[Treatment]:
    """The method or attack of each group; an attacker chooses the learning rate, so it is no setting of an attack."""
    settings = [{key.removeprefix(f"{section}."): value for key, value in fingerprint(group.first, (section,)).items()
                 if key not in ignored} for group in groups]  # fmt: skip
    found: dict[int, Treatment] = {}
    for name, places in gathered(range(len(groups)), lambda i: groups[i].first[section]).items():
        unlike = differences([settings[i] for i in places])
        found |= {i: Treatment(name, words.replace('"', "")) for i, words in zip(places, unlike, strict=True)}
    return [found[i] for i in range(len(groups))]


def _stronger(one: Best | None, other: Best) -> Best:
    return other if one is None or number(other.value) > number(one.value) else one


def _worst(columns: Sequence[dict[int, Best]]) -> Cell:
    """For each seed the strongest of the columns; a bound where a seed is missing in one of them."""
    best: dict[int, Best] = {}
    for column in columns:
        for seed, value in column.items():
            best[seed] = _stronger(best.get(seed), value)
    return Cell(best, bound=any(column.keys() != best.keys() for column in columns))


# ---- tables ---------------------------------------------------------------------------------------------------------


def column_name(column: Column) -> str:
    if column.heading == WORST:
        return f"worst case, {column.attack.label}"
    return column.attack.label + (" †" if column.heading == HOLDS_CLASS else "")


def to_markdown(found: Sequence[Matrix]) -> str:
    parts = []
    for matrix in found:
        headers = ["method", *map(column_name, matrix.columns), "retained %", "unlearn s"]
        for guidance in matrix.guidances:
            rows = [[method.label, *(matrix.text(guidance, method, column) for column in matrix.columns),
                     _plain(matrix.retained.get(method), 100), _plain(matrix.seconds.get(method))]
                    for method in matrix.methods]  # fmt: skip
            parts.append(f"### {markdown(matrix.title(guidance))}\n\n{markdown_table(headers, rows)}")
    return "\n\n".join([*parts, f"{CAPTION} {COLUMNS}"]) + "\n"


def _plain(value: Estimate | None, scale: float = 1) -> str:
    return DASH if value is None else f"{scale * value.mean:.1f}"


def to_csv(found: Sequence[Matrix]) -> str:
    """One line per cell, accuracies as fractions; `at` and `runs` name the strongest attack of each seed, in order of seeds."""
    header = ["table", "forgotten", "guidance", "method", "method_settings", "holds", "attack", "attack_settings",
              "mean", "low", "high", "n", "lower_bound", "at",
              "retained_after", "runs", "retained", "unlearn_seconds"]  # fmt: skip
    rows = []
    for matrix in found:
        for (guidance, method, column), cell in sorted(matrix.cells.items(), key=lambda item: _position(matrix, *item[0])):
            value, best = cell.estimate, [cell.seeds[seed] for seed in sorted(cell.seeds)]
            beside = [known.mean if (known := values.get(method)) else None for values in (matrix.retained, matrix.seconds)]
            rows.append([
                matrix.table, matrix.forgotten, guidance, method.name, method.settings, column.heading, column.attack.name,
                column.attack.settings, value.mean, value.low, value.high, value.n, cell.bound,
                " ".join(DASH if b.at is None else f"{b.at:g}" for b in best),
                " ".join(DASH if b.retained is None else f"{b.retained:.3f}" for b in best),
                " ".join(b.run for b in best), *beside,
            ])  # fmt: skip
    return csv_text(header, rows)


def _position(matrix: Matrix, guidance: str, method: Treatment, column: Column) -> tuple:
    return float(guidance), matrix.methods.index(method), matrix.columns.index(column)


RENDERERS = {"matrix.md": to_markdown, "matrix.csv": to_csv}


def show(found: Sequence[Matrix], console: Console | None = None) -> None:
    """Print attacks as rows and methods as columns, as many side by side as the console is wide."""
    console = console or Console()
    for matrix in (matrix for matrix in found if matrix.guidances):  # there are none where every run diverged
        columns = [(method, guidance) for method in matrix.methods for guidance in matrix.guidances]
        headers = [f"{method.label}\ns={guidance_label(guidance)}" for method, guidance in columns]
        texts = [[matrix.text(guidance, method, column) for method, guidance in columns] for column in matrix.columns]
        width = 2 + max(len(part) for text in [*headers, *(text for row in texts for text in row)] for part in text.split("\n"))
        side_by_side = max(1, (console.width - 2 - max(len(column_name(column)) for column in matrix.columns)) // width)
        title = plain(f"{matrix.table}, {matrix.forgotten}")
        console.print(f"[bold]Strongest forget accuracy, %[/bold]: {title}", highlight=False)
        for start in range(0, len(columns), side_by_side):
            shown = slice(start, start + side_by_side)
            table = Table(box=None, header_style="bold")
            table.add_column("attack", no_wrap=True)
            for header in headers[shown]:
                table.add_column(plain(header), justify="right", no_wrap=True)
            for column, row in zip(matrix.columns, texts, strict=True):
                table.add_row(plain(column_name(column)), *row[shown])
            console.print(table)
    if found:
        console.print("For each seed the strongest budget or level and learning rate, then the mean over seeds. "
                      "† holds images of the class or weights of the original model.", highlight=False)  # fmt: skip


# ---- figures --------------------------------------------------------------------------------------------------------


def heat_maps(matrix: Matrix) -> list[tuple[str, Figure]]:
    """(title, figure) for every guidance."""
    figures = []
    controls = sum(method.name in CONTROLS for method in matrix.methods)
    headings = [(heading, sum(column.heading == heading for column in matrix.columns)) for heading in KINDS]
    for guidance in matrix.guidances:
        grid = [[matrix.cells.get((guidance, method, column)) for column in matrix.columns] for method in matrix.methods]
        values = np.array([[cell.estimate.mean if cell else np.nan for cell in row] for row in grid])
        drawing = heat_map(
            values, np.array([[cell is not None and cell.bound for cell in row] for row in grid]),
            [method.label for method in matrix.methods], [column.attack.label for column in matrix.columns],
            [controls, len(matrix.methods) - controls], headings,
            f"Strongest forget accuracy (%), {matrix.forgotten}, guidance {guidance_label(guidance)}",
        )  # fmt: skip
        figures.append((matrix.title(guidance), drawing))
    return figures


def trade_offs(matrix: Matrix) -> list[tuple[str, Figure]]:
    """(title, figure) for every guidance at which DiMRA was measured on at least two methods."""
    words = f"Cost of unlearning, and what DiMRA brings back: {matrix.forgotten}"
    return [(matrix.title(guidance), trade_off_figure(marks, f"{words}, guidance {guidance_label(guidance)}"))
            for guidance in matrix.guidances if len(marks := _marks(matrix, guidance)) > 1]  # fmt: skip


def _marks(matrix: Matrix, guidance: str) -> list[Mark]:
    """Each method that DiMRA attacked: retain accuracy before the attack, and the most that DiMRA brought back."""
    marks = []
    for style, method in enumerate(matrix.methods):
        seeds = [matrix.cells[guidance, method, column].seeds for column in matrix.columns
                 if column.attack.name == "dimra" and (guidance, method, column) in matrix.cells]  # fmt: skip
        if seeds and method in matrix.retained and method.name != "random_weights":  # at chance: it would squeeze the others
            best = _worst(seeds)
            marks.append(Mark(method.label, matrix.retained[method].mean, best.estimate.mean, style, method.name in CONTROLS))
    return marks


DRAWINGS = {"matrix": heat_maps, "trade-off": trade_offs}


def to_html(found: Sequence[Matrix]) -> dict[str, str]:
    """Heat maps and trade-offs, by the title of the table that they belong to."""
    sections: dict[str, str] = {}
    for table, same in gathered(found, lambda matrix: matrix.table).items():
        parts = []
        for matrix in same:
            maps, scatters = ("".join(figure_box(drawing, name) for name, drawing in draw(matrix)) for draw in DRAWINGS.values())
            parts.append(f'<h3>Methods against attacks, {escape(matrix.forgotten)}</h3><div class="wide">{maps}</div>')
            parts.append(f'<div class="pair">{scatters}</div><p class="soft">{escape(TRADE_OFF)}</p>' if scatters else "")
        sections[table] = "".join([*parts, f'<p class="soft">{escape(CAPTION)}</p>'])
    return sections
