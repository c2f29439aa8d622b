"""Every method against every attack: what the strongest attacker of each kind brings back;
Markdown, CSV, heat maps.

One matrix for each table of the comparison and forgotten class. A cell takes, for each seed, the
strongest attacked models (`strongest`) over runs that differ only in ``attack.learning_rate`` and
the attack's own seed, and averages that over the seeds.
"""

from collections.abc import Iterable, Iterator, Sequence
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
)
from unrelearn.report.compare import markdown, markdown_table, tables
from unrelearn.report.figures import Mark, heat_map, scatter_figure
from unrelearn.report.groups import (
    CONTROLS,
    RATE,
    Estimate,
    Group,
    differences,
    estimate,
    fingerprint,
    gathered,
    place,
    pooled,
)
from unrelearn.report.page import escape, figure_box
from unrelearn.report.strongest import BROKE, Best, intact, strongest, strongest_of

HOLDS_NOTHING, HOLDS_CLASS, WORST = "holds nothing of the class", "holds the class", "worst case"
AUDITS = (
    "interpolation",
    "context_probe",
)  # their ends are the original and the images themselves: no worst case
KINDS = ("", HOLDS_NOTHING, HOLDS_CLASS, WORST)  # headings, from left to right
CAPTION = (
    "Strongest forget accuracy in %: for each seed that of the strongest learning rate or level"
    " whose attacked model still draws the retained classes (retained accuracy at most 2 points"
    " lower than before, distance at most 1.5 times as large), at the end of an attack whose rate"
    " falls to nought and else at any budget, the mean over attack seeds; then the mean over seeds."
    " It is chosen on the first half of the images and reported on the second, where records have"
    " each image's hit. Attack broke the model: no rate left it so; the number, if there is one, is"
    " of the strongest budget that did (in the figure: in brackets, or a cross). none: the"
    " unlearned model. Holds the class: attacks with images of the forgotten class or weights of"
    " the original model. (+3.1) after the context probe: its share minus that from other classes'"
    " images. Worst case: for each seed the strongest of none and the attacks that hold nothing of"
    " the class, or of all but the audits interpolation and context probe, whose ends are the"
    " original and the images themselves; ≥ where one of them was not measured in every seed, or"
    " broke the model. Compare methods that met the same attacks and learning rates, and each with"
    " retrain, on which an attack reaches only what it has brought along. A dash: diverged or not"
    " run."
)
COLUMNS = (
    "†: holds the class. Retained: accuracy on the retained classes before the attack. Unlearn s:"
    " wall-clock seconds of the unlearning, in the run that computed it. matrix.csv has the"
    " intervals (t over five seeds and more, lowest and highest of fewer, Wilson over images for"
    " one), the highest over attack seeds, the held-out classifier's number, and names the"
    " strongest runs, with the retained classes after the attack."
)
TRADE_OFF = (
    "Recovery: DiMRA at its strongest learning rate that leaves the model whole. Best: lower right."
    " Diamonds: controls; hollow: unlearning ruined the model. Random weights, which generate every"
    " class at chance, are left out."
)


@dataclass(frozen=True)
class Treatment:
    """A method or an attack, with the settings that set it apart from another one of the same
    name.
    """

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
class Cell:
    every: dict[int, Best]  # by seed
    bound: bool = False  # something is missing: the worst case is at least this

    @cached_property
    def broke(self) -> bool:
        """In every seed."""
        return all(best.broke for best in self.every.values())

    @cached_property
    def seeds(self) -> dict[int, Best]:
        """Those with a number: of intact models; where the attack broke them in every seed, of the
        budgets before it did.
        """
        return {
            seed: best
            for seed, best in sorted(self.every.items())
            if best.pairs and (self.broke or not best.broke)
        }

    @cached_property
    def estimate(self) -> Estimate | None:
        return estimate([best.value for best in self.seeds.values()])

    def mean(self, *what: str) -> float | None:
        """Of another measurement of these models (`Best.mean`)."""
        made = estimate([best.mean(*what) for best in self.seeds.values()])
        return made and made.mean


@dataclass(frozen=True)
class Matrix:
    """The methods (rows) and attacks (columns) of one table of the comparison, for one forgotten
    class.
    """

    table: str
    forgotten: str
    methods: list[Treatment]
    columns: list[Column]
    cells: dict[
        tuple[str, Treatment, Column], Cell
    ]  # by guidance, method and column; what was not measured is absent
    retained: dict[Treatment, Estimate]  # retain accuracy of the unlearned model
    seconds: dict[Treatment, Estimate]  # of the unlearning
    ruined: set[Treatment]  # methods whose unlearned model no longer draws the retained classes

    @property
    def guidances(self) -> list[str]:
        return sorted({guidance for guidance, _, _ in self.cells}, key=float)

    def title(self, guidance: str) -> str:
        return f"{self.table}, {self.forgotten}, guidance {guidance_label(guidance)}"

    def text(self, guidance: str, method: Treatment, column: Column) -> str:
        """``58.2``, ``≥ 58.2``, ``58.2 (n=2)`` where other cells of the row have more seeds, or
        that the model broke.
        """
        cell = self.cells.get((guidance, method, column))
        if cell is None:
            return DASH
        if cell.estimate is None:
            return BROKE
        n = max(len(c.seeds) for (_, m, _), c in self.cells.items() if m == method)
        fewer = f" (n={len(cell.seeds)})" if len(cell.seeds) < n else ""
        beyond = cell.mean("forget_accuracy", "difference")
        text = f"{100 * cell.estimate.mean:.1f}" + (
            "" if beyond is None else f" ({100 * beyond:+.1f})"
        )
        return f"{f'{BROKE}, ' if cell.broke else ''}{'≥ ' if cell.bound else ''}{text}{fewer}"


# ---- collecting
# --------------------------------------------------------------------------------------------------


def panels(groups: Sequence[Group], ignored: tuple[str, ...] = (RATE,)) -> Iterator[tuple]:
    """The title, the groups, and the method and attack of each group, for each table and forgotten
    class.

    In each table the class with the most methods comes first.
    """
    for table, members in tables(groups).items():
        named = zip(
            members,
            treatments(members, "method"),
            treatments(members, "attack", ignored),
            strict=True,
        )
        found = gathered(named, lambda parts: tuple(parts[0].first["forget_classes"])).values()
        for same in sorted(found, key=lambda parts: -len({method for _, method, _ in parts})):
            yield table, *zip(*same, strict=True)


def matrices(groups: Sequence[Group], attacks: int = 2) -> list[Matrix]:
    """One for each table and forgotten class of the comparison in which there are at least so many
    attacks, none included.
    """
    return [
        _matrix(table, same, methods, named)
        for table, same, methods, named in panels(groups)
        if len({group.first["attack"] for group in same}) >= attacks
    ]


def _matrix(
    table: str, groups: Sequence[Group], methods: Sequence[Treatment], attacks: Sequence[Treatment]
) -> Matrix:
    sees = {attacks[i] for i, group in enumerate(groups) if any(map(sees_forgotten, group.records))}
    none = Column(NONE, "")
    columns = [
        Column(attack, HOLDS_CLASS if attack in sees else HOLDS_NOTHING)
        for attack in set(attacks)
        if attack.name != "none"
    ]
    columns.sort(
        key=lambda column: (KINDS.index(column.heading), column.attack.name, column.attack.settings)
    )
    of = {column.attack: column for column in columns}

    retained: dict[Treatment, dict[int, dict]] = {}
    seconds: dict[Treatment, dict[int, float]] = {}
    models: dict[Treatment, dict[int, dict]] = {}  # a record that measured the unlearned model
    met: dict[tuple[Treatment, Column], dict[int, list[dict]]] = {}
    for group, method, attack in zip(groups, methods, attacks, strict=True):
        for record in group.records:
            seed, unlearned = record["seed"], row_of(record, "unlearned")
            if attack in of:
                met.setdefault((method, of[attack]), {}).setdefault(seed, []).append(record)
            if unlearned:
                models.setdefault(method, {}).setdefault(seed, record)
            if value := measured(unlearned, "retain_accuracy", retained_guidance(record)):
                retained.setdefault(method, {}).setdefault(seed, value)
            spent = [
                stage["seconds"]
                for stage in record.get("stages") or []
                if stage["stage"] == "unlearn"
            ]
            if spent:
                seconds.setdefault(method, {}).setdefault(seed, spent[0])

    found: dict[tuple[str, Treatment, Column], dict[int, Best]] = {}
    for guidance in guidances(pooled(record for group in groups for record in group.records)):
        for method, records in models.items():
            found[guidance, method, none] = unlearned_models(records, guidance)
        for (method, column), seeds in met.items():
            found[guidance, method, column] = {
                seed: best
                for seed, records in seeds.items()
                if (best := strongest(records, guidance))
            }
    found = {key: best for key, best in found.items() if best}
    ruined = {method for method, records in models.items() if is_ruined(records.values())}

    cells = {key: Cell(best) for key, best in found.items()}
    worst = [Column(Treatment("nothing of the class"), WORST), Column(Treatment("all"), WORST)]
    for guidance, method in dict.fromkeys((guidance, method) for guidance, method, _ in found):
        for column in worst:
            over = [
                none,
                *(
                    c
                    for c in columns
                    if c.heading == HOLDS_NOTHING
                    or (column == worst[1] and c.attack.name not in AUDITS)
                ),
            ]
            cells[guidance, method, column] = _worst(
                [found.get((guidance, method, c), {}) for c in over]
            )
    return Matrix(
        table,
        forgotten(groups[0].first),
        sorted(set(methods), key=lambda method: (place(method.name), method.settings)),
        [none, *columns, *worst],
        cells,
        *(
            {method: estimate(list(seeds.values())) for method, seeds in values.items()}
            for values in (retained, seconds)
        ),
        ruined,
    )


def unlearned_models(records: dict[int, dict], guidance: str) -> dict[int, Best]:
    """The models before any attack, by seed, where they were measured."""
    found = {seed: (record, row_of(record, "unlearned")) for seed, record in records.items()}
    return {
        seed: Best((pair,), guidance)
        for seed, pair in found.items()
        if number(measured(pair[1], "forget_accuracy", guidance)) is not None
    }


def is_ruined(records: Iterable[dict]) -> bool:
    """Whether the unlearned models no longer draw the retained classes as the originals do; on
    average over seeds.
    """
    records = list(records)
    pairs = [(row_of(record, "unlearned"), row_of(record, "original")) for record in records]
    return intact(pairs, retained_guidance(pooled(records))) is False


def treatments(
    groups: Sequence[Group], section: str, ignored: tuple[str, ...] = (RATE,)
) -> list[Treatment]:
    """The method or attack of each group; an attacker chooses the learning rate, so it is no
    setting of an attack.
    """
    settings = [
        {
            key.removeprefix(f"{section}."): value
            for key, value in fingerprint(group.first, (section,)).items()
            if key not in ignored
        }
        for group in groups
    ]
    found: dict[int, Treatment] = {}
    for name, places in gathered(range(len(groups)), lambda i: groups[i].first[section]).items():
        unlike = differences([settings[i] for i in places])
        found |= {
            i: Treatment(name, words.replace('"', ""))
            for i, words in zip(places, unlike, strict=True)
        }
    return [found[i] for i in range(len(groups))]


def _worst(columns: Sequence[dict[int, Best]]) -> Cell:
    """For each seed the strongest of the columns; a bound where a seed is missing in one of them,
    or the attack broke it.
    """
    best: dict[int, list[Best]] = {}
    for column in columns:
        for seed, value in column.items():
            best.setdefault(seed, []).extend([value] if value.pairs else [])
    partial = any(
        column.keys() != best.keys() or any(b.broke for b in column.values()) for column in columns
    )
    return Cell(
        {seed: strongest_of(several) for seed, several in best.items() if several}, bound=partial
    )


# ---- tables
# --------------------------------------------------------------------------------------------------


def column_name(column: Column) -> str:
    if column.heading == WORST:
        return f"worst case, {column.attack.label}"
    return column.attack.label + (" †" if column.heading == HOLDS_CLASS else "")


def to_markdown(found: Sequence[Matrix]) -> str:
    parts = []
    for matrix in found:
        headers = ["method", *map(column_name, matrix.columns), "retained %", "unlearn s"]
        for guidance in matrix.guidances:
            rows = [
                [
                    method.label,
                    *(matrix.text(guidance, method, column) for column in matrix.columns),
                    _plain(matrix.retained.get(method), 100),
                    _plain(matrix.seconds.get(method)),
                ]
                for method in matrix.methods
            ]
            parts.append(
                f"### {markdown(matrix.title(guidance))}\n\n{markdown_table(headers, rows)}"
            )
    return "\n\n".join([*parts, f"{CAPTION} {COLUMNS}"]) + "\n"


def _plain(value: Estimate | None, scale: float = 1) -> str:
    return DASH if value is None else f"{scale * value.mean:.1f}"


def to_csv(found: Sequence[Matrix]) -> str:
    """One line per cell, accuracies as fractions; `at` and `runs` name the strongest attack of each
    seed, in order of seeds.
    """
    header = [
        "table",
        "forgotten",
        "guidance",
        "method",
        "method_settings",
        "holds",
        "attack",
        "attack_settings",
        "mean",
        "low",
        "high",
        "n",
        "values",
        "maximum",
        "lower_bound",
        "broke",
        "held_out",
        "other_sampler",
        "at",
        "retained_after",
        "other_starts",
        "minus_other_starts",
        "runs",
        "retained",
        "unlearn_seconds",
    ]
    rows = []
    for matrix in found:
        for (guidance, method, column), cell in sorted(
            matrix.cells.items(), key=lambda item: _position(matrix, *item[0])
        ):
            value, best = cell.estimate, [cell.seeds[seed] for seed in sorted(cell.seeds)]
            beside = [
                known.mean if (known := values.get(method)) else None
                for values in (matrix.retained, matrix.seconds)
            ]
            rows.append(
                [
                    matrix.table,
                    matrix.forgotten,
                    guidance,
                    method.name,
                    method.settings,
                    column.heading,
                    column.attack.name,
                    column.attack.settings,
                    *((value.mean, value.low, value.high, value.n) if value else [""] * 4),
                    " ".join(f"{number(b.value):.6g}" for b in best),
                    max((b.maximum for b in best), default=""),
                    cell.bound,
                    sum(b.broke for b in cell.every.values()),
                    cell.mean("agreement", "held_out_forget_accuracy"),
                    cell.mean("other_sampler"),
                    " ".join(DASH if b.at is None else f"{b.at:g}" for b in best),
                    " ".join(DASH if b.retained is None else f"{b.retained:.3f}" for b in best),
                    *(
                        cell.mean("forget_accuracy", name)
                        for name in ("other_starts", "difference")
                    ),
                    " ".join("+".join(b.runs) for b in best),
                    *beside,
                ]
            )
    return csv_text(header, rows)


def _position(matrix: Matrix, guidance: str, method: Treatment, column: Column) -> tuple:
    return float(guidance), matrix.methods.index(method), matrix.columns.index(column)


RENDERERS = {"matrix.md": to_markdown, "matrix.csv": to_csv}


def show(found: Sequence[Matrix], console: Console | None = None) -> None:
    """Print attacks as rows and methods as columns, as many side by side as the console is wide."""
    console = console or Console()
    for matrix in (
        matrix for matrix in found if matrix.guidances
    ):  # there are none where every run diverged
        columns = [(method, guidance) for method in matrix.methods for guidance in matrix.guidances]
        headers = [f"{method.label}\ns={guidance_label(guidance)}" for method, guidance in columns]
        texts = [
            [matrix.text(guidance, method, column) for method, guidance in columns]
            for column in matrix.columns
        ]
        width = 2 + max(
            len(part)
            for text in [*headers, *(text for row in texts for text in row)]
            for part in text.split("\n")
        )
        side_by_side = max(
            1,
            (console.width - 2 - max(len(column_name(column)) for column in matrix.columns))
            // width,
        )
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
        console.print(
            "For each seed the strongest rate or level that leaves the model whole, then the mean"
            " over seeds. † holds images of the class or weights of the original model.",
            highlight=False,
        )


# ---- figures
# --------------------------------------------------------------------------------------------------


def heat_maps(matrix: Matrix) -> list[tuple[str, Figure]]:
    """(title, figure) for every guidance."""
    figures = []
    controls = sum(method.name in CONTROLS for method in matrix.methods)
    headings = [
        (heading, sum(column.heading == heading for column in matrix.columns)) for heading in KINDS
    ]
    for guidance in matrix.guidances:
        grid = [
            [matrix.cells.get((guidance, method, column)) for column in matrix.columns]
            for method in matrix.methods
        ]
        values = np.array(
            [
                [cell.estimate.mean if cell and cell.estimate else np.nan for cell in row]
                for row in grid
            ]
        )
        drawing = heat_map(
            values,
            [[_heat_text(cell) for cell in row] for row in grid],
            [method.label for method in matrix.methods],
            [column.attack.label for column in matrix.columns],
            [controls, len(matrix.methods) - controls],
            headings,
            f"Strongest forget accuracy (%), {matrix.forgotten}, guidance"
            f" {guidance_label(guidance)}",
        )
        figures.append((matrix.title(guidance), drawing))
    return figures


def _heat_text(cell: Cell | None) -> str:
    if cell is None:
        return DASH
    if cell.estimate is None:
        return "×"
    text = f"{'≥' if cell.bound else ''}{100 * cell.estimate.mean:.1f}".replace("100.0", "100")
    return f"({text})" if cell.broke else text


def trade_offs(matrix: Matrix) -> list[tuple[str, Figure]]:
    """(title, figure) for every guidance at which DiMRA was measured on at least two methods."""
    words = f"Cost of unlearning, and what DiMRA brings back: {matrix.forgotten}"
    return [
        (
            matrix.title(guidance),
            scatter_figure(
                marks,
                f"{words}, guidance {guidance_label(guidance)}",
                "retain accuracy before the attack (%)",
                "strongest recovery by DiMRA (%)",
                right=100,
            ),
        )
        for guidance in matrix.guidances
        if len(marks := _marks(matrix, guidance)) > 1
    ]


def _marks(matrix: Matrix, guidance: str) -> list[Mark]:
    """Each method that DiMRA attacked: retain accuracy before the attack, and the most that DiMRA
    brought back.
    """
    marks = []
    for style, method in enumerate(matrix.methods):
        seeds = [
            matrix.cells[guidance, method, column].seeds
            for column in matrix.columns
            if column.attack.name == "dimra" and (guidance, method, column) in matrix.cells
        ]
        best = _worst(seeds).estimate if seeds else None
        if (
            best and method in matrix.retained and method.name != "random_weights"
        ):  # at chance: it would squeeze the others
            marks.append(
                Mark(
                    method.label,
                    matrix.retained[method].mean,
                    best.mean,
                    style,
                    method.name in CONTROLS,
                    method in matrix.ruined,
                )
            )
    return marks


DRAWINGS = {"matrix": heat_maps, "trade-off": trade_offs}


def to_html(found: Sequence[Matrix]) -> dict[str, str]:
    """Heat maps and trade-offs, by the title of the table that they belong to."""
    sections: dict[str, str] = {}
    for table, same in gathered(found, lambda matrix: matrix.table).items():
        parts = []
        for matrix in same:
            maps, scatters = (
                "".join(figure_box(drawing, name) for name, drawing in draw(matrix))
                for draw in DRAWINGS.values()
            )
            parts.append(
                f"<h3>Methods against attacks, {escape(matrix.forgotten)}</h3><div"
                f' class="wide">{maps}</div>'
            )
            parts.append(
                f'<div class="pair">{scatters}</div><p class="soft">{escape(TRADE_OFF)}</p>'
                if scatters
                else ""
            )
        sections[table] = "".join([*parts, f'<p class="soft">{escape(CAPTION)}</p>'])
    return sections
