"""Equal effort: the same search for every method, judged by a tuning class before any attack.

    Rules, Space   what is searched (conf/tune.yaml, conf/tune/METHOD.yaml)
    draw           the settings of each trial: the first points of a scrambled Sobol sequence
    measured       the numbers of a model that a choice may rest on
    ranking        the admissible trials, best first

A table of trials has one row for each trial and tuning seed, as text, as in its CSV file. What is
written of such tables is in `tuned`.
"""

import csv
import math
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from unrelearn.errors import UsageError

RATE, STEPS = "unlearning.learning_rate", "unlearning.max_steps"
MOST_CONSTANTS = 2
ACCURACY = "unlearning_accuracy@"  # and the guidance scale: a column each

Row = dict[str, str]
Settings = dict[str, float | int | str]  # key of the configuration -> value


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
    known = {field.name for field in fields(Rules)}
    if given.keys() != known:
        raise UsageError(
            f"conf/tune.yaml: must hold exactly {', '.join(sorted(known))}. "
            f"Mend {', '.join(sorted(given.keys() ^ known))}"
        )
    return Rules(**given)


def read_space(conf: Path, method: str, rules: Rules, passes: tuple[float, float]) -> Space:
    """passes: of a step of the method, as its class says (`Method.passes`)."""
    name = f"conf/tune/{method}.yaml"
    given = yaml.safe_load((conf / "tune" / f"{method}.yaml").read_text())
    constants = {}
    for key, value in given["constants"].items():
        low, high = value["published"] / rules.factor, value["published"] * rules.factor
        c = constants[key] = Constant(**{"low": low, "high": high, **value})
        if not low <= c.low < c.high <= high:
            raise UsageError(
                f"{name}: {key} from {c.low:g} to {c.high:g}: must lie within x1/{rules.factor:g}"
                f" and x{rules.factor:g} of {c.published:g}. Type low: {low:.3g}, high: {high:.3g}"
            )
    variant = given.get("variant", {})
    if len(constants) > MOST_CONSTANTS or len(variant) > 1:
        raise UsageError(
            f"{name}: {len(constants)} constants and {len(variant)} variants; at most "
            f"{MOST_CONSTANTS} and 1, so that all are searched alike. Leave some out"
        )
    return Space(method, affordable_steps(passes, rules.passes), constants, variant)


def affordable_steps(passes: tuple[float, float], budget: int) -> int:
    """Steps that cost at most `budget` forward passes; a backward pass costs two, as in cost.py."""
    trained, only_forward = passes
    return math.floor(budget / (3 * trained + only_forward))


# ---- trials ----------------------------------------------------------------------------------


def draw(space: Space, rules: Rules, trials: int) -> list[Settings]:
    """The settings of each trial; fewer trials are the first of more.

    Points of Sobol's sequence (1967), scrambled (Owen 1998), which visit all of the space alike.
    Numbers are rounded to three digits, so that a command says exactly what was run.
    """
    axes = {
        RATE: _log_uniform(*rules.learning_rate),
        STEPS: _choice([min(steps, space.most_steps) for steps in rules.max_steps]),
    }
    axes |= {f"method.{name}": _log_uniform(c.low, c.high) for name, c in space.constants.items()}
    axes |= {f"method.{name}": _choice(values) for name, values in space.variant.items()}
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(axes), scramble=True, seed=rules.sobol_seed)
    points = sequence.random_base2(math.ceil(math.log2(max(2, trials))))[:trials].tolist()
    return [
        {key: value(u) for (key, value), u in zip(axes.items(), point, strict=True)}
        for point in points
    ]


def _log_uniform(low: float, high: float) -> Callable[[float], float]:
    return lambda u: min(max(float(f"{low * (high / low) ** u:.3g}"), low), high)


def _choice(values: Sequence) -> Callable[[float], Any]:
    return lambda u: values[int(u * len(values))]


def in_words(settings: Settings) -> list[str]:
    """As on a command line."""
    return [
        f"{key}={value:.12g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in settings.items()
    ]


def command(space: Space, rules: Rules, settings: Settings, seed: int, more: Sequence[str]) -> str:
    """What makes and measures exactly this model. more: overrides of the whole search."""
    of = [f"method={space.method}", f"forget={rules.forget}", f"seed={seed}"]
    return shlex.join(["python", "run.py", *of, *rules.overrides, *more, *in_words(settings)])


def measured(metrics: Mapping, original: Mapping, rules: Rules) -> Row:
    """What a choice may rest on, of the measurements of an unlearned model and of the original."""
    scale = next(iter(original["retain_accuracy"]))  # of retained classes: the first one
    numbers = {
        f"{ACCURACY}{s}": 1 - seen["value"] for s, seen in metrics["forget_accuracy"].items()
    }
    for name in ("retain_accuracy", "fd_oracle"):
        numbers[name] = metrics[name][scale]["value"]
        numbers[f"{name}_original"] = original[name][scale]["value"]
    row = {name: f"{number:.6f}" for name, number in numbers.items()}
    return row | {"admissible": "yes" if admissible(row, rules) else "no"}


def unlearned(row: Row, rules: Rules) -> bool:
    """Whether the model of a row has unlearned, at whatever price; no, if there is none."""
    accuracies = [value for name, value in row.items() if name.startswith(ACCURACY)]
    if not accuracies or "" in accuracies:
        return False
    return min(map(float, accuracies)) >= rules.unlearning_accuracy


def admissible(row: Row, rules: Rules) -> bool:
    """Whether the model of a row has unlearned and its retained classes are whole."""
    if not unlearned(row, rules):
        return False
    return float(row["fd_oracle"]) <= float(row["fd_oracle_original"]) * rules.distance


# ---- tables of trials ------------------------------------------------------------------------


def columns(space: Space, scales: Sequence[float]) -> list[str]:
    """scales: of guidance under the forgotten class."""
    return [
        "trial",
        "seed",
        "learning_rate",
        "max_steps",
        *space.constants,
        *space.variant,
        "status",
        *(f"{ACCURACY}{float(scale)}" for scale in scales),
        "retain_accuracy",
        "retain_accuracy_original",
        "fd_oracle",
        "fd_oracle_original",
        "admissible",
        "seconds",
        "unlearn",
        "evaluate",
        "command",
    ]


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file; none if there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (
            None in row
            or None in row.values()
            or not {"trial", "seed", "status", "command"} <= row.keys()
        ):
            raise UsageError(
                f"{path}: has a line that is not whole. Type rm {shlex.quote(str(path))} to "
                "make all of it anew, or mend the line"
            )
    return rows


def check_rows(
    path: Path, rows: Sequence[Row], rules: Rules, commands: Mapping[tuple[int, int], str]
) -> None:
    """That rows are of the space and the condition that are declared now.

    Args:
        commands: (trial, seed) -> what the row's command should be.

    Raises:
        UsageError: the first row that is not.
    """
    for row in rows:
        now = commands.get((int(row["trial"]), int(row["seed"])), "")
        difference = ""
        if row["command"] != now:
            old, new = shlex.split(row["command"]), shlex.split(now)
            gone, come = (
                [word for word in a if word not in b] for a, b in ((old, new), (new, old))
            )
            difference = f"{' '.join(gone) or 'nothing'} then, {' '.join(come) or 'nothing'} now"
        elif row["status"] == "finished" and (row["admissible"] == "yes") != admissible(row, rules):
            difference = f"admissible {row['admissible']} then, the opposite now"
        if difference:
            raise UsageError(
                f"{path}: trial {row['trial']}, seed {row['seed']}: the declared search has changed"
                f" ({difference}). Type --results FOLDER for a search of its own, or rm"
                f" {shlex.quote(str(path))} to do this one anew"
            )


def ranking(rows: Sequence[Row], rules: Rules, trials: int) -> list[list[Row]]:
    """The trials that are admissible on every seed, by mean retained accuracy; the rows of each."""
    by_trial: dict[int, list[Row]] = {}
    for row in rows:
        if int(row["trial"]) < trials and row["status"] == "finished" and admissible(row, rules):
            by_trial.setdefault(int(row["trial"]), []).append(row)

    def worth(trial: list[Row]) -> tuple[float, float, int]:
        return -mean(trial, "retain_accuracy"), over_original(trial), int(trial[0]["trial"])

    seeds = set(rules.seeds)
    whole = [t for t in by_trial.values() if {int(row["seed"]) for row in t} == seeds]
    return sorted(whole, key=worth)


def mean(rows: Sequence[Row], column: str) -> float:
    return statistics.fmean(float(row[column]) for row in rows)


def over_original(rows: Sequence[Row]) -> float:
    """Distance (fd_oracle) in units of the original models', both as means."""
    return mean(rows, "fd_oracle") / mean(rows, "fd_oracle_original")


def complete(rows: Sequence[Row], rules: Rules, trials: int) -> bool:
    there = {(int(row["trial"]), int(row["seed"])) for row in rows}
    return all((trial, seed) in there for trial in range(trials) for seed in rules.seeds)


def settings_of(row: Row) -> list[str]:
    """What the search has drawn for a row, as words of a command line."""
    names = list(row)
    keys = {RATE, STEPS, *(f"method.{name}" for name in names[: names.index("status")])}
    words = [word for word in shlex.split(row["command"]) if word.split("=")[0] in keys]
    return list({word.split("=")[0]: word for word in words}.values())  # the last of a key counts
