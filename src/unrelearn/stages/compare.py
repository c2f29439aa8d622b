"""What is measured of published tables, and of real rows in their place."""

import itertools
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn.evals.published import PublishedTables
from unrelearn.randomness import generator_for
from unrelearn.report.records import ONLY
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages import pixels
from unrelearn.stages.evaluation import Evaluation
from unrelearn.stages.federated import Columns, SyntheticTables, kind_of


class Floor(Stage):
    """Real rows in the place of published ones.

    kind: halves: of the real rows, one beside the other; bootstrap: drawn with replacement;
    permuted: the last party's rows in another order, so that parties know nothing of each other.
    """

    name = "floor"
    KINDS = ("halves", "bootstrap", "permuted")

    def __init__(self, run: Run, kind: str):
        super().__init__(run)
        self.kind, self.columns = kind, Columns(run)

    @property
    def what(self) -> str:
        return {
            "halves": "real: half against half",
            "bootstrap": "real: drawn again",
            "permuted": "real: last party permuted",
        }[self.kind]

    def parents(self) -> list[Stage]:
        return [self.columns]

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "seeds": kind_of(self.run).seeds}

    def make(self, folder: Path) -> dict[str, Any]:
        rows, tables, real = self.columns.rows()["train"], [], []
        for seed in kind_of(self.run).seeds:
            g, n = generator_for(seed, "floor", self.kind), len(rows)
            order, table = torch.randperm(n, generator=g), rows.clone()
            if self.kind == "bootstrap":
                table = rows[torch.randint(n, (n,), generator=g)]
            elif self.kind == "permuted":
                last = self.columns.parties[-1]
                table[:, last] = rows[order][:, last]
            else:
                real.append(rows[order[: n // 2]])
                table = rows[order[n // 2 : n // 2 * 2]]
            tables.append(table)
        kept = {"tables": torch.stack(tables)} | ({"real": torch.stack(real)} if real else {})
        save_file(kept, folder / "tables.safetensors")
        return {"diverged": 0}


class Compare(Evaluation):
    """What is measured of tables."""

    seen: SyntheticTables | Floor

    def __init__(self, run: Run, seen: SyntheticTables | Floor):
        super().__init__(run)
        self.seen, self.columns = seen, Columns(run)

    @property
    def looks(self) -> bool:
        """Whether a measurement reads what the oracle sees."""
        return "fd_oracle" in self.run.cfg.eval

    def parents(self) -> list[Stage]:
        looking = [pixels.oracle(self.run)] if self.looks else []
        return [self.seen, self.columns, *looking]

    def features(self, kept: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the tables, and of the real rows that they are compared with: those beside them, or
        all that taught the oracle nothing.
        """
        if not self.looks:
            return {}
        parts = {name: [pixels.look(self.run, t)[1] for t in kept[name]] for name in kept}
        unseen = [pixels.unseen_features(self.run)] * len(parts["tables"])
        real = torch.stack(parts.get("real", unseen))
        return {"real_features": real, "features": torch.stack(parts["tables"])}

    def evidence(self) -> PublishedTables:
        columns, dataset = self.columns, self.run.dataset
        rows, kept = columns.rows(), load_file(self.seen.build().path / "tables.safetensors")
        measured, encoding = dataset.columns, columns.measured()
        train = encoding.encode(kept.get("real", rows["train"][None]))
        tables = encoding.encode(kept["tables"])
        starts = torch.tensor((0, *encoding.widths)).cumsum(0).tolist()
        places = [[*range(a, b)] for a, b in itertools.pairwise(starts)]
        named = [column.name for column in measured]
        target = places[named.index(dataset.target)] if dataset.target else []
        return PublishedTables(
            train.expand(len(tables), -1, -1),
            encoding.encode(rows["test"]),
            tables,
            [[p for place in part for p in places[place]] for part in columns.parties],
            target,
            [(c.name, p, bool(c.values)) for c, p in zip(measured, places, strict=True)],
            **self.features(kept),
        )

    def make(self, folder: Path) -> dict[str, Any]:
        measured = self.measured(self.evidence())
        self.keep(folder, {name: {ONLY: value} for name, value in measured if value})
        return {}
