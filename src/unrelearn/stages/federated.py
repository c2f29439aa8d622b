"""Stages of federated generators: columns of parties, training, published tables, measurements.

Each is one artefact for all replicas.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn import source
from unrelearn.artifact import RESUME, write_json
from unrelearn.data.table import TableData
from unrelearn.evals.fd_raw import frechet
from unrelearn.gan.columns import Encoding, partition
from unrelearn.gan.federation import Federation
from unrelearn.gan.kind import Federations
from unrelearn.gan.layers import Output
from unrelearn.gan.privacy.none import AccountedTraining, Privacy
from unrelearn.gan.processes import FederationJob, train_apart
from unrelearn.gan.selection import BestGenerators
from unrelearn.gan.statistics import released
from unrelearn.gan.wire import Wire
from unrelearn.progress import bar
from unrelearn.randomness import generator_for
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage

STATE = "state.safetensors"
OWN = ("learning_rate", "penalty_weight")  # which a design may have instead of the model's


def kind_of(run: Run) -> Federations:
    assert isinstance(run.kind, Federations)
    return run.kind


def party_file(number: int) -> str:
    return f"party_{number}.safetensors"


class Columns(Stage):
    """The rows as each party holds them, a file a party; and all of them, which only measurements
    and the control without federation read.
    """

    name = "columns"

    @cached_property
    def parties(self) -> list[list[int]]:
        return partition(self.run.cfg.gan.partition, self.run.dataset)

    def config(self) -> dict[str, Any]:
        gan, dataset = self.run.cfg.gan, self.run.dataset
        about = {"name": self.run.names["dataset"], "content": dataset.fingerprint()}
        given = {"dataset": about, "parties": self.parties, "statistics": gan.statistics}
        if gan.statistics != "dp":
            return given
        bounds = [column.bounds for column in dataset.columns]
        noise = gan.statistics_noise_multiplier
        return given | {"bounds": bounds, "noise_multiplier": noise, "seed": self.run.cfg.seed}

    def measured(self) -> Encoding:
        """As tables are measured, on one scale: that of the real training rows, or of pixels."""
        dataset = self.run.dataset
        return Encoding.of(dataset.columns, None if dataset.bounded else self.rows()["train"])

    def table(self) -> TableData:
        """What the parties hold."""
        data: TableData = self.run.dataset.load()
        return data

    def encoding(self) -> Encoding:
        """As generators make rows."""
        file = self.build().path / "encoding.json"
        kept = json.loads(file.read_text())
        return Encoding(**{name: _tuples(part) for name, part in kept.items()})

    def rows(self) -> dict[str, Tensor]:
        """train (N, columns) and test (M, columns), in their own units."""
        return load_file(self.build().path / "rows.safetensors")

    def make(self, folder: Path) -> dict[str, Any]:
        data, columns = self.table(), self.run.dataset.columns
        gan, own = self.run.cfg.gan, self.run.cfg.gan.statistics == "own"
        encoding = Encoding.of(columns, data.train if own else None)
        if gan.statistics == "dp":
            g = generator_for(self.run.cfg.seed, "statistics")
            noise = gan.statistics_noise_multiplier
            encoding = Encoding.scaled(columns, released(columns, data.train, noise, g))
        write_json(folder / "encoding.json", asdict(encoding))
        save_file({"train": data.train, "test": data.test}, folder / "rows.safetensors")
        for number, places in enumerate(self.parties, start=1):
            held = encoding.of_columns(places).encode(data.train[:, places])
            save_file({"train": held.contiguous()}, folder / party_file(number))
        return {"records": len(data.train)}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class Row:
    """A line of the table: a design under a mode of privacy."""

    design: str
    privacy: str

    @property
    def label(self) -> str:
        return self.design + ("" if self.privacy == "none" else f", {self.privacy}")


class Generators(Stage):
    """Critics and generators of all replicas, trained.

    Args:
        columns: what the parties hold; None: all training rows.
        seeds: of the replicas; None: those of the run.
    """

    name = "federation"
    asked = "pretrain"  # its word in `stages`
    trains = True

    def __init__(
        self, run: Run, row: Row, columns: Columns | None = None, seeds: list[int] | None = None
    ):
        super().__init__(run)
        self.row, self.columns = row, columns or Columns(run)
        self.seeds = seeds or kind_of(run).seeds
        given = run.cfg.gan.design[row.design], run.cfg.gan.privacy[row.privacy]
        self.design, self.mode = (instantiate(part, _convert_="all") for part in given)

    @property
    def what(self) -> str:
        return self.row.label

    def parents(self) -> list[Stage]:
        return [self.columns]

    def config(self) -> dict[str, Any]:
        gan = self.run.cfg.gan
        design = gan.design[self.row.design]
        given = {
            "design": {name: design[name] for name in design if name not in OWN},  # in the recipe
            "privacy": gan.privacy[self.row.privacy],
            **kind_of(self.run).recipe_of(self.design),
            "seeds": self.seeds,
        }
        made_of = {type(part).__name__: type(part) for part in (self.design, self.mode)}
        output = {"output": "linear"} if self.run.dataset.bounded and not self.bounded else {}
        return given | output | source.for_keys(made_of)

    @property
    def bounded(self) -> bool:
        """Whether columns lie in [-1, 1], which they do by public statistics alone."""
        return self.run.dataset.bounded and self.run.cfg.gan.statistics == "public"

    def cost(self) -> Cost:
        return Cost(steps=self.run.cfg.model.pretrain.max_steps)

    @cached_property
    def training(self) -> AccountedTraining:
        """What an accountant reads."""
        parties = self.columns.parties
        settings = kind_of(self.run).settings(self.design, len(parties))
        records = self.columns.build().meta["records"]
        parts = 1 if self.design.joined else len(parties)
        joined = self.design.server
        steps, gan = (settings.max_steps, settings.critic_steps), self.run.cfg.gan
        noise = gan.statistics_noise_multiplier if gan.statistics == "dp" else None
        return AccountedTraining(records, settings.batch_size, *steps, parts, joined, noise)

    def held(self) -> list[tuple[Tensor, Output]]:
        """Each party's columns, or those of the one that has them all."""
        encoding, bounded = self.columns.encoding(), self.bounded
        if self.design.joined:
            rows = encoding.encode(self.columns.rows()["train"])
            return [(rows.to(self.run.device), Output(encoding.widths, bounded))]
        folder, held = self.columns.build().path, []
        for number, places in enumerate(self.columns.parties, start=1):
            rows = load_file(folder / party_file(number))["train"]
            output = Output(encoding.of_columns(places).widths, bounded)
            held.append((rows.to(self.run.device), output))
        return held

    def federation(self, privacy: Privacy) -> Federation:
        """Untrained. privacy: a mode with its noise."""
        kind, parties = kind_of(self.run), len(self.columns.parties)
        settings = kind.settings(self.design, parties)
        columns: list[Any] = list(self.held())
        return Federation(self.design, privacy, settings, columns, self.seeds, Wire())

    def _trained(self, federation: Federation, resume: Path) -> dict[str, Tensor]:
        """The state in the end. resume: what an interrupted training left, and this one leaves."""
        chooses = self.run.cfg.gan.select == "best_fd"
        best = BestGenerators(federation, self._distance()) if chooses else None
        if resume.exists():
            state = load_file(resume, device=str(self.run.device))
            federation.load(state)
            if best:
                best.state = {k[5:]: value for k, value in state.items() if k.startswith("best/")}
        every, steps = self.run.cfg.trainer.checkpoint_every_n_steps, federation.settings.max_steps

        def keep(step: int) -> None:
            advance()
            if best:
                best.look(step)
            if step % every == 0 and step < steps:
                known = best.state if best else {}
                chosen = {f"best/{name}": value for name, value in known.items()}
                resume.parent.mkdir(exist_ok=True)
                aside = resume.with_suffix(".new")
                save_file(federation.state() | chosen, aside)
                aside.replace(resume)

        label = f"train {self.what} {self.columns.what}".rstrip()
        with bar(label, steps, federation.step) as advance:
            federation.train(steps, keep)
        return federation.state() | (best.state if best else {})

    def _distance(self) -> Callable[[Tensor], float]:
        rows, encoding = self.columns.rows()["train"], self.columns.encoding()
        parts = [[*range(rows.shape[1])]] if self.design.joined else self.columns.parties
        real = torch.cat([encoding.of_columns(p).encode(rows[:, p]) for p in parts], -1)
        return lambda table: frechet(real, table)

    def _job(self, privacy: Privacy) -> FederationJob:
        """The same for processes of their own."""
        kind, columns = kind_of(self.run), self.columns
        count, folder = len(columns.parties), columns.build().path
        files = [folder / party_file(number) for number in range(1, count + 1)]
        outputs, settings = [output for _, output in self.held()], kind.settings(self.design, count)
        return FederationJob(self.design, privacy, settings, files, outputs, self.seeds)

    def make(self, folder: Path) -> dict[str, Any]:
        privacy = self.mode.prepared(self.training)
        account = privacy.account(self.training)
        if self.run.cfg.gan.transport == "gloo" and not self.design.joined:
            save_file(train_apart(self._job(privacy), folder), folder / STATE)
            crossed = json.loads((folder / "bytes.json").read_text())
            return {"weights": "raw", "bytes": crossed, "privacy": account}
        federation = self.federation(privacy)
        save_file(self._trained(federation, folder / RESUME / STATE), folder / STATE)
        return {"weights": "raw", "bytes": federation.bytes_per_step(), "privacy": account}


class SyntheticTables(Stage):
    """Rows that the generators of all replicas publish, (R, N, columns) in their own units."""

    name = "tables"
    asked = "samples"  # its word in `stages`

    def __init__(self, run: Run, row: Row, generators: Generators | None = None):
        super().__init__(run)
        self.generators, self.row = generators or Generators(run, row), row
        self.columns = Columns(run)

    @property
    def what(self) -> str:
        return self.row.label

    def parents(self) -> list[Stage]:
        return [self.generators]

    @property
    def records(self) -> int | None:
        """That are published; None: as many as there are training rows."""
        return self.run.cfg.gan.records

    def config(self) -> dict[str, Any]:
        return {"records": self.records}

    def make(self, folder: Path) -> dict[str, Any]:
        federation = self.generators.federation(self.generators.mode)
        state = load_file(self.generators.build().path / STATE, device=str(self.run.device))
        federation.load(state)
        count = self.records or self.columns.build().meta["records"]
        parts, encoding = federation.publish(count), self.generators.columns.encoding()
        if self.generators.design.joined:
            rows = encoding.decode(parts[0].cpu())
        else:
            places = [place for part in self.columns.parties for place in part]
            decoded = [
                encoding.of_columns(part).decode(rows.cpu())
                for part, rows in zip(self.columns.parties, parts, strict=True)
            ]
            rows = torch.cat(decoded, -1)[..., torch.tensor(places).argsort()]
        save_file({"tables": rows.contiguous()}, folder / "tables.safetensors")
        return {"diverged": int((~rows.isfinite().flatten(1).all(1)).sum())}
