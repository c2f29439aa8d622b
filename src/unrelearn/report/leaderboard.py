"""One line a method: how well it forgets, at what cost, what the main attack brings back, and whether that differs.

One board for each table of the comparison and forgotten class. The main attack is DiMRA where it was run, in the settings
that most methods met; differences to the reference are made for every attack.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich.console import Console
from rich.markup import escape as plain
from rich.table import Table

from unrelearn.report import (
    DASH,
    QUALITY,
    budget_words,
    csv_text,
    guidance_label,
    guidances,
    main_guidance,
    measured,
    number,
    retained_guidance,
    row_of,
    sees_forgotten,
    strongest,
    takes_steps,
)
from unrelearn.report.compare import estimate_text, half_text, latex_table, markdown, markdown_table
from unrelearn.report.figures import recovery_points
from unrelearn.report.groups import CONTROLS, Estimate, Group, estimate, pooled, steps_to_half
from unrelearn.report.matrix import NONE, WORST, Matrix, Treatment, matrices, panels
from unrelearn.report.paired import IMAGES, SEEDS, Difference, against, image_interval
from unrelearn.report.table import natural_width

MAX_BUDGETS = 3  # columns of recovery; leaderboard.csv has every budget
DIGITS = {"fid": 1, "fd_oracle": 2, "kid": 4, "kid_oracle": 3, "inception_score": 2}
ALTERNATIVES = (("fid", "fd_oracle"), ("kid", "kid_oracle"))  # the first where every method has it


@dataclass(frozen=True)
class Entry:
    """A method on one board, with its records by attack (in its exact settings) and seed."""

    method: Treatment
    attacks: dict[Treatment, dict[int, dict]]
    groups: dict[Treatment, Group]

    @cached_property
    def unlearned(self) -> dict[int, dict]:
        """A record of each seed that measured the unlearned model; it is the same model in all of them."""
        found: dict[int, dict] = {}
        for attack in sorted(self.attacks, key=lambda attack: attack.name != NONE.name):
            for seed, record in self.attacks[attack].items():
                if row_of(record, "unlearned"):
                    found.setdefault(seed, record)
        return dict(sorted(found.items()))

    def behind(self, attack: Treatment | None) -> dict[int, dict]:
        """The records that a number under this attack is made of, by seed."""
        return self.unlearned if attack == NONE else self.attacks.get(attack, {})

    def forget_accuracies(self, attack: Treatment, guidance: str) -> dict[int, dict]:
        """By seed: of the unlearned model, or the highest over the budgets or levels of the attack."""
        found = {}
        for seed, record in self.behind(attack).items():
            made = ((None, measured(row_of(record, "unlearned"), "forget_accuracy", guidance)) if attack == NONE
                    else strongest(record, guidance) or (None, None))  # fmt: skip
            if number(made[1]) is not None:
                found[seed] = made[1]
        return found


@dataclass(frozen=True)
class Measure:
    """A column of numbers: what each seed has, averaged."""

    name: str
    header: str
    values: Callable[[Entry], list]
    scale: float = 1
    digits: int = 1
    behind: Treatment = NONE  # the attack whose runs it comes from
    shown: bool = True  # in the table, and not in the CSV file alone

    @property
    def average(self) -> Callable[[list], Estimate | None]:
        return steps_to_half if self.name == "steps_to_half" else estimate

    def text(self, entry: Entry) -> str:
        values = self.values(entry)
        if self.average is steps_to_half:
            group = entry.groups.get(self.behind)
            return half_text(self.average(values), group.budgets if group else ())
        return estimate_text(self.average(values), self.scale, self.digits, len(entry.unlearned))


@dataclass(frozen=True)
class Board:
    matrix: Matrix
    entries: list[Entry]  # controls, then the others from the lowest recovery up
    attacks: list[Treatment]  # with their exact settings; none first
    main: Treatment | None  # the attack that the columns of recovery are of
    sees: set[Treatment]  # attacks that hold the class
    records: list[dict]
    references: dict[tuple[str, Treatment], Treatment] = field(default_factory=dict)  # by guidance and attack
    differences: dict[tuple[str, Treatment, Treatment], Difference] = field(default_factory=dict)  # and by method

    @cached_property
    def every(self) -> dict:
        return pooled(self.records)

    @cached_property
    def guidances(self) -> list[str]:
        """The main one first."""
        main = main_guidance(self.every)
        return sorted(guidances(self.every), key=lambda guidance: (guidance != main, float(guidance)))


# ---- collecting -----------------------------------------------------------------------------------------------------


def boards(groups: Sequence[Group]) -> list[Board]:
    return [_board(matrix, *panel[1:]) for matrix, panel in zip(matrices(groups, 1), panels(groups, ()), strict=True)]


def _board(matrix: Matrix, groups: Sequence[Group], methods: Sequence[Treatment], attacks: Sequence[Treatment]) -> Board:
    entries = {method: Entry(method, {}, {}) for method in matrix.methods}
    for group, method, attack in zip(groups, methods, attacks, strict=True):
        records = entries[method].attacks.setdefault(attack, {})
        records |= {record["seed"]: record for record in group.records if record["seed"] not in records}
        entries[method].groups.setdefault(attack, group)
    sees = {attack for group, attack in zip(groups, attacks, strict=True) if any(map(sees_forgotten, group.records))}
    order = sorted({attack for attack in attacks if attack.name != NONE.name}, key=lambda a: (a in sees, a.name, a.settings))
    board = Board(matrix, list(entries.values()), [NONE, *order], _main(groups, attacks, sees), sees,
                  [record for group in groups for record in group.records])  # fmt: skip
    board.entries.sort(key=lambda entry: _rank(board, entry))
    for guidance in board.guidances:
        for attack in board.attacks:
            values = {entry.method: made for entry in board.entries if (made := entry.forget_accuracies(attack, guidance))}
            if values:
                reference = board.references[guidance, attack] = _reference(values)
                board.differences.update({(guidance, attack, method): made
                                          for method, made in against(reference, values).items()})  # fmt: skip
    return board


def _main(groups: Sequence[Group], attacks: Sequence[Treatment], sees: set[Treatment]) -> Treatment | None:
    """DiMRA if it was run, else an attack that holds nothing of the class and takes steps.

    In the settings that most methods met under most seeds; of several those that bring back most of what was unlearned.
    """
    met: dict[Treatment, list[Group]] = {}
    for group, attack in zip(groups, attacks, strict=True):
        if attack.name != NONE.name and group.finished:
            met.setdefault(attack, []).append(group)

    def wanted(attack: Treatment) -> tuple:
        records = [record for group in met[attack] for record in group.finished]
        peaks = [number(made[1]) for record in records
                 if record["method"] != "original" and (made := strongest(record, main_guidance(record)))]  # fmt: skip
        return (attack.name == "dimra", attack not in sees, takes_steps(records[0]), len(met[attack]), len(records), sum(peaks))

    return max(met, key=wanted, default=None)


def _rank(board: Board, entry: Entry) -> tuple:
    """Controls in their order; the others by what the main attack brought back, then by what was left before it."""
    made = (estimate(list(entry.forget_accuracies(attack, board.guidances[0]).values())) if board.guidances and attack else None
            for attack in (board.main, NONE))  # fmt: skip
    control = CONTROLS.index(entry.method.name) if entry.method.name in CONTROLS else len(CONTROLS)
    recovered = () if control < len(CONTROLS) else tuple(float("inf") if e is None else e.mean for e in made)
    return (control, *recovered, entry.method.name, entry.method.settings)


def _reference(values: dict[Treatment, dict[int, dict]]) -> Treatment:
    """Retraining, which an attack can only teach and not remind; without it the method that holds best."""
    retrained = [method for method in values if method.name == "retrain"]
    methods = [method for method in values if method.name not in CONTROLS] or list(values)
    return retrained[0] if retrained else min(methods, key=lambda method: estimate(list(values[method].values())).mean)


# ---- columns --------------------------------------------------------------------------------------------------------


def measures(board: Board, guidance: str) -> list[Measure]:
    """What is measured of a method at one guidance; what does not depend on it is shown with the main one."""
    retain, first = retained_guidance(board.every), guidance == board.guidances[0]
    found = [Measure("unlearning_accuracy", "UA %",
                     lambda entry: list(map(_missed, _of(entry, "forget_accuracy", guidance))), 100)]  # fmt: skip
    if first:
        found.append(Measure("retain_accuracy", "retained\n%", lambda entry: _of(entry, "retain_accuracy", retain), 100))
        found += [
            Measure(q.name, q.words.replace(" oracle", "\n(oracle)"),
                    lambda entry, q=q: [number(value, q.field) for value in _of(entry, q.metric, retain)],
                    digits=DIGITS.get(q.metric, 2), shown=q.metric in _distances(board, retain))
            for q in QUALITY if guidances(board.every, q.metric)
        ]  # fmt: skip
    if board.main:
        found += _recovery(board, guidance)
    if first:
        found.append(Measure("unlearn_seconds", "unlearn\ns", lambda entry: [cost["seconds"] for cost in costs(entry)]))
    return found


def _recovery(board: Board, guidance: str) -> list[Measure]:
    attack = board.main
    records = [record for entry in board.entries for record in entry.attacks.get(attack, {}).values()]
    budgets = list(dict.fromkeys(row["step"] for record in records for row in record["rows"] if row["model"] == "attacked"))
    chosen = budgets if len(budgets) <= MAX_BUDGETS else [budgets[0], budgets[len(budgets) // 2], budgets[-1]]

    def at(budget: float) -> Callable[[Entry], list]:
        return lambda entry: [dict(recovery_points(record, guidance)).get(budget) for record in entry.behind(attack).values()]

    def curve(name: str) -> Callable[[Entry], list]:
        return lambda entry: [number(((record.get("recovery") or {}).get(guidance) or {}).get(name))
                              for record in entry.behind(attack).values()]  # fmt: skip

    label = Treatment(attack.name).label
    found = [Measure(f"recovery@{budget:g}", f"{label} %\n@ {budget_words(records[0], budget)}", at(budget), 100,
                     behind=attack, shown=budget in chosen) for budget in budgets]  # fmt: skip
    found.append(Measure("recovery_strongest", f"{label} %\nstrongest",
                         lambda entry: list(entry.forget_accuracies(attack, guidance).values()), 100, behind=attack,
                         shown=len(budgets) > 1))  # fmt: skip
    if takes_steps(records[0]):
        found += [Measure("area", "area", curve("area"), digits=3, behind=attack),
                  Measure("steps_to_half", "steps\nto half", curve("steps_to_half"), behind=attack)]  # fmt: skip
    return found


def _of(entry: Entry, metric: str, guidance: str) -> list:
    return [measured(row_of(record, "unlearned"), metric, guidance) for record in entry.unlearned.values()]


def _missed(accuracy: dict | None) -> dict | None:
    """Unlearning accuracy: the share that the oracle does not call by the forgotten class."""
    if number(accuracy) is None:
        return None
    ends = {"low": accuracy.get("high"), "high": accuracy.get("low")}
    ends["value"] = accuracy["value"]
    return {**accuracy, **{name: None if share is None else 1 - share for name, share in ends.items()}}


def _distances(board: Board, guidance: str) -> set[str]:
    chosen = set()
    for metrics in ALTERNATIVES:
        have = [{e.method for e in board.entries if any(_of(e, metric, guidance))} for metric in metrics]
        chosen.add(metrics[0] if have[0] and have[0] >= have[1] else metrics[1])
    return chosen


def costs(entry: Entry) -> list[dict]:
    """The stage that unlearned, of each seed: key, status, seconds, peak memory, device. None of `original`."""
    return [{**stage, "seed": seed} for seed, record in entry.unlearned.items()
            for stage in (record.get("stages") or []) if stage["stage"] == "unlearn"][: len(entry.unlearned)]  # fmt: skip


@dataclass(frozen=True)
class Column:
    header: str
    text: Callable[[Entry], str]
    behind: Treatment | None  # the attack whose runs it comes from; None: all of them


def columns(board: Board, guidance: str) -> list[Column]:
    """Of the table, what matters most first: a narrow screen shows the first ones without scrolling."""
    found = {measure.name: Column(measure.header, measure.text, measure.behind)
             for measure in measures(board, guidance) if measure.shown}  # fmt: skip
    if reference := board.references.get((guidance, board.main)):
        found["difference"] = Column(
            f"strongest\nminus {reference.label}",
            lambda entry: difference_text(board, guidance, board.main, entry.method),
            board.main,
        )
    worst = next(column for column in board.matrix.columns if column.heading == WORST)
    if len(board.attacks) > 2:
        found["worst"] = Column("worst case %\nholding nothing",
                                lambda entry: board.matrix.text(guidance, entry.method, worst), None)  # fmt: skip
    first = [name for name in ("unlearning_accuracy", "recovery_strongest", "difference", "worst", "retain_accuracy",
                               "fid", "fd_oracle", "kid", "kid_oracle", "unlearn_seconds") if name in found]  # fmt: skip
    ordered = [found[name] for name in [*first, *(name for name in found if name not in first)]]
    return [*ordered, Column("seeds", lambda entry: str(len(entry.unlearned)), NONE)]


def difference_text(board: Board, guidance: str, attack: Treatment, method: Treatment) -> str:
    """``+5.3 [3.1, 7.6]*`` over images, ``+5.3 ± 8.1`` over seeds, in points."""
    made = board.differences.get((guidance, attack, method))
    if made is None:
        return "reference" if board.references.get((guidance, attack)) == method else DASH
    text = f"{100 * made.mean:+.1f}"
    if made.low is not None:
        text += (f" [{100 * made.low:.1f}, {100 * made.high:.1f}]" if made.test == IMAGES
                 else f" ± {100 * (made.high - made.mean):.1f}")  # fmt: skip
    return text + ("*" if made.marked else "")


def caption(found: Sequence[Board]) -> str:
    """What a reader of these boards needs to know, and no more than they show."""
    words = [
        "UA: unlearning accuracy, the share of images generated under the forgotten class that the oracle does not call by "
        "it. Retained: accuracy on the retained classes; like the distances it is of the unlearned model, at guidance 1 where "
        "that was measured. Mean ± half of the 95 % t-interval over seeds; for one seed its 95 % Wilson interval over images. "
        "leaderboard.csv has bootstrap intervals over images, and every budget. Controls first, then the methods from the "
        "lowest recovery up: read it beside what is retained, for a ruined model has nothing to recover."
    ]
    if main := dict.fromkeys(board.main.label for board in found if board.main):
        words.append(
            f"Recovery: forget accuracy after {' or '.join(main)}, in the settings that most methods met; strongest: the "
            "highest over its budgets, for each seed. Area: mean forget accuracy over the budget axis; steps to half: where it "
            "reaches half of the original model's. Worst case: as in the matrix, over every attack and rate that holds nothing "
            "of the class."
        )
    words.append(difference_words(found))
    words.append("Unlearn s: wall-clock seconds of the unlearning in the run that computed it, on the device that the method's "
                 "page names.")  # fmt: skip
    return " ".join(filter(None, words))


def difference_words(found: Sequence[Board]) -> str:
    tests = {made.test for board in found for made in board.differences.values()}
    references = {method.name for board in found for method in board.references.values()}
    reference = ("Minus retrain: what comes back beyond what the attack makes of a model that never saw the class."
                 if "retrain" in references else "Minus the method that holds best.")  # fmt: skip
    return " ".join([
        reference, "Both models start from the same noise, so the difference is paired:",
        *(text for test, text in TESTS.items() if test in tests),
        "* p < 0.05 after Holm's correction over all methods under one attack at one guidance.",
    ]) if tests else ""  # fmt: skip


TESTS = {
    IMAGES: "[low, high] is a bootstrap over images within each seed, tested by McNemar's exact test: it speaks of these "
    "models, not of other seeds.",
    SEEDS: "± is Student's paired t over seeds (records without the hits of each image); three seeds show only large "
    "differences, and where all seeds agree exactly there is no test.",
}


def show(found: Sequence[Board], console: Console | None = None) -> None:
    """Print the boards, with as many columns as the console is wide."""
    console = console or Console()
    for board in found:
        for guidance in board.guidances:
            headers, rows = cells(board, guidance)
            fits = (n for n in range(len(headers), 2, -1)
                    if natural_width(headers[:n], [row[:n] for row in rows]) <= console.width)  # fmt: skip
            shown = next(fits, 2)
            table = Table(box=None, header_style="bold")
            for index, header in enumerate(headers[:shown]):
                table.add_column(plain(header), justify="right" if index else "left", no_wrap=True)
            for row in rows:
                table.add_row(*map(plain, row[:shown]))
            console.print(f"[bold]{plain(f'{board.matrix.table}, {title(board, guidance)}')}[/bold]", highlight=False)
            console.print(table)
    if found:
        console.print("± half of the 95 % t-interval over seeds. * differs from the reference (paired, Holm). "
                      "Words, every column and number: leaderboard.md, leaderboard.csv.", highlight=False)  # fmt: skip


# ---- files ----------------------------------------------------------------------------------------------------------


def title(board: Board, guidance: str) -> str:
    return f"{board.matrix.forgotten}, guidance {guidance_label(guidance)}"


def cells(board: Board, guidance: str) -> tuple[list[str], list[list[str]]]:
    shown = columns(board, guidance)
    rows = [[entry.method.label, *(column.text(entry) for column in shown)] for entry in board.entries]
    return ["method", *(column.header for column in shown)], rows


def to_markdown(found: Sequence[Board]) -> str:
    parts = [f"### {markdown(f'{board.matrix.table}, {title(board, guidance)}')}\n\n{markdown_table(*cells(board, guidance))}"
             for board in found for guidance in board.guidances]  # fmt: skip
    return "\n\n".join([*parts, caption(found)]) + "\n"


def to_latex(found: Sequence[Board]) -> str:
    return "\n".join(latex_table(f"{board.matrix.table}, {title(board, guidance)}. {caption([board])}", *cells(board, guidance))
                     for board in found for guidance in board.guidances)  # fmt: skip


def to_csv(found: Sequence[Board]) -> str:
    """One line per method and measurement, accuracies as fractions; `runs` names what it is the mean of."""
    header = ["table", "forgotten", "guidance", "method", "method_settings", "attack", "attack_settings", "measurement",
              "mean", "low", "high", "n", "reached", "images_low", "images_high", "runs"]  # fmt: skip
    rows = []
    for board in found:
        for guidance in board.guidances:
            for measure in measures(board, guidance):
                for entry in board.entries:
                    values, runs = measure.values(entry), entry.behind(measure.behind).values()
                    if (e := measure.average(values)) is not None:
                        rows.append([
                            board.matrix.table, board.matrix.forgotten, guidance, entry.method.name, entry.method.settings,
                            measure.behind.name, measure.behind.settings, measure.name, e.mean, e.low, e.high, e.n, e.reached,
                            *(image_interval(values) or ("", "")), " ".join(run["name"] for run in runs),
                        ])  # fmt: skip
    return csv_text(header, rows)


def differences_csv(found: Sequence[Board]) -> str:
    """Every method minus the reference under every attack in its exact settings; accuracies as fractions."""
    header = ["table", "forgotten", "guidance", "attack", "attack_settings", "method", "method_settings", "reference",
              "difference", "low", "high", "p", "p_holm", "test", "pairs", "seeds"]  # fmt: skip
    return csv_text(header, (
        [board.matrix.table, board.matrix.forgotten, guidance, attack.name, attack.settings, method.name, method.settings,
         board.references[guidance, attack].label, made.mean, made.low, made.high, made.p, made.adjusted, made.test,
         made.n, made.seeds]
        for board in found for (guidance, attack, method), made in board.differences.items()))  # fmt: skip


RENDERERS = {
    "leaderboard.md": to_markdown,
    "leaderboard.csv": to_csv,
    "leaderboard.tex": to_latex,
    "differences.csv": differences_csv,
}
