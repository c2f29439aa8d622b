"""One line a method: what the attacks bring back beyond what they teach a retrained model, at what
cost, and whether it differs.

One board for each table of the comparison and forgotten class; what stands on it and in which
order: `board`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape as plain
from rich.table import Table

from unrelearn.report import (
    DASH,
    QUALITY,
    Quality,
    budget_words,
    csv_text,
    display_name,
    guidance_label,
    guidances,
    image_count,
    measured,
    number,
    retained_guidance,
    row_of,
    shows_class,
    takes_steps,
)
from unrelearn.report.board import Board, Entry, gap, notes, verdict
from unrelearn.report.compare import estimate_text, half_text, latex_table, markdown, markdown_table
from unrelearn.report.figures import Mark, recovery_points, scatter_figure
from unrelearn.report.groups import CONTROLS, ENOUGH, Estimate, estimate, steps_to_half
from unrelearn.report.matrix import NONE, WORST, Treatment
from unrelearn.report.paired import IMAGES, SEEDS, Difference, image_interval
from unrelearn.report.strongest import BROKE, Best, averaged
from unrelearn.report.table import natural_width

MAX_BUDGETS = 3  # columns of recovery; leaderboard.csv has every budget
DIGITS = {"fid": 1, "fd_oracle": 2, "kid": 4, "kid_oracle": 3, "inception_score": 2}
ALTERNATIVES = (("fid", "fd_oracle"), ("kid", "kid_oracle"))  # the first where every method has it


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
    n_images: int | None = None  # of a distance, which depends on it
    prefix: Callable[[Entry], str] = lambda entry: ""

    @property
    def average(self) -> Callable[[list], Estimate | None]:
        return steps_to_half if self.name == "steps_to_half" else estimate

    def text(self, entry: Entry) -> str:
        value, prefix = self.average(self.values(entry)), self.prefix(entry)
        if self.average is steps_to_half:
            groups = entry.groups.get(self.behind)
            return half_text(value, groups[0].budgets if groups else ())
        if prefix and value is None:
            return prefix
        return (f"{prefix}, " if prefix else "") + estimate_text(
            value, self.scale, self.digits, len(entry.unlearned)
        )


# ---- columns
# --------------------------------------------------------------------------------------------------


def measures(board: Board, guidance: str) -> list[Measure]:
    """What is measured of a method at one guidance; what does not depend on it is shown with the
    main one.
    """
    retain, first = retained_guidance(board.every), guidance == board.guidances[0]
    found = [
        Measure(
            "unlearning_accuracy",
            "UA %",
            lambda entry: list(map(_missed, _of(entry, "forget_accuracy", guidance))),
            100,
        )
    ]
    shares = [
        (
            field,
            f"{field}\n%",
            lambda entry, field=field: [
                number(value, field) for value in _of(entry, "forget_accuracy", guidance)
            ],
        )
        for field in ("another", "nothing")
    ]
    shares.append(
        (
            "unlearning_accuracy_held_out",
            "UA %\nheld-out",
            lambda entry: [
                _missed((value or {}).get("held_out_forget_accuracy"))
                for value in _of(entry, "agreement", guidance)
            ],
        )
    )
    found += [
        Measure(*share, 100)
        for share in shares
        if any(number(v) is not None for entry in board.entries for v in share[2](entry))
    ]
    if first:
        found.append(
            Measure(
                "retain_accuracy",
                "retained\n%",
                lambda entry: _of(entry, "retain_accuracy", retain),
                100,
            )
        )
        found += [measure for q in QUALITY for measure in _qualities(board, q, retain)]
    for attack in board.heads:
        found += _recovery(board, attack, guidance)
    if first:
        found.append(
            Measure(
                "unlearn_seconds",
                "unlearn\ns",
                lambda entry: [cost["seconds"] for cost in costs(entry)],
            )
        )
    return found


def _qualities(board: Board, q: Quality, guidance: str) -> list[Measure]:
    """A column for each number of images: distances of two are not compared."""
    counts = dict.fromkeys(
        image_count(value)
        for entry in board.entries
        for value in _of(entry, q.metric, guidance)
        if value
    )
    return [
        Measure(
            q.name,
            q.words.replace(" oracle", "\n(oracle)") + (f"\nN={n}" if n else ""),
            lambda entry, n=n: [
                number(value, q.field)
                for value in _of(entry, q.metric, guidance)
                if image_count(value) == n
            ],
            digits=DIGITS.get(q.metric, 2),
            shown=q.metric in _distances(board, guidance),
            n_images=n,
        )
        for n in counts
    ]


def _recovery(board: Board, attack: Treatment, guidance: str) -> list[Measure]:
    """Of the models that the strongest admissible attack leaves."""

    def of(value: Callable[[Best], object]) -> Callable[[Entry], list]:
        return lambda entry: [value(best) for best in entry.cell(attack, guidance).seeds.values()]

    label = Treatment(attack.name).label
    records = [record for entry in board.entries for record in entry.behind(attack)]
    several = any(
        len(best.pairs) > 1
        for entry in board.entries
        for best in entry.cell(attack, guidance).every.values()
    )
    found = [
        Measure(
            "recovery_strongest",
            f"{label} %\nstrongest",
            of(lambda best: best.value),
            100,
            behind=attack,
            prefix=lambda entry: (
                BROKE if (cell := entry.cell(attack, guidance)).every and cell.broke else ""
            ),
        ),
        Measure(
            "recovery_maximum",
            f"{label} %\nmaximum",
            of(lambda best: best.maximum),
            100,
            behind=attack,
            shown=several,
        ),
        Measure(
            "recovery_held_out",
            "",
            of(lambda best: best.mean("agreement", "held_out_forget_accuracy")),
            100,
            behind=attack,
            shown=False,
        ),
        Measure(
            "recovery_other_sampler",
            "",
            of(lambda best: best.mean("other_sampler")),
            100,
            behind=attack,
            shown=False,
        ),
        Measure(
            "retained_after", "", of(lambda best: best.retained), 100, behind=attack, shown=False
        ),
    ]
    if attack != board.main:
        return found
    budgets = list(
        dict.fromkeys(
            row["step"]
            for record in records
            for row in record["rows"]
            if row["model"] == "attacked"
        )
    )
    chosen = (
        budgets
        if len(budgets) <= MAX_BUDGETS
        else [budgets[0], budgets[len(budgets) // 2], budgets[-1]]
    )

    def at(budget: float) -> Callable[[Best], object]:
        return lambda best: averaged(
            [dict(recovery_points(record, guidance)).get(budget) for record, _ in best.pairs]
        )

    def curve(name: str) -> Callable[[Best], object]:
        return lambda best: averaged(
            [
                number(((record.get("recovery") or {}).get(guidance) or {}).get(name))
                for record, _ in best.pairs
            ]
        )

    found += [
        Measure(
            f"recovery@{budget:g}",
            f"{label} %\n@ {budget_words(records[0], budget)}",
            of(at(budget)),
            100,
            behind=attack,
            shown=budget in chosen and len(budgets) > 1,
        )
        for budget in budgets
    ]
    if takes_steps(records[0]):
        half = curve("steps_to_half")
        found += [
            Measure("area", "area", of(curve("area")), digits=3, behind=attack),
            Measure(
                "steps_to_half",
                "steps\nto half",
                lambda entry: [
                    half(best)
                    for best in entry.cell(attack, guidance).seeds.values()
                    if shows_class(best.pairs[0][0], guidance)
                ],
                behind=attack,
            ),
        ]
    return found


def _of(entry: Entry, metric: str, guidance: str) -> list:
    return [
        measured(row_of(record, "unlearned"), metric, guidance)
        for record in entry.unlearned.values()
    ]


def _missed(accuracy: dict | None) -> dict | None:
    """Unlearning accuracy: the share that the oracle does not call by the forgotten class."""
    if number(accuracy) is None:
        return None
    ends = {"low": accuracy.get("high"), "high": accuracy.get("low")}
    ends["value"] = accuracy["value"]
    return {
        **accuracy,
        **{name: None if share is None else 1 - share for name, share in ends.items()},
    }


def _distances(board: Board, guidance: str) -> set[str]:
    chosen = set()
    for metrics in ALTERNATIVES:
        have = [
            {e.method for e in board.entries if any(_of(e, metric, guidance))} for metric in metrics
        ]
        chosen.add(metrics[0] if have[0] and have[0] >= have[1] else metrics[1])
    return chosen


def costs(entry: Entry) -> list[dict]:
    """The stage that unlearned, of each seed: key, status, seconds, peak memory, device. None of
    `original`.
    """
    return [
        {**stage, "seed": seed}
        for seed, record in entry.unlearned.items()
        for stage in record.get("stages") or []
        if stage["stage"] == "unlearn"
    ][: len(entry.unlearned)]


@dataclass(frozen=True)
class Column:
    header: str
    text: Callable[[Entry], str]
    behind: Treatment | None  # the attack whose runs it comes from; None: all of them


def columns(board: Board, guidance: str) -> list[Column]:
    """Of the table, what matters most first: a narrow screen shows the first ones without
    scrolling.
    """
    found = {
        (measure.name, measure.behind, measure.n_images): Column(
            measure.header, measure.text, measure.behind
        )
        for measure in measures(board, guidance)
        if measure.shown
    }
    ordered = (
        [Column("verdict", lambda entry: verdict(board, entry, guidance), None)]
        if board.heads
        else []
    )
    for attack in board.heads:
        ordered += [
            found.pop(key)
            for key in list(found)
            if key[0] in ("recovery_strongest", "recovery_maximum") and key[1] == attack
        ]
        ordered += [_beside(board, attack, guidance), difference_column(board, attack, guidance)]
    worst = next(column for column in board.matrix.columns if column.heading == WORST)
    wanted = (
        "unlearning_accuracy",
        "another",
        "nothing",
        "unlearning_accuracy_held_out",
        "retain_accuracy",
        "fid",
        "fd_oracle",
        "kid",
        "kid_oracle",
        "unlearn_seconds",
    )
    ordered += [found.pop(key) for name in wanted for key in list(found) if key[0] == name]
    if len(board.attacks) > 2:
        ordered.append(
            Column(
                "worst case %\nholding nothing",
                lambda entry: board.matrix.text(guidance, entry.method, worst),
                None,
            )
        )
    ordered = [column for column in [*ordered, *found.values()] if column]
    return [*ordered, Column("seeds", lambda entry: str(len(entry.unlearned)), NONE)]


def _beside(board: Board, attack: Treatment, guidance: str) -> Column | None:
    """What the held-out classifier says of the same models, and the oracle of another sampler's
    images; means.
    """
    beside = [
        ("held-out", "agreement", "held_out_forget_accuracy"),
        ("other sampler", "other_sampler", None),
    ]
    beside = [what for what in beside if guidances(board.every, what[1])]

    def text(entry: Entry) -> str:
        found = [entry.cell(attack, guidance).mean(*what[1:]) for what in beside]
        return " / ".join(DASH if value is None else f"{100 * value:.1f}" for value in found)

    return Column(" /\n".join(what[0] for what in beside), text, attack) if beside else None


def difference_column(board: Board, attack: Treatment, guidance: str) -> Column | None:
    reference = board.references.get((guidance, attack))
    return reference and Column(
        f"{Treatment(attack.name).label}\nminus {reference.label}",
        lambda entry: difference_text(board, guidance, attack, entry.method),
        attack,
    )


def difference_text(board: Board, guidance: str, attack: Treatment, method: Treatment) -> str:
    """``+5.3 ± 8.1`` over five seeds and more, of fewer each (``+5.0, +5.6``), of one ``+5.3 [3.1,
    7.6]`` over its images.
    """
    made = board.differences.get((guidance, attack, method))
    if made is None:
        return "reference" if board.references.get((guidance, attack)) == method else DASH
    text = f"{100 * made.mean:+.1f}"
    if made.test == IMAGES:
        text += f" [{100 * made.low:.1f}, {100 * made.high:.1f}]"
    elif made.n < ENOUGH:
        text = ", ".join(f"{100 * value:+.1f}" for value in made.values)
    elif made.low is not None:
        text += f" ± {100 * (made.high - made.mean):.1f}"
    return text + ("*" if made.marked else "")


def caption(found: Sequence[Board]) -> str:
    """What a reader of these boards needs to know, and no more than they show."""
    words = [
        "UA: unlearning accuracy, the share of images generated under the forgotten class that the"
        " oracle does not call by it; another, nothing: shares that it calls another class, or no"
        " class. Retained: accuracy on the retained classes; like the distances (of N images) it is"
        " of the unlearned model, at guidance 1 where that was measured. Of five seeds and more the"
        " mean ± half of the 95 % t-interval, of fewer the value of each seed, of one its 95 %"
        " Wilson interval over images. leaderboard.csv has bootstrap intervals over images, and"
        " every budget. Original and retrain first; then methods and controls by the worse of their"
        " differences to retrain; not ranked: methods whose unlearned model lost more than 2 points"
        " of retained accuracy, or has a distance more than 1.5 times the original's."
    ]
    if main := dict.fromkeys(attack.label for board in found for attack in board.heads):
        words.append(
            f"Strongest: forget accuracy after {' or '.join(main)}, at the strongest learning rate"
            " whose attacked model lost no more than that against the unlearned one (else: attack"
            " broke the model); at the end of an attack whose rate falls to nought, else at its"
            " best budget; the mean over attack seeds, maximum: the highest of them. The rate is"
            " chosen on the first half of the images and the number is of the second, where"
            " records have each image's hit. Beside it, as means, the held-out classifier's number"
            " and another sampler's. Area: mean forget accuracy over the budget axis; steps to"
            " half: where it reaches half of the original model's, a dash where that is nought."
            " Worst case: as in the matrix, over every attack and rate that holds nothing of the"
            " class. Verdict: irreversible here, where DiMRA and embedding inversion bring back no"
            " more than retrain's own highest seed, or its interval over images if that reaches"
            " higher."
        )
    words.append(difference_words(found))
    words.append(
        "Unlearn s: wall-clock seconds of the unlearning in the run that computed it, on the device"
        " that the method's page names."
    )
    return " ".join([*filter(None, words), *(note for board in found for note in notes(board))])


def difference_words(found: Sequence[Board]) -> str:
    tests = {made.test for board in found for made in board.differences.values()}
    references = {method.name for board in found for method in board.references.values()}
    reference = (
        "Minus retrain: what comes back beyond what the attack makes of a model that never saw the"
        " class."
        if "retrain" in references
        else "Minus the method that holds best."
    )
    return (
        " ".join(
            [
                reference,
                "Both models start from the same noise, so the difference is paired:",
                *(text for test, text in TESTS.items() if test in tests),
                (
                    "* p < 0.05 after Holm's correction over all methods under one attack at one"
                    " guidance."
                ),
            ]
        )
        if tests
        else ""
    )


TESTS = {
    SEEDS: (
        "it is tested by Student's paired t over model seeds; three show only large differences,"
        " and where all agree exactly there is no test."
    ),
    IMAGES: (
        "[low, high], of methods with one seed in common, is a bootstrap over images, tested by"
        " McNemar's exact test: it speaks of this one model, not of the method."
    ),
}


def show(found: Sequence[Board], console: Console | None = None) -> None:
    """Print the boards, with as many columns as the console is wide."""
    console = console or Console()
    for board in found:
        for guidance in board.guidances:
            headers, rows = cells(board, guidance)
            fits = (
                n
                for n in range(len(headers), 2, -1)
                if natural_width(headers[:n], [row[:n] for row in rows]) <= console.width
            )
            shown = next(fits, 2)
            table = Table(box=None, header_style="bold")
            for index, header in enumerate(headers[:shown]):
                table.add_column(plain(header), justify="right" if index else "left", no_wrap=True)
            for row in rows:
                table.add_row(*map(plain, row[:shown]))
            console.print(
                f"[bold]{plain(f'{board.matrix.table}, {title(board, guidance)}')}[/bold]",
                highlight=False,
            )
            console.print(table)
    if found:
        for note in dict.fromkeys(note for board in found for note in notes(board)):
            console.print(note, markup=False, highlight=False)
        console.print(
            "± half of the 95 % t-interval over five seeds and more. * differs from the reference"
            " (paired, Holm). Words, every column and number: leaderboard.md, leaderboard.csv.",
            highlight=False,
        )


# ---- files
# --------------------------------------------------------------------------------------------------


def title(board: Board, guidance: str) -> str:
    return f"{board.matrix.forgotten}, guidance {guidance_label(guidance)}"


def cells(board: Board, guidance: str) -> tuple[list[str], list[list[str]]]:
    shown = columns(board, guidance)
    rows = [
        [entry.method.label, *(column.text(entry) for column in shown)]
        for entry in board.ranked(guidance)
    ]
    return ["method", *(column.header for column in shown)], rows


def to_markdown(found: Sequence[Board]) -> str:
    parts = [
        f"### {markdown(f'{board.matrix.table}, {title(board, guidance)}')}\n\n"
        f"{markdown_table(*cells(board, guidance))}"
        for board in found
        for guidance in board.guidances
    ]
    return "\n\n".join([*parts, caption(found)]) + "\n"


def to_brief(found: Sequence[Board]) -> str:
    """At most six columns, for a page that is read on a phone."""
    parts = []
    for board in found:
        for guidance in board.guidances:
            named = {
                measure.name: Column(measure.header, measure.text, NONE)
                for measure in measures(board, guidance)
            }
            every = {measure.name: measure for measure in measures(board, board.guidances[0])}
            retained = every.get("retain_accuracy")
            shown = [
                named["unlearning_accuracy"],
                *([Column(retained.header, retained.text, NONE)] if retained else []),
                *filter(
                    None, (difference_column(board, attack, guidance) for attack in board.heads)
                ),
                Column("verdict", lambda entry, b=board, g=guidance: verdict(b, entry, g), None),
            ]
            rows = [
                [entry.method.label, *(column.text(entry) for column in shown)]
                for entry in board.ranked(guidance)
            ]
            table = markdown_table(["method", *(column.header for column in shown)], rows)
            parts.append(
                f"### {markdown(f'{board.matrix.table}, {title(board, guidance)}')}\n\n{table}"
            )
    return "\n\n".join([*parts, caption(found)]) + "\n"


def to_latex(found: Sequence[Board]) -> str:
    return "\n".join(
        latex_table(
            f"{board.matrix.table}, {title(board, guidance)}. {caption([board])}",
            *cells(board, guidance),
        )
        for board in found
        for guidance in board.guidances
    )


def to_csv(found: Sequence[Board]) -> str:
    """One line per method and measurement, accuracies as fractions; `runs` names what it is the
    mean of.
    """
    header = [
        "table",
        "forgotten",
        "guidance",
        "method",
        "method_settings",
        "verdict",
        "attack",
        "attack_settings",
        "measurement",
        "N",
        "mean",
        "low",
        "high",
        "n",
        "reached",
        "values",
        "images_low",
        "images_high",
        "runs",
    ]
    rows = []
    for board in found:
        for guidance in board.guidances:
            for measure in measures(board, guidance):
                for entry in board.ranked(guidance):
                    values, runs = measure.values(entry), entry.behind(measure.behind)
                    if (e := measure.average(values)) is not None:
                        rows.append(
                            [
                                board.matrix.table,
                                board.matrix.forgotten,
                                guidance,
                                entry.method.name,
                                entry.method.settings,
                                verdict(board, entry, guidance),
                                measure.behind.name,
                                measure.behind.settings,
                                measure.name,
                                measure.n_images,
                                e.mean,
                                e.low,
                                e.high,
                                e.n,
                                e.reached,
                                " ".join(f"{v:.6g}" for v in e.values),
                                *(image_interval(values) or ("", "")),
                                " ".join(run["name"] for run in runs),
                            ]
                        )
    return csv_text(header, rows)


def differences_csv(found: Sequence[Board]) -> str:
    """One line per guidance, attack, method and test, accuracies as fractions."""
    header = [
        "table",
        "forgotten",
        "guidance",
        "attack",
        "attack_settings",
        "method",
        "method_settings",
        "reference",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "test",
        "pairs",
        "seeds",
        "values",
    ]
    return csv_text(
        header,
        (
            [
                board.matrix.table,
                board.matrix.forgotten,
                guidance,
                attack.name,
                attack.settings,
                method.name,
                method.settings,
                board.references[guidance, attack].label,
                made.mean,
                made.low,
                made.high,
                made.p,
                made.adjusted,
                made.test,
                made.n,
                made.seeds,
                " ".join(f"{value:.6g}" for value in made.values),
            ]
            for board in found
            for tests in (board.differences, board.image_differences)
            for (guidance, attack, method), made in tests.items()
            if tests is board.differences or made != board.differences[guidance, attack, method]
        ),
    )


# ---- figures
# --------------------------------------------------------------------------------------------------

SCATTER = (
    "Recovery over retrain under both attacks: the further from the lower left, the more is left of"
    " the class. Shaded: within  retrain's own interval. Diamonds: controls; hollow: unlearning"
    " ruined the model; small points: other settings of the method. Bars: 95 % t-interval over five"
    " seeds and more, lowest and highest of fewer."
)


def scatters(board: Board) -> list[tuple[str, Figure]]:
    """(title, figure) for every guidance at which both attacks met retrain and at least one other
    method.
    """
    figures = []
    for guidance in board.guidances if len(board.heads) == 2 else ():
        region = tuple(board.limits.get((guidance, attack)) for attack in board.heads)
        marks = [] if None in region else _marks(board, guidance)
        if marks:
            name = f"Recovery over retrain: {title(board, guidance)}"
            labels = [
                f"{Treatment(attack.name).label} minus retrain (points)" for attack in board.heads
            ]
            figures.append((name, scatter_figure(marks, name, *labels, region=region)))
    return figures


def _marks(board: Board, guidance: str) -> list[Mark]:
    """One for each name of a method: in the settings with most seeds, the others as small points;
    but each control by itself.
    """
    named: dict[tuple, list[Entry]] = {}
    for entry in board.entries:
        control = entry.method.settings if entry.method.name in CONTROLS else ""
        if (
            all(gap(board, entry, attack, guidance) is not None for attack in board.heads)
            and entry.method.name != "retrain"
        ):
            named.setdefault((entry.method.name, control), []).append(entry)
    marks = []
    for style, entries in enumerate(named.values()):
        main = max(entries, key=lambda entry: len(entry.unlearned))
        places = {
            entry.method: tuple(gap(board, entry, attack, guidance) for attack in board.heads)
            for entry in entries
        }
        ends = tuple(
            _ends(board.differences[guidance, attack, main.method]) for attack in board.heads
        )
        marks.append(
            Mark(
                main.method.label if len(entries) == 1 else display_name(main.method.name),
                *places[main.method],
                style,
                main.method.name in CONTROLS,
                main.ruined,
                ends,
                tuple(place for method, place in places.items() if method != main.method),
            )
        )
    return marks


def _ends(made: Difference) -> tuple[float, float]:
    if made.n < ENOUGH or made.low is None:
        return min(made.values), max(made.values)
    return made.low, made.high


RENDERERS = {
    "table.md": to_brief,
    "leaderboard.md": to_markdown,
    "leaderboard.csv": to_csv,
    "leaderboard.tex": to_latex,
    "differences.csv": differences_csv,
}
