"""The methods and attacks of one table of the comparison, for one forgotten class.

What the matrix and the leaderboard have in common: for each method, attack, guidance and model seed
the strongest attacked models, their mean over seeds, and their difference to a reference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import final

import numpy as np
import pandas as pd

from unrelearn.report.panel_runs import (
    ALL,
    AUDITS,
    HOLDS_NOTHING,
    MODEL,
    WORST,
    AttackColumn,
    PanelRuns,
)
from unrelearn.report.records import CLASS, NONE
from unrelearn.report.stats import (
    Difference,
    Estimate,
    Test,
    against,
    difference,
    estimate,
    estimated,
    highest,
    image_difference,
)
from unrelearn.report.strongest import reported, stacked, strongest, strongest_of, unlearned_models
from unrelearn.report.table import Results, pick


@final
@dataclass(frozen=True)
class PanelCell:
    """What attacks of one kind bring back of one method at one guidance."""

    tried: pd.DataFrame  # `reported`, a line for each seed that was attacked
    bound: bool = False  # something is missing: the worst case is at least this

    @property
    def broke(self) -> bool:
        """In every seed."""
        return bool(self.tried["broke"].all())

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """Of intact models; where all broke, of the budgets before they did."""
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
class Panel(PanelRuns):
    """What comes back of these methods under these attacks, and how far that differs."""

    # ---- what comes back

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """The unlearned models, and the strongest attacked ones."""
        known = self.values["id"].isin(self.models.index)
        unlearned = unlearned_models(self.values[known]).assign(attack_label=NONE)
        attacked = strongest(self.values[self.values["attack"] != NONE], MODEL)
        return stacked(unlearned, attacked)

    @cached_property
    def cells(self) -> dict[tuple[str, str, AttackColumn], PanelCell]:
        """By guidance, method and column; what was not measured is absent."""
        cells = {}
        of = {column.label: column for column in self.columns if column.heading != WORST}
        best = reported(self.pairs, MODEL)
        for (guidance, method, attack), seeds in best.groupby(
            ["guidance", "method_label", "attack_label"], sort=False
        ):
            cells[guidance, method, of[attack]] = PanelCell(seeds)
        for column in self.columns:
            if column.heading == WORST:
                attacks = [c for c in of.values() if self._counts(c, column)]
                cells |= {(*key, column): cell for key, cell in self._worst(attacks)}
        return cells

    @staticmethod
    def _counts(attack: AttackColumn, worst: AttackColumn) -> bool:
        everything = worst.label == ALL and attack.name not in AUDITS
        return attack.heading in ("", HOLDS_NOTHING) or everything

    @property
    def whole(self) -> pd.DataFrame:
        """The pairs that `PanelCell.seeds` shows."""
        broke = self.pairs["broke"].astype(bool)
        cell = [self.pairs[name] for name in ("guidance", "method_label", "attack_label")]
        return self.pairs[~broke | broke.groupby(cell).transform("all")]

    def worst(self, attacks: Sequence[str], pairs: pd.DataFrame) -> pd.DataFrame:
        """`reported` of the strongest of several attacks."""
        by = ["method_label", "seed"]
        return reported(strongest_of(pairs, attacks, by), by)

    def _worst(
        self, attacks: Sequence[AttackColumn]
    ) -> Iterator[tuple[tuple[str, str], PanelCell]]:
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
            yield (guidance, method), PanelCell(seeds, bool(missing or same["broke"].any()))

    def cell(self, guidance: str, method: str, attack: str) -> PanelCell | None:
        column = next(c for c in self.columns if c.label == attack)
        return self.cells.get((guidance, method, column))

    def seeds(self, guidance: str, method: str, attack: str) -> pd.DataFrame | None:
        """MEASURED by seed, of models that count."""
        cell = self.cell(guidance, method, attack)
        return None if cell is None or cell.seeds.empty else cell.seeds.set_index("seed")

    # ---- differences

    @cached_property
    def references(self) -> dict[tuple[str, str], str]:
        """By guidance and attack: retrain, where it was attacked; nothing stands in for it."""
        references = {}
        for guidance in self.guidances:
            for attack in self.attacks:
                known = self._all_seeds(guidance, attack)
                if retrained := [m for m in known if self.named[m][0] == "retrain"]:
                    references[guidance, attack] = retrained[0]
        return references

    def _all_seeds(self, guidance: str, attack: str) -> dict[str, pd.DataFrame]:
        known = {method: self.seeds(guidance, method, attack) for method in self.methods}
        return {method: seeds for method, seeds in known.items() if seeds is not None}

    @cached_property
    def limits(self) -> dict[tuple[str, str], float]:
        """How far above their mean retrain's values, or their interval over images, reach."""
        limits = {}
        for (guidance, attack), method in self.references.items():
            seeds = self.seeds(guidance, method, attack)
            if seeds is not None:
                mean = float(np.mean(seeds["value"].tolist()))
                limits[guidance, attack] = highest(seeds) - mean
        return limits

    @cached_property
    def differences(self) -> dict[tuple[str, str, str], Difference]:
        """By guidance, attack and method."""
        return self._against(difference)

    @cached_property
    def image_differences(self) -> dict[tuple[str, str, str], Difference]:
        return self._against(image_difference)

    def _against(self, test: Test) -> dict[tuple[str, str, str], Difference]:
        tested: dict[tuple[str, str, str], Difference] = {}
        for (guidance, attack), reference in self.references.items():
            results = against(reference, self._all_seeds(guidance, attack), test)
            tested |= {(guidance, attack, method): result for method, result in results.items()}
        return tested


def presences(panels: Sequence[Panel]) -> list[str]:
    """What their numbers are of, in words."""
    return list(dict.fromkeys(panel.presence.words for panel in panels)) or [CLASS.words]


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
