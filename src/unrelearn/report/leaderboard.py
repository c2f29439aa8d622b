"""One line a method: what the attacks bring back beyond what they teach a retrained model, at what
cost, and whether it differs.

One board for each table of the comparison and forgotten class; order and verdicts: `verdicts`.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from unrelearn.report.figures import Mark, scatter_figure
from unrelearn.report.files import csv_text
from unrelearn.report.matrix import cell_text, title
from unrelearn.report.measures import Measure, measures
from unrelearn.report.panel import Panel, presences
from unrelearn.report.panel_runs import WORST
from unrelearn.report.records import (
    NONE,
    OF_WORDS,
    PARAPHRASE,
    WORD,
    by_wording,
    measured,
    number,
    row_of,
)
from unrelearn.report.render import (
    Cells,
    caption,
    console_table,
    latex_table,
    markdown,
    markdown_table,
    natural_width,
)
from unrelearn.report.stats import ENOUGH, IMAGES, SEEDS, Difference, estimate
from unrelearn.report.table import pick
from unrelearn.report.verdicts import gap, notes, ranked, verdict
from unrelearn.report.words import DASH, display_name, guidance_label, joined, synonyms
from unrelearn.terminal import Console

BESIDE = {"held_out": "held-out", "other_sampler": "other sampler", PARAPHRASE: "paraphrase"}
BESIDE |= {"another": "another", "nothing": "nothing"}


# ---- columns -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextColumn:
    header: str
    text: Callable[[str], str]  # of a method
    attack: str | None  # the attack whose runs it comes from; None: all of them


WORDS = (WORD.name, *(each.name for each in OF_WORDS))  # first where they were measured
WANTED = (  # noqa: SIM905
    "concept_accuracy_held_out unlearning_accuracy another nothing unlearning_accuracy_held_out"
    " retain_accuracy fid fd_oracle kid kid_oracle unlearn_seconds"
).split()


def columns(panel: Panel, guidance: str) -> list[TextColumn]:
    """What matters most first: a narrow screen shows the first ones without scrolling."""
    shown = [measure for measure in measures(panel, guidance) if measure.shown]
    heads = ("recovery_strongest", "recovery_maximum")
    ordered: list[TextColumn | None] = []
    if panel.heads:
        ordered.append(TextColumn("verdict", partial(verdict, panel, guidance), None))
    for name in WORDS:
        ordered += [_column(panel, guidance, m) for m in shown if m.name == name]
        ordered += [_synonyms(panel, guidance)] if name == PARAPHRASE else []
    for attack in panel.heads:
        of = [m for m in shown if m.name in heads and m.attack == attack]
        ordered += [_column(panel, guidance, measure) for measure in of]
        ordered += [_rate(panel, guidance, attack), _beside(panel, guidance, attack)]
        ordered.append(difference_column(panel, guidance, attack))
    for name in WANTED:
        ordered += [_column(panel, guidance, m) for m in shown if m.name == name]
    if len(panel.attacks) > 2:
        worst = next(column for column in panel.columns if column.heading == WORST)
        text = partial(cell_text, panel, guidance, column=worst)
        ordered.append(TextColumn("worst case %\nholding nothing", text, None))
    rest = [measure for measure in shown if measure.name not in (*heads, *WORDS, *WANTED)]
    ordered += [_column(panel, guidance, measure) for measure in rest]
    seeds = TextColumn("seeds", lambda method: str(panel.count(method)), NONE)
    return [column for column in [*ordered, seeds] if column]


def _column(panel: Panel, guidance: str, measure: Measure) -> TextColumn:
    return TextColumn(measure.header, partial(measure.text, panel, guidance), measure.attack)


def _synonyms(panel: Panel, guidance: str) -> TextColumn | None:
    """What shows under each synonym of a word; None where there are not several."""
    words = synonyms(panel.runs["record"].iloc[0])
    if not panel.presence.of_word or len(words) < 2:
        return None

    def text(method: str) -> str:
        rows = [row_of(record, "unlearned") for record in panel.records(method)]
        known = [by_wording(measured(row, PARAPHRASE, guidance)) for row in rows]
        means = [estimate([each.get(wording) for each in known]) for wording in words]
        return " / ".join(DASH if mean is None else f"{100 * mean.mean:.1f}" for mean in means)

    return TextColumn(" /\n".join(words.values()), text, NONE)


def _rate(panel: Panel, guidance: str, attack: str) -> TextColumn | None:
    """The strongest learning rates of all seeds, where there was a choice."""
    if pick(panel.runs, attack_label=attack)["rate"].nunique() < 2:
        return None

    def text(method: str) -> str:
        cell = panel.cell(guidance, method, attack)
        rates = cell.seeds["rate"].dropna().unique() if cell else []
        return ", ".join(f"{rate:g}" for rate in sorted(rates)) or DASH

    return TextColumn("at rate", text, attack)


def _beside(panel: Panel, guidance: str, attack: str) -> TextColumn | None:
    """For the same models the means of the held-out classifier, of another sampler's images, and
    of the oracle's other answers.
    """
    known = set(panel.values["base"])
    if panel.presence.of_word:
        known -= {"other_sampler", "forget_accuracy_another"}  # which look for the class
    metrics = {"held_out": panel.presence.held_out}
    metrics |= {name: f"forget_accuracy_{name}" for name in ("another", "nothing")}
    beside = {name: text for name, text in BESIDE.items() if metrics.get(name, name) in known}

    def text(method: str) -> str:
        cell = panel.cell(guidance, method, attack)
        means = [cell and cell.mean(name) for name in beside]
        return " / ".join(DASH if mean is None else f"{100 * mean:.1f}" for mean in means)

    header = " /\n".join(beside.values())
    return TextColumn(header, text, attack) if beside else None


def difference_column(panel: Panel, guidance: str, attack: str) -> TextColumn:
    """Of dashes where there is no retrain to subtract, which its header says."""
    reference = panel.references.get((guidance, attack), "retrain\n(has no result)")
    header = f"{display_name(panel.named[attack][0])}\nminus {reference}"
    return TextColumn(header, partial(difference_text, panel, guidance, attack), attack)


def difference_text(panel: Panel, guidance: str, attack: str, method: str) -> str:
    """``+5.3 ± 8.1`` of five seeds, of fewer ``+5.0, +5.6``, of one ``+5.3 [3.1, 7.6]``."""
    result = panel.differences.get((guidance, attack, method))
    if result is None:
        return "reference" if panel.references.get((guidance, attack)) == method else DASH
    text = f"{100 * result.mean:+.1f}"
    if result.test != IMAGES and result.n < ENOUGH:
        text = ", ".join(f"{100 * value:+.1f}" for value in result.values)
    elif result.low is None or result.high is None:
        pass
    elif result.test == IMAGES:
        text += f" [{100 * result.low:.1f}, {100 * result.high:.1f}]"
    else:
        text += f" ± {100 * (result.high - result.mean):.1f}"
    return text + ("*" if result.marked else "")


def legend(panels: Sequence[Panel], brief: bool = False) -> str:
    """What a reader of these boards needs to know, and no more than they show."""
    heads = list(dict.fromkeys(attack for panel in panels for attack in panel.heads))
    about = {"heads": heads, "shown": presences(panels)}
    words = [caption("table" if brief else "leaderboard", **about), difference_words(panels)]
    words += [] if brief else [caption("seconds")]
    words += [cost for panel in panels for cost in _costs(panel)]
    words += [note for panel in panels for note in notes(panel)]
    return " ".join(dict.fromkeys(filter(None, words)))


def _costs(panel: Panel) -> Iterator[str]:
    """``DiMRA: 0.4 of pretraining.``; older records do not say."""
    for attack in panel.heads:
        records = pick(panel.runs, attack_label=attack)["record"]
        shares = [number(record.get("attack_share_of_pretraining")) for record in records]
        if words := dict.fromkeys(f"{share:.2g}" for share in shares if share is not None):
            yield f"{attack}: {' and '.join(words)} of pretraining."


def difference_words(panels: Sequence[Panel]) -> str:
    tests = {result.test for panel in panels for result in panel.differences.values()}
    about = {"seeds": SEEDS in tests, "images": IMAGES in tests}
    return caption("differences", **about) if tests else ""


# ---- tables --------------------------------------------------------------------------------------


def cells(panel: Panel, guidance: str, shown: Sequence[TextColumn] = ()) -> Cells:
    """Headers and rows as text; by default of all columns."""
    shown = shown or columns(panel, guidance)
    methods = ranked(panel, guidance)
    rows = [[method, *(column.text(method) for column in shown)] for method in methods]
    return ["method", *(column.header for column in shown)], rows


def boards(panels: Sequence[Panel]) -> Iterator[tuple[Panel, str, str]]:
    """Each panel at each of its guidances, with its title."""
    for panel in panels:
        for guidance in panel.guidances:
            yield panel, guidance, title(panel, guidance)


def to_markdown(panels: Sequence[Panel]) -> str:
    tables = [(name, cells(panel, guidance)) for panel, guidance, name in boards(panels)]
    return _markdown(tables, legend(panels))


def to_brief(panels: Sequence[Panel]) -> str:
    return _markdown(_brief(panels), legend(panels, brief=True))


def to_first(panels: Sequence[Panel]) -> str:
    """The first of these tables, without words and narrow: for a README."""
    tables = _brief(panels[:1])
    return f"{markdown_table(*tables[0][1])}\n".replace(" | ", "|") if tables else ""


def _brief(panels: Sequence[Panel]) -> list[tuple[str, Cells]]:
    """At most six columns, for a page that is read on a phone."""
    tables = []
    for panel, guidance, name in boards(panels):
        own = {measure.name: measure for measure in measures(panel, guidance)}
        main = {measure.name: measure for measure in measures(panel, panel.guidances[0])}
        names = ["unlearning_accuracy", "retain_accuracy"]
        if panel.presence.of_word:
            names = [WORD.name, "retain_accuracy", PARAPHRASE][: 4 - len(panel.heads)]
        chosen = [(main | own)[name] for name in names if name in main | own]
        shown = [_column(panel, guidance, measure) for measure in chosen]
        shown += [difference_column(panel, guidance, attack) for attack in panel.heads]
        shown.append(TextColumn("verdict", partial(verdict, panel, guidance), None))
        tables.append((name, cells(panel, guidance, shown)))
    return tables


def _markdown(tables: Sequence[tuple[str, Cells]], words: str) -> str:
    parts = [f"### {markdown(name)}\n\n{markdown_table(*table)}" for name, table in tables]
    return "\n\n".join([*parts, words]) + "\n"


def to_latex(panels: Sequence[Panel]) -> str:
    parts = []
    for panel, guidance, name in boards(panels):
        parts.append(latex_table(f"{name}. {legend([panel])}", *cells(panel, guidance)))
    return "\n".join(parts)


NUMBERS = (  # noqa: SIM905
    "table forgotten guidance method method_settings verdict attack attack_settings measurement N"
    " mean low high n reached values images_low images_high runs"
).split()


def to_csv(panels: Sequence[Panel]) -> str:
    """One line per method and measurement; `runs` names what it is the mean of."""
    rows = []
    for panel, guidance, _ in boards(panels):
        every = itertools.product(measures(panel, guidance), ranked(panel, guidance))
        for measure, method in every:
            if e := measure.estimate(method):
                runs = [record["name"] for record in panel.records(method, measure.attack)]
                start = [panel.table, panel.forgotten, guidance, *panel.named[method]]
                start += [verdict(panel, guidance, method), *_attack(panel, measure.attack)]
                numbers = [e.mean, e.low, e.high, e.n, e.reached, joined(e.values)]
                ends = measure.images(method) or ("", "")
                about = [measure.name, measure.n_images]
                rows.append([*start, *about, *numbers, *ends, " ".join(runs)])
    return csv_text(NUMBERS, rows)


def _attack(panel: Panel, label: str) -> tuple[str, str]:
    return (NONE, "") if label == NONE else panel.named[label]


DIFFERENCES = (  # noqa: SIM905
    "table forgotten guidance attack attack_settings method method_settings reference difference"
    " low high p p_holm test pairs seeds values"
).split()


def differences_csv(panels: Sequence[Panel]) -> str:
    """One line per guidance, attack, method and test, accuracies as fractions."""
    rows = []
    for panel in panels:
        over_images = panel.image_differences.items()
        other = [(key, d) for key, d in over_images if d != panel.differences[key]]
        for (guidance, attack, method), d in [*panel.differences.items(), *other]:
            start = [panel.table, panel.forgotten, guidance, *_attack(panel, attack)]
            start += [*panel.named[method], panel.references[guidance, attack]]
            numbers = [d.mean, d.low, d.high, d.p, d.adjusted, d.test, d.n, d.seeds]
            rows.append([*start, *numbers, joined(d.values)])
    return csv_text(DIFFERENCES, rows)


RENDERERS = {
    "table.md": to_brief,
    "board.md": to_first,
    "leaderboard.md": to_markdown,
    "leaderboard.csv": to_csv,
    "leaderboard.tex": to_latex,
    "differences.csv": differences_csv,
}


def show(panels: Sequence[Panel], console: Console | None = None) -> None:
    """Print the boards, with as many columns as the console is wide."""
    console = console or Console()
    for panel, guidance, name in boards(panels):
        headers, rows = cells(panel, guidance)
        while len(headers) > 2 and natural_width(headers, rows) > console.width:
            headers, rows = headers[:-1], [row[:-1] for row in rows]
        console.print(name, style="bold", markup=False, highlight=False)
        console.print(console_table((headers, rows)))
    if panels:
        for note in dict.fromkeys(note for panel in panels for note in notes(panel)):
            console.print(note, markup=False, highlight=False)
        console.print(
            "± half of the 95 % t-interval over five seeds and more. * differs from the reference"
            " (paired, Holm). Words, every column and number: leaderboard.md, leaderboard.csv.",
            highlight=False,
        )


# ---- figures -------------------------------------------------------------------------------------


def scatters(panel: Panel) -> list[tuple[str, Figure]]:
    """(title, figure) where both attacks met retrain and at least one other method."""
    figures = []
    for guidance in panel.guidances if len(panel.heads) == 2 else ():
        right, top = (panel.limits.get((guidance, attack)) for attack in panel.heads)
        if right is None or top is None:
            continue
        if marks := list(_marks(panel, guidance)):
            where = f"{panel.forgotten}, guidance {guidance_label(guidance)}"
            name = f"Recovery over retrain: {where}"
            names = [display_name(panel.named[attack][0]) for attack in panel.heads]
            below, beside = (f"{name} minus retrain (points)" for name in names)
            drawn = scatter_figure(marks, name, below, beside, region=(right, top))
            figures.append((name, drawn))
    return figures


def _marks(panel: Panel, guidance: str) -> Iterator[Mark]:
    """A point for each control and name: the settings with most seeds, others as small points."""
    places: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    first, second = panel.heads
    for method in ranked(panel, panel.guidances[0]):
        name, settings = panel.named[method]
        x, y = (gap(panel, guidance, attack, method) for attack in panel.heads)
        if x is not None and y is not None and name != "retrain":
            key = name, settings if panel.is_control(method) else ""
            places.setdefault(key, {})[method] = x, y
    style = 0
    for (name, _), gaps in places.items():
        main = max(gaps, key=panel.count)
        across = _ends(panel.differences[guidance, first, main])
        along = _ends(panel.differences[guidance, second, main])
        label = main if len(gaps) == 1 else display_name(name)
        others = tuple(
            (*place, method in panel.ruined) for method, place in gaps.items() if method != main
        )
        control, ruined = panel.is_control(main), main in panel.ruined
        yield Mark(label, *gaps[main], style, control, ruined, (across, along), others)
        style += not control  # these are grey


def _ends(result: Difference) -> tuple[float, float]:
    if result.n < ENOUGH or result.low is None or result.high is None:
        return min(result.values), max(result.values)
    return result.low, result.high
