"""The tidy table: one line a run, model, guidance and measurement; views are group-bys of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from unrelearn.report.groups import Group, comparison, gathered, settings_of
from unrelearn.report.records import (
    CLASS,
    MODELS,
    OF_WORDS,
    QUALITY,
    WORD,
    Presence,
    Record,
    Row,
    attack_seed,
    measured,
    number,
    pooled,
    presence,
    retained_guidance,
    row_of,
    sees_forgotten,
    shows_class,
    takes_steps,
    unlearning,
)
from unrelearn.report.stats import (
    MEASURED,
    Estimate,
    Measurement,
    estimate,
    estimated,
    intact,
    over_attack_seeds,
)
from unrelearn.report.words import forgotten, labelled, protocol_name

ANNEALED = ("cosine", "one_cycle")
# fields of a measurement that are no measurement of their own
ABOUT = {"value", "low", "high", "n", "hits", "starts", "n_starts", "k", "reference_n", "features"}
BARE = ("precision_recall", "density_coverage")  # the fields are called by their own names
# of results.csv, in this order; the file holds no hits
SHARED = (  # noqa: SIM905
    "run table protocol dataset forgotten method method_settings attack attack_settings rate seed"
    " attack_seed status"
).split()
TIDY = [*SHARED, "model", "step", "model_status", "admissible", "last", "measurement", "guidance"]
TIDY += ["value", "low", "high", "n"]


MODEL, WHOLE = "model", "whole"  # measured of each model, or no matter of which
COMPARED = {name: MODEL for name in ("forget_accuracy", "concept_accuracy", "retain_accuracy")}
COMPARED |= {each.name: MODEL for each in OF_WORDS}
SHORT = {f"forget_accuracy_{name}": name for name in ("another", "nothing")}
COMPARED |= dict.fromkeys(SHORT, MODEL) | {quality.name: MODEL for quality in QUALITY}
COMPARED |= {f"{q.name}_{q.beside}": WHOLE for q in QUALITY if q.beside}
COMPARED |= {"area": WHOLE, "steps_to_half": WHOLE}


@dataclass(frozen=True, eq=False)
class Results:
    """Groups of records, and what was measured in them."""

    groups: list[Group]
    runs: pd.DataFrame  # one line a run; "group_id" is the place of its group
    values: pd.DataFrame  # one line a measurement; "id" is that of the run, "row" of the model

    @property
    def records(self) -> list[Record]:
        return list(self.runs["record"])

    @cached_property
    def tables(self) -> dict[str, list[Group]]:
        """Groups by the title of their table: numbers of two protocols never share one."""
        return gathered(self.groups, lambda group: group.table)

    @cached_property
    def estimates(self) -> list[dict[str, Estimate]]:
        """Of each group what table.csv holds, by column: ``attacked_forget_accuracy@1.0``. A
        diverged run counts where it has a measurement, and only there.
        """
        lines = self._compared()
        of: list[dict[str, Estimate]] = [{} for _ in self.groups]
        seeds = over_attack_seeds(lines, ["group_id", "column", "base", "seed"])
        for (group, column, base), same in seeds.groupby(
            ["group_id", "column", "base"], sort=False
        ):
            if average := estimated(same, base):
                of[group][column] = average
        attacked = pick(lines, model="attacked", present=True)
        for (group, column), same in attacked.groupby(["group_id", "column"], sort=False):
            highest = same.groupby("seed", sort=False)["value"].max()
            if same["seed"].duplicated().any():
                name = column.replace("@", "_maximum@")
                of[group][name] = estimate(highest.tolist())
        return of

    def _compared(self) -> pd.DataFrame:
        """Lines with their column and group; of an attack those of its last budget or level."""
        budgets = [group.budgets[-1] if group.budgets else None for group in self.groups]
        lines = pick(self.values, last=True, base=list(COMPARED))
        ends = lines["group_id"].map(pd.Series(budgets, dtype=float))
        late = (lines["model"] != "attacked") | (lines["place"] < 0)
        lines = lines[late | ends.isna() | (lines["step"] == ends)]
        whole = lines["base"].map(COMPARED) == WHOLE
        lines = lines[~whole | (lines["place"] < 0) | (lines["model"] == "original")]
        names = lines["measurement"].replace(SHORT) + "@" + lines["guidance"].astype(str)
        return lines.assign(column=names.where(whole, lines["model"] + "_" + names))

    @property
    def tidy(self) -> pd.DataFrame:
        """What results.csv holds."""
        return self.values[TIDY]


def results(records: Sequence[Record]) -> Results:
    """The tidy table of these records, with one of each run."""
    groups = comparison(records)
    runs = pd.DataFrame(_runs(groups), columns=["record", "group_id", *SHARED, "classes", "holds"])
    runs["method_label"] = [*map(labelled, runs["method"], runs["method_settings"])]
    runs["attack_label"] = [*map(labelled, runs["attack"], runs["attack_settings"])]
    columns = [*LINE, *MEASURED]
    lines = [line for id_, record in enumerate(runs["record"]) for line in _lines(id_, record)]
    values = pd.DataFrame(lines, columns=columns, dtype=object)
    values["row"] = values["id"].astype(str) + "/" + values["place"].astype(str)
    values["value"], values["step"] = values["value"].astype(float), values["step"].astype(float)
    named = runs.drop(columns="record")
    return Results(groups, runs, values.merge(named, left_on="id", right_index=True))


def _runs(groups: Sequence[Group]) -> Iterator[Record]:
    for table, members in gathered(groups, lambda group: group.table).items():
        settings = settings_of(members, "method"), settings_of(members, "attack")
        for group, method_settings, attack_settings in zip(members, *settings, strict=True):
            for record in group.records:
                yield {
                    "record": record,
                    "group_id": group.number,
                    "run": record["name"],
                    "table": table,
                    "protocol": protocol_name(record),
                    "dataset": record["dataset"],
                    "forgotten": forgotten(record),
                    "classes": tuple(record["forget_classes"]),
                    "method": record["method"],
                    "method_settings": method_settings,
                    "attack": record["attack"],
                    "attack_settings": attack_settings,
                    "rate": str((record["config"].get("attack") or {}).get("learning_rate")),
                    "seed": record["seed"],
                    "attack_seed": attack_seed(record),
                    "status": record["status"],
                    "holds": sees_forgotten(record),
                }


# ---- the lines of a record -----------------------------------------------------------------------

LINE = ["id", "place", "model", "step", "model_status", "admissible", "end", "last", "retained"]
LINE += ["present", "base", "measurement", "guidance"]


def _lines(id_: int, record: Record) -> Iterator[list[object]]:
    guidance, unlearned = retained_guidance(record), row_of(record, "unlearned")
    shown = presence(record).name
    last = [id(row_of(record, model)) for model in MODELS]
    for place, row in enumerate(record["rows"]):
        attacked = row["model"] == "attacked"
        about = [
            id_,
            place,
            row["model"],
            row.get("step"),
            row.get("status"),
            intact([(row, unlearned)], guidance) if attacked else None,
            _is_end(record, row) if attacked else None,
            id(row) in last,
            number(measured(row, "retain_accuracy", guidance)),
        ]
        for metric, scales in (row.get("metrics") or {}).items():
            for base, *measurement in _at_each_scale(metric, scales):
                yield [*about, base == shown, base, *measurement]
        if attacked and row.get("status") == "diverged":  # tried, and nothing to measure
            yield [*about, True, shown, shown, None, *Measurement()]
    yield from _whole_run(id_, record)


def _is_end(record: Record, row: Row) -> bool:
    """Whether an attacker may stop here: anywhere, but where the rate falls to nought."""
    annealed = (record["config"].get("attack") or {}).get("lr_schedule") in ANNEALED
    finished = record["status"] == "finished" and row is record["rows"][-1]
    return finished or not (annealed and takes_steps(record))


def _at_each_scale(metric: str, scales: dict[str, object]) -> Iterator[list[object]]:
    for scale, value in scales.items():
        for base, name, values in _measurements(metric, value):
            yield [base, name, scale, *values]


def _measurements(metric: str, value: object) -> Iterator[tuple[str, str, Measurement]]:
    """What one evaluation measured: its name, and the same with whose features it is in."""
    if not isinstance(value, dict):
        if not isinstance(value, list):
            yield metric, metric, Measurement(number(value))
        return
    source = value.get("features")  # where the name does not say it
    suffix = f"_{source}" if source not in (None, "inception") else ""
    if "value" in value:
        yield metric, f"{metric}{suffix}", _numbers(value)
    for field, inner in value.items():
        if isinstance(inner, dict) or (field not in ABOUT and number(inner) is not None):
            base = field if metric in BARE else f"{metric}_{field}"
            name = f"{field}{suffix}" if metric in BARE else f"{metric}{suffix}_{field}"
            yield base, name, _numbers(inner, value.get("n"))


def _numbers(value: object, n: int | None = None) -> Measurement:
    """Of an accuracy with its interval, or of a plain number of n images."""
    if isinstance(value, dict):
        return Measurement(number(value), *(value.get(name) for name in MEASURED[1:]))
    return Measurement(number(value), n=n)


def _whole_run(id_: int, record: Record) -> Iterator[list[object]]:
    """Area and steps to half of the recovery curves, and what the unlearning took."""
    about = [id_, -1, "attacked", None, record["status"], None, None, True, None, False]
    shown = presence(record)
    for guidance, curve in (record.get("recovery") or {}).items():
        if shown.of_word and shown.name not in curve:
            continue  # in an older record it is the class's
        area = number(curve.get("area"))
        yield [*about, "area", "area", guidance, *Measurement(area)]
        if takes_steps(record) and shows_class(record, guidance):
            half = number(curve.get("steps_to_half"))
            yield [*about, "steps_to_half", "steps_to_half", guidance, *Measurement(half)]
    for stage in unlearning(record):
        seconds = number(stage.get("seconds"))
        if seconds is not None:
            about[2] = "unlearned"
            yield [*about, "unlearn_seconds", "unlearn_seconds", None, *Measurement(seconds)]


# ---- asking it -----------------------------------------------------------------------------------


def pick(values: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """Lines in which each column has the value, or one of a list of values."""
    for column, value in wanted.items():
        same = values[column].isin(value) if isinstance(value, list) else values[column] == value
        values = values[same]
    return values


def presence_in(values: pd.DataFrame) -> Presence:
    """As `presence`, of the lines of one table."""
    return WORD if (pick(values, present=True)["base"] == WORD.name).any() else CLASS


def scales_of(values: pd.DataFrame) -> list[str]:
    """Guidance scales at which `presence` was measured, ascending."""
    known = pick(values, present=True)["guidance"].dropna().unique()
    return sorted(known, key=float)


def retained_scale(records: Sequence[Record]) -> str:
    """The main guidance of what is measured on the retained classes."""
    return retained_guidance(pooled(records))
