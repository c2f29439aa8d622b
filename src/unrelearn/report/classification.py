"""Classifiers side by side: a line a method, beside retrained models and their noise.

One board for each table of the comparison and forget set: gap and agreement with retraining, and
what relearning on retain data brings back beyond what it brings to `retrain`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from unrelearn.report.classified import (
    CLASSIFICATION,
    COLUMNS,
    BoardColumn,
    count_of,
    grey,
    marked,
    retrained,
    unseen,
    value_of,
)
from unrelearn.report.comparison import recovery_curves
from unrelearn.report.drawing import (
    LINE_COLORS,
    LINE_MARKERS,
    Style,
    new_axes,
    styled,
    title_and_legend,
)
from unrelearn.report.figures import Curve, recovery_figure
from unrelearn.report.files import csv_text
from unrelearn.report.groups import Group, control_first
from unrelearn.report.page import figure
from unrelearn.report.records import (
    NONE,
    Record,
    row_of,
    rows_of,
    troubles,
    unlearning,
    versions_line,
)
from unrelearn.report.relearning import relearning_figure
from unrelearn.report.render import (
    Context,
    Rich,
    caption,
    console_table,
    markdown,
    markdown_table,
    natural_width,
    page,
)
from unrelearn.report.stats import Estimate, estimate, estimate_text
from unrelearn.report.table import Results
from unrelearn.report.words import DASH, display_name, forgotten, labelled, plain
from unrelearn.terminal import Console, escape

BASELINE = "retrain"
RELEARN = ("relearn", "dimra")  # the attack whose end stands in the board: the first that was run
BRIEF = ("method", "UA %", "gap", "agree %", "seeds")
NORMALISED = "gap over\noriginal's"
RATIO = [column.name for column in COLUMNS].index("gap") + 1  # its place among the columns


@dataclass(frozen=True, eq=False)
class Board:
    """The runs of one table and forget set."""

    title: str
    members: list[Group]

    @cached_property
    def records(self) -> list[Record]:
        """Those of the curves' attack first: where an attacker holds half of the test images, what
        is measured before it is of the other half.
        """
        every = [record for group in self.members for record in group.finished]
        return sorted(every, key=lambda record: record["attack"] != self.attack)

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """A line a method and seed: the columns, `normalised`, and of each attack `after_ATTACK`,
        the share of the forgotten images that is right then, and `unseen_ATTACK`, that of test
        images of a forgotten class: each at the rate and budget where it is largest, of a mean over
        seeds of the attack.
        """
        lines: dict[tuple[str, int], dict[str, Any]] = {}
        after: list[tuple[Any, ...]] = []
        labels = {
            record["name"]: labelled(group.first["method"], group.method_note)
            for group in self.members
            for record in group.finished
        }
        for record in self.records:
            place = labels[record["name"]], record["seed"]
            lines.setdefault(place, {"name": record["method"], **_line(record)})
            after += [(*place, *shares) for shares in _after(record)]
        index = pd.MultiIndex.from_tuples(lines, names=["method", "seed"])
        frame = pd.DataFrame(list(lines.values()), index=index)
        if not after:
            return frame
        names = ["method", "seed", "attack", "rate", "step"]
        shares = pd.DataFrame(after, columns=[*names, "share"]).groupby(names)["share"].mean()
        return frame.join(shares.groupby(names[:3]).max().unstack("attack"))

    @cached_property
    def attacks(self) -> list[str]:
        """Relearning first."""
        run = {group.first["attack"] for group in self.members} - {NONE}
        return sorted(run, key=lambda name: (name not in RELEARN, name))

    @property
    def of_classes(self) -> bool:
        """Whether there are test images of what was forgotten."""
        return bool(self.seeds["unseen"].notna().any())

    @property
    def attack(self) -> str | None:
        """That of the curves."""
        return next((name for name in self.attacks if name in RELEARN), None)

    @property
    def methods(self) -> list[str]:
        """Controls first, then by the gap."""
        means = self.seeds.groupby("method")["gap"].mean()
        names = self.seeds.groupby("method")["name"].first()

        return sorted(means.index, key=lambda m: (control_first(names[m])[0], means[m]))

    def estimate(self, method: str, name: str) -> Estimate | None:
        if name not in self.seeds:
            return None
        return estimate(self.seeds.loc[method][name].tolist())

    @cached_property
    def references(self) -> dict[str, float | None]:
        """What retrained models get on average; as gap their floor."""
        return retrained(self.records[0])

    @property
    def count(self) -> int:
        return count_of(self.records[0])

    def minus_retrain(self, method: str, attack: str) -> Estimate | None:
        """What an attack brings back beyond what it brings to `retrain`, seed by seed: each at its
        own strongest rate and budget.
        """
        return self._minus_retrain(method, self.seeds.get(f"after_{attack}"))

    def gained(self, method: str) -> Estimate | None:
        """What the attack of the curves adds beyond what it adds to `retrain`, seed by seed."""
        after = self.seeds.get(f"after_{self.attack}")
        return self._minus_retrain(
            method, None if after is None else after - (1 - self.seeds["ua"])
        )

    def _minus_retrain(self, method: str, values: pd.Series | None) -> Estimate | None:
        name = display_name(BASELINE)
        known = self.seeds.index.get_level_values(0)
        if values is None or name not in known or method == name:
            return None
        return estimate((values.loc[method] - values.loc[name]).dropna().tolist())


def _line(record: Record) -> dict[str, Any]:
    unlearned, original = (row_of(record, model) for model in ("unlearned", "original"))
    line: dict[str, Any] = {}
    for column in COLUMNS:
        line[column.name] = value_of(unlearned, column.metric, column.field)
    line["unseen"] = unseen(unlearned)
    before = value_of(original, "gap")
    line["normalised"] = line["gap"] / before if line["gap"] is not None and before else None
    for stage in unlearning(record):
        line["seconds"] = stage.get("seconds")
    return line


def _after(record: Record) -> Iterator[tuple[str, str, float, float]]:
    """Column, rate, budget and the share of the forgotten images that is right then."""
    attack, rate = record["attack"], str(record["config"]["attack"].get("learning_rate"))
    for row in rows_of(record, "attacked"):
        shares = {"after": value_of(row, "forget_accuracy"), "unseen": unseen(row)}
        for name, share in shares.items():
            if share is not None:
                yield f"{name}_{attack}", rate, row["step"], share


def boards(results: Results) -> list[Board]:
    """Of classifiers, one a table and forget set."""
    groups: dict[str, list[Group]] = {}
    for title, members in results.tables.items():
        for group in members:
            if group.first.get("kind") == CLASSIFICATION and group.finished:
                name = f"{title}{_augmented(title, group.first)}, {forgotten(group.first)}"
                groups.setdefault(name, []).append(group)
    return [Board(title, members) for title, members in groups.items()]


def _augmented(title: str, record: Record) -> str:
    """How the original's images were augmented, where the title does not say it."""
    base = (record["config"].get("augment") or {}).get("base", NONE)
    return "" if base == NONE or "augment.base" in title else f", augment.base={base}"


# ---- tables --------------------------------------------------------------------------------------


def headers(board: Board) -> list[str]:
    names = [column.header for column in COLUMNS]
    names.insert(RATIO, NORMALISED)
    names += ["unseen %"] * board.of_classes
    names += [f"{display_name(attack)}\nminus retrain" for attack in board.attacks]
    names += [f"{display_name(board.attack)} gain\nminus retrain"] if board.attack else []
    names += [f"unseen after\n{name} %" for name in board.attacks if board.of_classes]
    return ["method", *names, "unlearn\ns", "seeds"]


def lines(board: Board) -> Iterator[list[str]]:
    """A line a method; last the references. A gap that retraining itself shows is in brackets."""
    for method in board.methods:
        n = len(board.seeds.loc[method])
        texts = [_text(board, method, column, n) for column in COLUMNS]
        ratio = estimate_text(board.estimate(method, "normalised"), 1, 2, n)
        texts.insert(RATIO, ratio)
        if board.of_classes:
            texts.append(estimate_text(board.estimate(method, "unseen"), 100, 1, n))
        for attack in board.attacks:
            texts.append(_signed(board.minus_retrain(method, attack), n, method))
        if board.attack:
            texts.append(_signed(board.gained(method), n, method))
        for attack in board.attacks if board.of_classes else []:
            texts.append(estimate_text(board.estimate(method, f"unseen_{attack}"), 100, 1, n))
        seconds = board.estimate(method, "seconds")
        yield [method, *texts, plain(seconds and seconds.mean), str(n)]
    known = board.references
    texts = [plain(known[column.name], column.factor, column.digits) for column in COLUMNS]
    texts.insert(RATIO, DASH)
    extra = [DASH] * (len(headers(board)) - len(texts) - 2)
    yield [f"{board.count} retrained", *texts, *extra, str(board.count)]


def _text(board: Board, method: str, column: BoardColumn, n: int) -> str:
    value = board.estimate(method, column.name)
    text = estimate_text(value, column.factor, column.digits, n)
    return marked(text, column, value and value.mean, board.references["gap"])


def _signed(value: Estimate | None, n: int, method: str) -> str:
    if value is None:
        return "reference" if method == display_name(BASELINE) else DASH
    return estimate_text(value, 100, 1, n)


def to_markdown(boards: Sequence[Board]) -> str:
    parts = []
    for board in boards:
        table = markdown_table(headers(board), list(lines(board)))
        parts.append(f"### {markdown(board.title)}\n\n{table}\n\n{board_caption(board)}")
    return "\n\n".join(parts) + "\n"


def board_caption(board: Board) -> str:
    shown = {"attack": bool(board.attacks), "unseen": board.of_classes}
    return caption("classification", count=board.count, **shown)


def to_csv(boards: Sequence[Board]) -> str:
    rows = []
    attacks = dict.fromkeys(attack for board in boards for attack in board.attacks)
    names = [*(column.name for column in COLUMNS), "normalised"]
    names += [*(f"after_{attack}" for attack in attacks), "seconds"]
    if any(board.of_classes for board in boards):
        names += ["unseen", *(f"unseen_{attack}" for attack in attacks)]
    for board in boards:
        for (method, seed), line in board.seeds.iterrows():
            rows.append([board.title, method, seed, *(line.get(name) for name in names)])
        known = [board.references.get(name) for name in names]
        rows.append([board.title, f"{board.count} retrained", "", *known])
    return csv_text(["table", "method", "seed", *names], rows)


def show(boards: Sequence[Board], console: Console | None = None) -> None:
    """Print every board: all columns if they fit, else those that matter most."""
    console = console or Console()
    for board in boards:
        names, rows = headers(board), list(lines(board))
        if natural_width(names, rows) > console.width:
            ends = [name for name in names if name.endswith("minus retrain")]
            kept = [place for place, name in enumerate(names) if name in (*BRIEF, *ends)]
            names = [names[place] for place in kept]
            rows = [[row[place] for place in kept] for row in rows]
        title = {"title": escape(board.title), "title_justify": "left"}
        table = console_table((names, rows), width=natural_width(names, rows), **title)
        console.print(table, crop=False)


RENDERERS = {"classification.md": to_markdown, "classification.csv": to_csv}


# ---- figures -------------------------------------------------------------------------------------


@styled
def gap_figure(board: Board, title: str = "") -> Figure:
    """Gap against agreement: what the gap can not see. The cross: retrained models themselves.

    A method looks the same in the figures of all boards that have the same methods.
    """
    _, axes = new_axes(height=3.4 + 0.19 * (len(board.methods) // 2))
    for place, method in enumerate(sorted(board.methods)):
        seeds = board.seeds.loc[method]
        style: Style = {
            "color": LINE_COLORS[place % len(LINE_COLORS)],
            "marker": LINE_MARKERS[(place // len(LINE_COLORS)) % len(LINE_MARKERS)],
        }
        x, y = (100 * seeds[name].astype(float) for name in ("gap", "agreement"))
        axes.plot(x, y, linestyle="", markersize=4, alpha=0.35, **style)
        axes.plot([x.mean()], [y.mean()], linestyle="", markersize=8, label=method, **style)
    known = board.references
    gap, agreement = known["gap"], known["agreement"]
    if gap is not None and agreement is not None:
        label = f"{board.count} retrained"
        cross: Style = {"linestyle": "", "marker": "X", "color": "black", "markersize": 9}
        axes.plot([100 * gap], [100 * agreement], label=label, **cross)
        axes.axvspan(0, 100 * gap, color="#dddddd", zorder=0)
    axes.set(xlabel="gap to retraining (points)", ylabel="agreement with retraining (%)")
    axes.set_xlim(left=-0.02 * axes.get_xlim()[1])  # what lies at nought is seen whole
    return title_and_legend(axes, title, 3)


def _relearning(curves: list[Curve], title: str) -> Figure:
    """Each beside retrain; where that was not run, all in one."""
    baseline = [c for c in curves if c.label.startswith(f"{display_name(BASELINE)}, ")]
    others = [curve for curve in curves if curve not in baseline]
    if len(baseline) != 1 or not others or baseline[0].unit != "steps":
        return recovery_figure(curves, title)
    return relearning_figure(others, baseline[0], title)


def figures(results: Results, board: Board) -> list[tuple[str, Figure]]:
    """Relearning curves first, then gap against agreement."""
    drawn = []
    if board.attack:
        wanted = [group for group in board.members if group.first["attack"] == board.attack]
        for title, curves in recovery_curves(results, wanted):
            drawn.append((title, _relearning(curves, title)))
    title = f"Gap and agreement, {forgotten(board.records[0])}"
    return [*drawn, (title, gap_figure(board, title))]


# ---- the page ------------------------------------------------------------------------------------


def front(results: Results, boards: Sequence[Board], files: Sequence[str]) -> str:
    sections: list[Context] = []
    for board in boards:
        rows = [[grey(text) for text in line] for line in lines(board)]
        drawn = [figure(each, title) for title, each in figures(results, board)]
        about = {"title": board.title, "figures": drawn, "headers": headers(board), "rows": rows}
        sections.append(about | {"caption": board_caption(board)})
    records = [record for board in boards for record in board.records]
    runs = [[record["name"], Rich(record["command"] or DASH, code=True)] for record in records]
    return page(
        "classification",
        title="Classifiers after unlearning",
        extent=f"{len(records)} runs. {versions_line(records)}",
        boards=sections,
        unfinished=troubles(results.records),
        runs=runs,
        files=files,
    )
