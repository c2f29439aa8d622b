"""Equal effort: the same search for every method, judged by what a tuning class shows before any attack.

    Rules, Space   what is searched (conf/tune.yaml, conf/tune/METHOD.yaml)
    draw           the settings of each trial: the first points of a scrambled Sobol sequence
    measured       the numbers of a model that a choice may rest on
    ranking        the admissible trials, best first
    chosen_csv, to_markdown, preset   what is written of them

A table of trials has one row for each trial and tuning seed, as text, as in its CSV file.
"""

import csv
import math
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from scipy.stats import qmc

from unrelearn.errors import UsageError

RATE, STEPS = "unlearning.learning_rate", "unlearning.max_steps"
MOST_CONSTANTS = 2
SHOWN = 3  # the chosen setting and its two runners-up
RESULT = (
    "status",
    "unlearning_accuracy",
    "retain_accuracy",
    "retain_accuracy_original",
    "fd_oracle",
    "fd_oracle_original",
    "admissible",
    "seconds",
    "unlearn",
    "evaluate",
    "command",
)

Row = dict[str, str]


@dataclass(frozen=True)
class Rules:
    """What is the same for all methods; conf/tune.yaml says it in words."""

    trials: int
    sobol_seed: int
    forget: int
    seeds: list[int]
    learning_rate: list[float]
    max_steps: list[int]
    passes: int
    factor: float
    unlearning_accuracy: float
    distance: float
    overrides: list[str]


@dataclass(frozen=True)
class Constant:
    """A constant of a method: the published value, whose it is, and the range of the search."""

    published: float
    source: str
    low: float
    high: float


@dataclass(frozen=True)
class Space:
    """What is searched for one method, beside the learning rate.

    Args:
        most_steps: what the rules' passes pay for; see `affordable_steps`.
        constants: at most two arguments of the method.
        variant: an argument and the words that it may be; {} or one of them.
    """

    method: str
    most_steps: int
    constants: dict[str, Constant]
    variant: dict[str, list[str]]


def read_rules(conf: Path) -> Rules:
    given = yaml.safe_load((conf / "tune.yaml").read_text())
    if given.keys() != (known := {field.name for field in fields(Rules)}):
        raise UsageError(
            f"{conf / 'tune.yaml'}: must hold exactly {', '.join(sorted(known))}. "
            f"Look at {', '.join(sorted(given.keys() ^ known))}"
        )
    return Rules(**given)


def read_space(conf: Path, method: str, rules: Rules, passes: tuple[float, float]) -> Space:
    """passes: of a step of the method, as its class says (`DiffusionModule.passes`)."""
    given = yaml.safe_load((conf / "tune" / f"{method}.yaml").read_text())
    constants = {}
    for name, value in given["constants"].items():
        low, high = value["published"] / rules.factor, value["published"] * rules.factor
        constants[name] = Constant(
            value["published"], value["source"], value.get("low", low), value.get("high", high)
        )
        if not low <= constants[name].low < constants[name].high <= high:
            raise UsageError(
                f"conf/tune/{method}.yaml: {name} from {constants[name].low:g} to {constants[name].high:g}: must lie "
                f"within x1/{rules.factor:g} and x{rules.factor:g} of {value['published']:g}. "
                f"Type low: {low:.3g}, high: {high:.3g}"
            )
    variant = given.get("variant", {})
    if len(constants) > MOST_CONSTANTS or len(variant) > 1:
        raise UsageError(
            f"conf/tune/{method}.yaml: {len(constants)} constants and {len(variant)} variants; at most "
            f"{MOST_CONSTANTS} and 1, so that all are searched alike. Leave some out"
        )
    return Space(method, affordable_steps(passes, rules.passes), constants, variant)


def affordable_steps(passes: tuple[float, float], budget: int) -> int:
    """Optimiser steps that cost at most `budget` forward passes, where a backward pass costs two (as in cost.py)."""
    trained, only_forward = passes
    return math.floor(budget / (3 * trained + only_forward))


# ---- trials ----------------------------------------------------------------------------------------------------------


def draw(space: Space, rules: Rules, trials: int) -> list[dict[str, float | int | str]]:
    """The settings of each trial, key -> value; fewer trials are the first of more.

    Sobol' 1967, scrambled (Owen 1998): every part of the space is visited alike, whatever the number of trials.
    """

    def log_uniform(low: float, high: float) -> Callable[[float], float]:
        return lambda u: float(f"{min(max(low * (high / low) ** u, low), high):.3g}")

    def choice(values: Sequence) -> Callable[[float], object]:
        return lambda u: values[int(u * len(values))]

    axes = {
        RATE: log_uniform(*rules.learning_rate),
        STEPS: choice([min(steps, space.most_steps) for steps in rules.max_steps]),
    }
    axes |= {f"method.{name}": log_uniform(c.low, c.high) for name, c in space.constants.items()}
    axes |= {f"method.{name}": choice(values) for name, values in space.variant.items()}
    sequence = qmc.Sobol(len(axes), scramble=True, seed=rules.sobol_seed)
    points = sequence.random_base2(max(1, math.ceil(math.log2(trials))))[:trials]
    return [
        {key: of(u) for (key, of), u in zip(axes.items(), point.tolist(), strict=True)}
        for point in points
    ]


def in_words(settings: Mapping[str, float | int | str]) -> list[str]:
    """As on a command line."""
    return [
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in settings.items()
    ]


def command(space: Space, rules: Rules, settings: Mapping, seed: int, more: Sequence[str]) -> str:
    """The command that makes and measures exactly this model. more: overrides of the whole search."""
    return shlex.join(
        [
            "python",
            "run.py",
            f"method={space.method}",
            f"forget={rules.forget}",
            f"seed={seed}",
            *rules.overrides,
            *more,
            *in_words(settings),
        ]
    )


def measured(metrics: Mapping, original: Mapping, rules: Rules) -> Row:
    """What a choice may rest on, of the measurements of an unlearned model and of the original one."""
    scale = next(iter(original["retain_accuracy"]))  # of retained classes, the first one
    row = {
        f"unlearning_accuracy@{s}": 1 - seen["value"]
        for s, seen in metrics["forget_accuracy"].items()
    }
    for name in ("retain_accuracy", "fd_oracle"):
        row |= {
            name: metrics[name][scale]["value"],
            f"{name}_original": original[name][scale]["value"],
        }
    row = {name: f"{value:.6f}" for name, value in row.items()}
    return row | {"admissible": "yes" if admissible(row, rules) else "no"}


def admissible(row: Row, rules: Rules) -> bool:
    """Whether the model of a row has unlearned, and the retained classes are whole; not so if it was not made."""
    accuracies = [
        float(value or "nan")
        for name, value in row.items()
        if name.startswith("unlearning_accuracy@")
    ]
    if not accuracies or not row.get("fd_oracle"):
        return False
    allowed = float(row["fd_oracle_original"]) + rules.distance
    return min(accuracies) >= rules.unlearning_accuracy and float(row["fd_oracle"]) <= allowed


# ---- tables of trials ------------------------------------------------------------------------------------------------


def columns(space: Space, scales: Sequence[str]) -> list[str]:
    """scales: of guidance under the forgotten class, as text."""
    drawn = ["learning_rate", "max_steps", *space.constants, *space.variant]
    accuracies = [f"unlearning_accuracy@{scale}" for scale in scales]
    after = [
        name
        for result in RESULT
        for name in (accuracies if result == "unlearning_accuracy" else [result])
    ]
    return ["trial", "seed", *drawn, *after]


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file; none if there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any(
        None in row
        or None in row.values()
        or not {"trial", "seed", "command", "status"} <= row.keys()
        for row in rows
    ):
        raise UsageError(
            f"{path}: is no table of trials, or has a line that was cut. Type rm {shlex.quote(str(path))} to make it "
            "anew, or mend the line"
        )
    return rows


def check_commands(
    path: Path, rows: Sequence[Row], expected: Mapping[tuple[str, str], str]
) -> None:
    """That each row is of the space as it is declared now. expected: (trial, seed) -> command.

    Raises:
        UsageError: the first row that is not.
    """
    for row in rows:
        now = expected.get((row["trial"], row["seed"]))
        if row["command"] != now:
            old, new = set(shlex.split(row["command"])), set(shlex.split(now or ""))
            change = f"{' '.join(sorted(old - new)) or 'nothing'} then, {' '.join(sorted(new - old)) or 'nothing'} now"
            raise UsageError(
                f"{path}: trial {row['trial']}, seed {row['seed']} is of another declared space ({change}). "
                f"Type --results FOLDER for a search of its own, or rm {shlex.quote(str(path))} to do this one anew"
            )


def ranking(rows: Sequence[Row], rules: Rules, trials: int) -> list[list[Row]]:
    """The trials that are admissible on every seed, the largest mean retained accuracy first; their rows."""
    by_trial: dict[int, list[Row]] = {}
    for row in rows:
        if int(row["trial"]) < trials and row["status"] == "finished" and admissible(row, rules):
            by_trial.setdefault(int(row["trial"]), []).append(row)
    whole = [
        seen
        for seen in by_trial.values()
        if {int(row["seed"]) for row in seen} == set(rules.seeds)
    ]
    return sorted(
        whole,
        key=lambda seen: (
            -mean(seen, "retain_accuracy"),
            over_original(seen),
            int(seen[0]["trial"]),
        ),
    )


def mean(rows: Sequence[Row], column: str) -> float:
    return statistics.fmean(float(row[column]) for row in rows)


def over_original(rows: Sequence[Row]) -> float:
    return mean(rows, "fd_oracle") - mean(rows, "fd_oracle_original")


def settings_of(row: Row) -> list[str]:
    """The drawn values of a row, as on a command line: those of its command that the search has added."""
    drawn = list(row)[2 : list(row).index("status")]
    keys = {RATE, STEPS, *(f"method.{name}" for name in drawn)}
    return [word for word in shlex.split(row["command"]) if word.split("=")[0] in keys]


def finished(rows: Sequence[Row], rules: Rules, trials: int) -> bool:
    wanted = {(str(trial), str(seed)) for trial in range(trials) for seed in rules.seeds}
    return wanted <= {(row["trial"], row["seed"]) for row in rows}


# ---- what is written of them -----------------------------------------------------------------------------------------


def none_admissible(trials: int) -> str:
    return f"no admissible setting in {trials}"


def chosen_csv(
    tables: Mapping[str, Sequence[Row]], rules: Rules, trials: int
) -> tuple[list[str], list[list]]:
    """(header, rows) of the chosen setting and the runners-up of each method whose trials are complete."""
    lines = []
    for method, rows in tables.items():
        if not finished(rows, rules, trials):
            continue
        ranked = ranking(rows, rules, trials)
        if not ranked:
            lines.append([method, "", "", "", "", "", none_admissible(trials)])
        for place, seen in enumerate(ranked[:SHOWN], start=1):
            lines.append(
                [
                    method,
                    place,
                    seen[0]["trial"],
                    len(ranked),
                    f"{mean(seen, 'retain_accuracy'):.6f}",
                    f"{over_original(seen):.6f}",
                    shlex.join(settings_of(seen[0])),
                ]
            )
    return [
        "method",
        "place",
        "trial",
        "admissible",
        "retain_accuracy",
        "fd_oracle_over_original",
        "settings",
    ], lines


def to_markdown(tables: Mapping[str, Sequence[Row]], rules: Rules, trials: int) -> str:
    lines = [
        f"| method | admissible of {trials} | chosen | UA, each seed and guidance | retained | distance over the original's "
        "| retained: next two |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for method, rows in tables.items():
        ranked = ranking(rows, rules, trials)
        if not finished(rows, rules, trials):
            done = len({row["trial"] for row in rows if int(row["trial"]) < trials})
            lines.append(f"| {method} | {len(ranked)} | {done} of {trials} trials begun | | | | |")
        elif not ranked:
            lines.append(f"| {method} | 0 | {none_admissible(trials)} | | | | |")
        else:
            first, *others = ranked
            words = ", ".join(
                word.split(".", 1)[1].replace("=", " ") for word in settings_of(first[0])
            )
            lines.append(
                f"| {method} | {len(ranked)} | trial {first[0]['trial']}: {words} | {accuracies(first)} | "
                f"{100 * mean(first, 'retain_accuracy'):.1f} | {over_original(first):+.2f} | "
                + ", ".join(
                    f"{100 * mean(seen, 'retain_accuracy'):.1f}" for seen in others[: SHOWN - 1]
                )
                + " |"
            )
    return "\n".join(lines) + "\n"


def accuracies(rows: Sequence[Row]) -> str:
    """Unlearning accuracy in percent: guidance scales by slashes, seeds by commas."""
    return ", ".join(
        " / ".join(
            f"{100 * float(value):.1f}"
            for name, value in row.items()
            if name.startswith("unlearning_accuracy@")
        )
        for row in rows
    )


def preset(
    method: str, seen: Sequence[Row], *, place: int, admissible: int, rules: Rules, trials: int
) -> str:
    """A file of conf/tuned: the settings of a trial, and where they come from."""
    row, name = seen[0], preset_name(method, place)
    which = "chosen" if place == 1 else f"number {place}"
    groups: dict[str, list[str]] = {"unlearning": [], "method": []}
    for word in settings_of(row):
        group, _, setting = word.partition(".")
        groups[group].append(setting.replace("=", ": "))
    lines = [
        "# @package _global_",
        f"# Made by scripts/tune.py, not by hand:   python run.py method={method} +tuned={name} attack=dimra",
        "# (-m +tuned=A,B without method= takes each with its method)",
        f"# Trial {row['trial']} of {trials}, {which} of the {admissible} that were admissible (docs/results/tuning/{method}.csv).",
        f"# Class {rules.forget}, seeds {', '.join(map(str, rules.seeds))}: unlearning accuracy {accuracies(seen)} %, retained "
        f"{100 * mean(seen, 'retain_accuracy'):.1f} %,",
        f"# distance {over_original(seen):+.2f} over the original's. Tuned there only: report other classes and seeds.",
        f"defaults: [{{override /method: {method}}}]",
    ]
    lines += [
        f"{group}: {{{', '.join(settings)}}}" for group, settings in groups.items() if settings
    ]
    return "\n".join(lines) + "\n"


def preset_name(method: str, place: int) -> str:
    return method if place == 1 else f"{method}_{place}"
