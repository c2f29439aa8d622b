"""The runs of one table of the comparison, for one forgotten class: its methods and its attacks."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from unrelearn.report.groups import CONTROLS, control_first
from unrelearn.report.records import NONE, Presence, Record, main_of, row_of, takes_steps
from unrelearn.report.stats import MEASURED, Estimate, estimated, intact
from unrelearn.report.strongest import strongest
from unrelearn.report.table import pick, presence_in, retained_scale, scales_of

HOLDS_NOTHING, HOLDS_CLASS, WORST = "holds nothing of the class", "holds the class", "worst case"
HEADINGS = ("", HOLDS_NOTHING, HOLDS_CLASS, WORST)  # of columns, from left to right
NOTHING, ALL = "nothing of the class", "all"  # the two worst cases
# their ends are the original and the images themselves: no worst case
AUDITS = ("interpolation", "context_probe")
RANKING = MAIN, INVERSION = "dimra", "embedding_inversion"  # the attacks that rank
MODEL = ["method_label", "attack_label", "seed"]


@dataclass(frozen=True)
class AttackColumn:
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


@dataclass(frozen=True, eq=False)
class PanelRuns:
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
    def presence(self) -> Presence:
        return presence_in(self.values)

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
        pairs = zip(named["method"], named["method_settings"], strict=True)
        order = [(*control_first(method), settings) for method, settings in pairs]
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
        """Of each method and seed the run of its unlearned model, one without an attack first."""
        measured = [row_of(record, "unlearned") is not None for record in self.runs["record"]]
        runs = self.runs[measured].sort_values("attack", key=lambda a: a != NONE, kind="stable")
        return runs.drop_duplicates(["method_label", "seed"]).sort_values("seed", kind="stable")

    def records(self, method: str, attack: str | None = None) -> list[Record]:
        """What a number of the method is made of; None: its unlearned models."""
        if attack in (None, NONE):
            return list(pick(self.models, method_label=method)["record"])
        runs = pick(self.runs, method_label=method, attack_label=attack)
        return list(runs.sort_values("seed", kind="stable")["record"])

    def count(self, method: str) -> int:
        """Seeds of which the unlearned model is known."""
        return int((self.models["method_label"] == method).sum())

    @cached_property
    def ruined(self) -> set[str]:
        """Methods that no longer draw the retained classes; on average over seeds."""
        methods = set()
        for method, runs in self.models.groupby("method_label"):
            records = runs["record"].tolist()
            pairs = [(row_of(r, "unlearned"), row_of(r, "original")) for r in records]
            if intact(pairs, retained_scale(records)) is False:
                methods.add(method)
        return methods

    @cached_property
    def _unlearned(self) -> dict[tuple[str, str], pd.DataFrame]:
        """By measurement and guidance; of a method and seed from its run in `models` if there."""
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
        means = ((method, estimated(seeds)) for method, seeds in lines.groupby("method_label"))
        return {method: mean for method, mean in means if mean}

    # ---- attacks

    @cached_property
    def columns(self) -> list[AttackColumn]:
        """None, the attacks that hold nothing of the class, those that hold it, the worst cases."""
        holds = set(self.runs.loc[self.runs["holds"], "attack_label"])
        columns = []
        for label in self.runs["attack_label"].unique():
            if label != NONE:
                heading = HOLDS_CLASS if label in holds else HOLDS_NOTHING
                columns.append(AttackColumn(label, *self.named[label], heading))
        columns.sort(key=lambda c: (HEADINGS.index(c.heading), c.name, c.settings))
        none = AttackColumn(NONE, NONE, "", "")
        return [none, *columns, *(AttackColumn(name, name, "", WORST) for name in (NOTHING, ALL))]

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

    @property
    def deciding(self) -> list[str]:
        """Those, and their other settings and presets."""
        others = [c.label for c in self.columns if c.heading and c.name.startswith(RANKING)]
        return list(dict.fromkeys([*self.heads, *others]))

    def _most_met(self, runs: pd.DataFrame) -> str | None:
        """The settings that most methods met; of several those that bring back most."""
        runs = runs[(runs["attack"] != NONE) & (runs["status"] == "finished")]
        if runs.empty:
            return None
        peaks = self._peaks(runs)

        def wanted(label: str) -> tuple[bool, bool, bool, int, float]:
            met = pick(runs, attack_label=label)
            first = met["record"].iloc[0]
            models = met[["method", "method_label", "seed"]].drop_duplicates()
            ranks = first["attack"] == MAIN, label not in self.holds, takes_steps(first)
            return (*ranks, len(models), peaks.get(label, 0.0))

        labels: list[str] = runs["attack_label"].unique().tolist()
        return max(labels, key=wanted)

    def _peaks(self, runs: pd.DataFrame) -> pd.Series:
        """What each attack brings back of what was unlearned, summed over its runs."""
        values = self.values[self.values["id"].isin(runs.index[runs["method"] != "original"])]
        pairs = strongest(values, ["id"]).dropna(subset=["value"])
        own = {id_: main_of(scales_of(lines)) for id_, lines in values.groupby("id")}
        pairs = pairs[pairs["guidance"] == pairs["id"].map(own)]
        return pairs.groupby("attack_label")["score"].sum()
