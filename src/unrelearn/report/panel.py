"""The methods and attacks of one table of the comparison, for one forgotten class.

What the matrix and the leaderboard have in common: for each method, attack, guidance and model seed
the strongest attacked models, their mean over seeds, and their difference to a reference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import pandas as pd

from unrelearn.report.groups import CONTROLS, control_first
from unrelearn.report.records import NONE, main_of, row_of, takes_steps
from unrelearn.report.stats import (
    MEASURED,
    Difference,
    Estimate,
    against,
    difference,
    estimate,
    estimated,
    image_difference,
    image_interval,
    intact,
)
from unrelearn.report.strongest import reported, strongest, strongest_of, unlearned_models
from unrelearn.report.table import Results, pick, retained_scale, scales_of

HOLDS_NOTHING, HOLDS_CLASS, WORST = "holds nothing of the class", "holds the class", "worst case"
HEADINGS = ("", HOLDS_NOTHING, HOLDS_CLASS, WORST)  # of columns, from left to right
NOTHING, ALL = "nothing of the class", "all"  # the two worst cases
# their ends are the original and the images themselves: no worst case
AUDITS = ("interpolation", "context_probe")
MAIN, INVERSION = "dimra", "embedding_inversion"  # the attacks that rank
MODEL = ["method_label", "attack_label", "seed"]


@dataclass(frozen=True)
class Column:
    """One attack, or the worst of several; `heading` is one of HEADINGS."""

    label: str
    name: str
    settings: str
    heading: str

    @property
    def title(self) -> str:
        if self.heading == WORST:
            return f"{WORST}, {self.label}"
        return self.label + (" †" if self.heading == HOLDS_CLASS else "")


@dataclass(frozen=True)
class Cell:
    """What attacks of one kind bring back of one method at one guidance."""

    tried: pd.DataFrame  # `reported`, a line for each seed that was attacked
    bound: bool = False  # something is missing: the worst case is at least this

    @property
    def broke(self) -> bool:
        """In every seed."""
        return bool(self.tried["broke"].all())

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """Those with a number: of intact models; where the attack broke them in every seed, of the
        budgets before it did.
        """
        known = self.tried.dropna(subset=["value"])
        return known if self.broke else known[~known["broke"].astype(bool)]

    @cached_property
    def estimate(self) -> Estimate | None:
        return estimated(self.seeds)

    def mean(self, name: str) -> float | None:
        """Of another column."""
        average = estimate(self.seeds[name].tolist())
        return average and average.mean


@dataclass(frozen=True, eq=False)
class Panel:
    """All that is known of these runs; names of methods and attacks are their labels."""

    table: str
    forgotten: str
    runs: pd.DataFrame
    values: pd.DataFrame

    @cached_property
    def scales(self) -> list[str]:
        """Guidances, ascending."""
        return scales_of(self.values)

    @cached_property
    def guidances(self) -> list[str]:
        """The main one first."""
        main = main_of(self.scales)
        return sorted(self.scales, key=lambda scale: (scale != main, float(scale)))

    @cached_property
    def retained_at(self) -> str:
        """The guidance of what is measured on the retained classes."""
        return retained_scale(self.runs["record"])

    # ---- methods

    @cached_property
    def methods(self) -> list[str]:
        """The controls first."""
        named = self.runs.drop_duplicates("method_label").set_index("method_label")
        order = [(*control_first(m), s) for m, s in zip(named["method"], named["method_settings"])]  # noqa: B905
        return [label for _, label in sorted(zip(order, named.index, strict=True))]

    @cached_property
    def named(self) -> dict[str, tuple[str, str]]:
        """Name and settings of each method and attack, by its label."""
        runs = self.runs
        methods = zip(runs["method"], runs["method_settings"], strict=True)
        attacks = zip(runs["attack"], runs["attack_settings"], strict=True)
        labels = [*runs["method_label"], *runs["attack_label"]]
        return dict(zip(labels, [*methods, *attacks], strict=True))

    def is_control(self, method: str) -> bool:
        return self.named[method][0] in CONTROLS

    @cached_property
    def models(self) -> pd.DataFrame:
        """Of each method and seed the run that shows the unlearned model: one without an attack if
        there is one; it is the same model in all of them.
        """
        measured = [row_of(record, "unlearned") is not None for record in self.runs["record"]]
        runs = self.runs[measured].sort_values("attack", key=lambda a: a != NONE, kind="stable")
        return runs.drop_duplicates(["method_label", "seed"]).sort_values("seed", kind="stable")

    def records(self, method: str, attack: str | None = None) -> list[dict]:
        """Those that a number of the method under this attack is made of; None: its unlearned
        models.
        """
        if attack in (None, NONE):
            return pick(self.models, method_label=method)["record"].tolist()
        runs = pick(self.runs, method_label=method, attack_label=attack)
        return runs.sort_values("seed", kind="stable")["record"].tolist()

    def count(self, method: str) -> int:
        """Seeds of which the unlearned model is known."""
        return int((self.models["method_label"] == method).sum())

    @cached_property
    def ruined(self) -> set[str]:
        """Methods whose unlearned models no longer draw the retained classes as the originals do;
        on average over seeds.
        """
        methods = set()
        for method, runs in self.models.groupby("method_label"):
            records = runs["record"].tolist()
            pairs = [(row_of(r, "unlearned"), row_of(r, "original")) for r in records]
            if intact(pairs, retained_scale(records)) is False:
                methods.add(method)
        return methods

    @cached_property
    def _unlearned(self) -> dict[tuple, pd.DataFrame]:
        """Lines of the unlearned models, by measurement and guidance; of each method and seed from
        the run in `models` if that has them.
        """
        lines = pick(self.values, model="unlearned", last=True)
        lines = lines.assign(other=~lines["id"].isin(self.models.index), key=lines["guidance"])
        lines = lines.sort_values("other", kind="stable").fillna({"key": ""})
        lines = lines.drop_duplicates(["base", "key", "method_label", "seed"])
        lines = lines.sort_values("seed", kind="stable")
        return dict(iter(lines.groupby(["base", "key"])))

    def of_models(self, base: str, guidance: str = "") -> pd.DataFrame:
        """Of each of `models`, without a value where it was not measured in that run."""
        keys = ["method_label", "seed"]
        models = self.models[keys]
        if (base, guidance) not in self._unlearned:
            return models.assign(**dict.fromkeys(MEASURED))
        lines = self._unlearned[base, guidance]
        return models.merge(lines.loc[~lines["other"], [*keys, *MEASURED]], on=keys, how="left")

    def mean_of(self, base: str, guidance: str = "") -> dict[str, Estimate]:
        """By method."""
        if (base, guidance) not in self._unlearned:
            return {}
        lines = self._unlearned[base, guidance].dropna(subset="value")
        return {method: estimated(seeds) for method, seeds in lines.groupby("method_label")}

    # ---- attacks

    @cached_property
    def columns(self) -> list[Column]:
        """None, the attacks that hold nothing of the class, those that hold it, the worst cases."""
        holds = set(self.runs.loc[self.runs["holds"], "attack_label"])
        columns = []
        for label in self.runs["attack_label"].unique():
            if label != NONE:
                heading = HOLDS_CLASS if label in holds else HOLDS_NOTHING
                columns.append(Column(label, *self.named[label], heading))
        columns.sort(key=lambda c: (HEADINGS.index(c.heading), c.name, c.settings))
        none = Column(NONE, NONE, "", "")
        return [none, *columns, *(Column(name, name, "", WORST) for name in (NOTHING, ALL))]

    @property
    def attacks(self) -> list[str]:
        """None first."""
        return [column.label for column in self.columns if column.heading != WORST]

    @cached_property
    def holds(self) -> set[str]:
        return {column.label for column in self.columns if column.heading == HOLDS_CLASS}

    @cached_property
    def main(self) -> str | None:
        """DiMRA if it was run, else an attack that holds nothing of the class and takes steps."""
        return self._most_met(self.runs[self.runs["attack"] != INVERSION])

    @cached_property
    def inversion(self) -> str | None:
        return self._most_met(self.runs[self.runs["attack"] == INVERSION])

    @property
    def heads(self) -> list[str]:
        """The attacks that rank."""
        return [attack for attack in (self.main, self.inversion) if attack]

    def _most_met(self, runs: pd.DataFrame) -> str | None:
        """In the settings that most methods met under most seeds; of several those that bring back
        most of what was unlearned.
        """
        runs = runs[(runs["attack"] != NONE) & (runs["status"] == "finished")]
        if runs.empty:
            return None
        peaks = self._peaks(runs)

        def wanted(label: str) -> tuple:
            met = pick(runs, attack_label=label)
            first = met["record"].iloc[0]
            models = met[["method", "method_label", "seed"]].drop_duplicates()
            ranks = first["attack"] == MAIN, label not in self.holds, takes_steps(first)
            return (*ranks, len(models), peaks.get(label, 0.0))

        return max(runs["attack_label"].unique(), key=wanted)

    def _peaks(self, runs: pd.DataFrame) -> pd.Series:
        """What each attack brings back of what was unlearned, summed over its runs."""
        values = self.values[self.values["id"].isin(runs.index[runs["method"] != "original"])]
        pairs = strongest(values, ["id"]).dropna(subset=["value"])
        own = {id_: main_of(scales_of(lines)) for id_, lines in values.groupby("id")}
        pairs = pairs[pairs["guidance"] == pairs["id"].map(own)]
        return pairs.groupby("attack_label")["score"].sum()

    # ---- what comes back

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """The unlearned models, and the strongest attacked ones."""
        known = self.values["id"].isin(self.models.index)
        unlearned = unlearned_models(self.values[known]).assign(attack_label=NONE)
        attacked = strongest(self.values[self.values["attack"] != NONE], MODEL)
        return pd.concat([unlearned, attacked], ignore_index=True)

    @cached_property
    def cells(self) -> dict[tuple[str, str, Column], Cell]:
        """By guidance, method and column; what was not measured is absent."""
        cells = {}
        of = {column.label: column for column in self.columns if column.heading != WORST}
        best = reported(self.pairs, MODEL)
        for (guidance, method, attack), seeds in best.groupby(
            ["guidance", "method_label", "attack_label"], sort=False
        ):
            cells[guidance, method, of[attack]] = Cell(seeds)
        for column in self.columns:
            if column.heading == WORST:
                attacks = [c for c in of.values() if self._counts(c, column)]
                cells |= {(*key, column): cell for key, cell in self._worst(attacks)}
        return cells

    @staticmethod
    def _counts(attack: Column, worst: Column) -> bool:
        everything = worst.label == ALL and attack.name not in AUDITS
        return attack.heading in ("", HOLDS_NOTHING) or everything

    @property
    def whole(self) -> pd.DataFrame:
        """The pairs that `Cell.seeds` shows."""
        broke = self.pairs["broke"].astype(bool)
        cell = [self.pairs[name] for name in ("guidance", "method_label", "attack_label")]
        return self.pairs[~broke | broke.groupby(cell).transform("all")]

    def worst(self, attacks: Sequence[str], pairs: pd.DataFrame) -> pd.DataFrame:
        """`reported` of the strongest of several attacks."""
        by = ["method_label", "seed"]
        return reported(strongest_of(pairs, attacks, by), by)

    def _worst(self, attacks: Sequence[Column]) -> Iterator[tuple[tuple[str, str], Cell]]:
        """A bound where a seed is missing in one of them, or the attack broke it."""
        labels = [column.label for column in attacks]
        by = ["guidance", "method_label"]
        families = pick(self.pairs, attack_label=labels).drop_duplicates([*by, *MODEL[1:]])
        best = self.worst(labels, self.pairs)
        for key in self.pairs[by].drop_duplicates().itertuples(index=False, name=None):
            guidance, method = key
            same = pick(families, guidance=guidance, method_label=method)
            missing = len(same) < len(labels) * same["seed"].nunique()
            seeds = pick(best, guidance=guidance, method_label=method)
            yield (guidance, method), Cell(seeds, bool(missing or same["broke"].any()))

    def cell(self, guidance: str, method: str, attack: str) -> Cell | None:
        column = next(c for c in self.columns if c.label == attack)
        return self.cells.get((guidance, method, column))

    def seeds(self, guidance: str, method: str, attack: str) -> pd.DataFrame | None:
        """MEASURED by seed, of models that count."""
        cell = self.cell(guidance, method, attack)
        return None if cell is None or cell.seeds.empty else cell.seeds.set_index("seed")

    # ---- differences

    @cached_property
    def references(self) -> dict[tuple[str, str], str]:
        """By guidance and attack: retraining, which an attack can only teach and not remind;
        without it the method that holds best.
        """
        references = {}
        for guidance in self.guidances:
            for attack in self.attacks:
                known = self._all_seeds(guidance, attack)
                retrained = [m for m in known if self.named[m][0] == "retrain"]
                methods = [m for m in known if not self.is_control(m)] or list(known)
                holding = sorted(methods, key=lambda m: estimate(known[m]["value"].tolist()).mean)
                if known:
                    references[guidance, attack] = (retrained or holding)[0]
        return references

    def _all_seeds(self, guidance: str, attack: str) -> dict[str, pd.DataFrame]:
        known = {method: self.seeds(guidance, method, attack) for method in self.methods}
        return {method: seeds for method, seeds in known.items() if seeds is not None}

    @cached_property
    def limits(self) -> dict[tuple[str, str], float]:
        """How far above their mean retrain's values reach, by guidance and attack: the highest
        seed, or their interval over images if that is higher.
        """
        limits = {}
        for (guidance, attack), method in self.references.items():
            if self.named[method][0] == "retrain":
                seeds = self.seeds(guidance, method, attack)
                values = seeds["value"].tolist()
                ends = image_interval(values, seeds["n"].tolist()) or ()
                limits[guidance, attack] = max([*values, *ends[1:]]) - estimate(values).mean
        return limits

    @cached_property
    def differences(self) -> dict[tuple[str, str, str], Difference]:
        """By guidance, attack and method."""
        return self._against(difference)

    @cached_property
    def image_differences(self) -> dict[tuple[str, str, str], Difference]:
        return self._against(image_difference)

    def _against(self, test) -> dict[tuple[str, str, str], Difference]:
        tested = {}
        for (guidance, attack), reference in self.references.items():
            results = against(reference, self._all_seeds(guidance, attack), test)
            tested |= {(guidance, attack, method): made for method, made in results.items()}
        return tested


@cache
def panels(results: Results) -> list[Panel]:
    """One for each table and forgotten class; in each table the class with most methods first."""
    parts = []
    for table, runs in results.runs.groupby("table", sort=False):
        classes = [same for _, same in runs.groupby("classes", sort=False)]
        for same in sorted(classes, key=lambda same: -same["method_label"].nunique()):
            values = results.values[results.values["id"].isin(same.index)]
            parts.append(Panel(table, same["forgotten"].iloc[0], same, values))
    return parts
