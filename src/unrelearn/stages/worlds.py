"""Stages of an audit of published tables: worlds with and without a record, their replicas, and
whether what these publish tells the worlds apart.
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor

from unrelearn.artifact import write_json
from unrelearn.audits import bounds, features, game, published, twins
from unrelearn.config.models import PublishedAudit
from unrelearn.data.table import TableData
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages import pixels
from unrelearn.stages.federated import Columns, Generators, Row, SyntheticTables

WIDE = 4.0  # scales on both sides of a column's location that histograms span
APART = 1_000_000  # seeds between those of two runs
NULL = "null"  # the game whose worlds are one
MANY = 256  # pixels, whose correlations are 32,640
# both worlds, the record, others that no replica saw, and what each table of a world shows
Shown = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]


def audit_of(run: Run) -> PublishedAudit:
    assert run.cfg.gan.audit is not None
    return run.cfg.gan.audit


def looks(run: Run) -> bool:
    """Whether images are told apart by what the oracle sees, and not by their columns."""
    given, dataset = audit_of(run).features, run.dataset
    return given == "oracle" or (
        given is None and dataset.images is not None and len(dataset.columns) > MANY
    )


def targets(run: Run) -> list[str | int]:
    """Rules of game.targets, and rows of the training part."""

    def controls() -> list[str | int]:
        twice = twins.duplicated(run.dataset.load().train.numpy()).any()
        return ["outlier", "median", *(["duplicate"] if twice else [])]

    return audit_of(run).targets or run.once("targets of audits", controls)


class World(Columns):
    """What parties hold in a world with a target, or without it.

    Args:
        target: a rule of game.targets, or a row.
    """

    name = "world"

    def __init__(self, run: Run, target: str | int, *, inside: bool):
        super().__init__(run)
        self.whole, self.target, self.inside = Columns(run), target, inside

    @property
    def what(self) -> str:
        return f"{'with' if self.inside else 'without'} {self.target}"

    def parents(self) -> list[Stage]:
        return [self.whole]

    def config(self) -> dict[str, Any]:
        change = audit_of(self.run).change
        return {"target": self.target, "inside": self.inside, "change": change}

    def table(self) -> TableData:
        rows, change = self.whole.rows(), audit_of(self.run).change
        records, target = self.whole.measured().encode(rows["train"]).numpy(), self.row()
        other = game.stand_in(records, target) if change == "replace" else None
        control = self.target == "duplicate"
        inside, outside = game.worlds(records, target, change, other, control=control)
        return TableData(rows["train"][inside if self.inside else outside], rows["test"])

    def row(self) -> int:
        """Of the target, in all training rows."""
        if isinstance(self.target, int):
            return self.target
        rows = self.whole.rows()["train"]
        return game.targets(self.whole.measured().encode(rows).numpy())[self.target]


class Published(SyntheticTables):
    """Rows of a world's replicas: as many in every world, as their number would tell."""

    def __init__(self, run: Run, row: Row, columns: Columns, part: int):
        count = range(audit_of(run).replicas)
        seeds = [APART * run.cfg.seed + 3 * replica + part for replica in count]
        super().__init__(run, row, Generators(run, row, columns, seeds))

    @property
    def records(self) -> int | None:
        return audit_of(self.run).records

    def finite(self) -> Tensor:
        """(R, N, columns), without those of replicas that diverged."""
        tables = load_file(self.build().path / "tables.safetensors")["tables"]
        return tables[tables.isfinite().flatten(1).all(1)]


class Audit(Stage):
    """Games about each target, by each attack; and a null game, whose worlds are both without the
    first target.
    """

    name = "audit"

    def __init__(self, run: Run, row: Row):
        super().__init__(run)
        self.row, self.columns = row, Columns(run)
        self.games = {str(target): self._game(target) for target in targets(run)}
        _, outside = next(iter(self.games.values()))
        again = Published(run, row, outside.generators.columns, 2)
        self.games[NULL] = (again, outside)

    def _game(self, target: str | int) -> tuple[Published, Published]:
        removed = audit_of(self.run).change == "remove"  # one world with whichever target
        inside = self.columns if removed else World(self.run, target, inside=True)
        outside = World(self.run, target, inside=False)
        return Published(self.run, self.row, inside, 0), Published(self.run, self.row, outside, 1)

    @property
    def what(self) -> str:
        return self.row.label

    @property
    def delta(self) -> float:
        """Of the Gaussian bound: that of the mode of privacy, if it has one."""
        return self.run.cfg.gan.privacy[self.row.privacy].get("delta") or bounds.DELTA

    def parents(self) -> list[Stage]:
        played = {tables.id: tables for worlds in self.games.values() for tables in worlds}
        looking = [pixels.oracle(self.run)] if looks(self.run) else []
        return [self.columns, *looking, *played.values()]

    def config(self) -> dict[str, Any]:
        return {"games": [*self.games], "delta": self.delta, "seed": self.run.cfg.seed}

    def make(self, folder: Path) -> dict[str, Any]:
        verdicts: list[dict[str, Any]] = []
        kept: dict[str, np.ndarray] = {}
        for target, worlds in self.games.items():
            about, scored = self._played(*worlds)
            for attack, scores in scored.items():
                known: dict[str, Any] = dict(game.verdict(scores, self.delta))
                if about["replicas"] < bounds.FEWEST_REPLICAS:
                    known |= {"epsilon": None, "epsilon_gaussian": None}
                verdicts.append({"target": target, "attack": attack, **about, **known})
                names = (f"{target}/{attack}/{world}" for world in ("in", "out"))
                kept |= dict(zip(names, scores.seen, strict=True))
            if not scored:
                verdicts.append({"target": target, "attack": "", **about})
        write_json(folder / "verdicts.json", verdicts)
        save_file(kept, folder / "scores.safetensors")
        with self.track() as logged:
            logged.summary({f"{v['target']} {v['attack']}": v for v in verdicts})
        return {}

    def _played(
        self, inside: Published, outside: Published
    ) -> tuple[dict[str, Any], dict[str, game.Scores]]:
        """What the game is about, and scores of each attack; none where too many diverged."""
        world = outside.generators.columns
        assert isinstance(world, World)
        rows, row = self.columns.rows(), world.row()
        tables = [inside.finite(), outside.finite()]
        about = {"record": row, "replicas": min(map(len, tables))}
        if about["replicas"] < game.FEWEST:
            return about, {}
        shown = self._images if looks(self.run) else self._columns
        known = shown(tables, rows["train"][row], rows["test"])
        return about, published.attacked(*known, seed=self.run.cfg.seed)

    def _columns(self, tables: list[Tensor], target: Tensor, reference: Tensor) -> Shown:
        encoding, wide = self.columns.measured(), 1.0 if self.run.dataset.bounded else WIDE
        ranges = [
            (0.0, 1.0) if values else (-wide, wide)
            for values in encoding.values
            for _ in range(max(1, len(values)))
        ]
        inside, outside, record, others = (
            encoding.encode(part).double().numpy() for part in (*tables, target, reference)
        )
        vectors = [
            np.array([features.of_table(table, record, ranges) for table in world])
            for world in (inside, outside)
        ]
        return inside, outside, record, others, vectors

    def _images(self, tables: list[Tensor], target: Tensor, reference: Tensor) -> Shown:
        """By what the oracle sees in them."""

        def look(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
            probabilities, known = pixels.look(self.run, rows)
            return probabilities.numpy(), known.numpy()

        (record,), (_, others) = look(target[None])[1], look(reference)
        worlds, vectors = [], []
        for world in tables:
            seen = [look(table) for table in world]
            worlds.append(np.array([part for _, part in seen]))
            vectors.append(np.array([features.of_images(*each, record) for each in seen]))
        return *worlds, record, others, vectors
