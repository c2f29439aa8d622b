"""What the runs of a grid consist of."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path

from filelock import FileLock

from unrelearn import tracks
from unrelearn.advice import typed
from unrelearn.artifact import Spec, write_json
from unrelearn.config import Config, every_stage
from unrelearn.errors import UsageError
from unrelearn.grid.cells import Cells, Swept
from unrelearn.grid.parts import RECORD, Inventory, Part
from unrelearn.record import name_of_run
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage, walk
from unrelearn.stages.measure import Evaluate

SECONDS_OF_A_RECORD = 2.0


class Plan:
    """The distinct parts of all runs, each after those that it needs.

    Attributes:
        targets: of each run, the names of the parts that its `stages` ask for.
        records: of each run, the name of its record; none if it leaves out evaluation.

    Raises:
        UsageError: the runs have several folders, or numbers of devices.
    """

    def __init__(self, cells: Cells):
        self.cells = cells
        self.parts: dict[str, Part] = {}
        self.targets: list[tuple[str, ...]] = []
        self.records: list[tuple[str, ...]] = []
        self._unasked: set[str] = set()  # parts that so far are only of runs that leave them out
        self.costs: dict[tuple[str, str, str], Cost] = {}  # combination, stage, what -> cost
        self.guesses: dict[str, float] = {RECORD: SECONDS_OF_A_RECORD}  # stage -> seconds
        cfg = cells.configuration(0)
        self.outputs, self.device = Path(cfg.paths.outputs), cfg.cost
        self.trainer, self.tracking = cfg.trainer, asdict(cfg.tracking)
        run = None
        for cell in range(len(cells)):
            run = Run(cells.configuration(cell), "", run)
            self._check_shared("paths.outputs", "folder", run.outputs, self.outputs)
            ours = self.trainer.devices
            self._check_shared("trainer.devices", "number", run.cfg.trainer.devices, ours)
            self._add(cell, run)

    @staticmethod
    def _check_shared(key: str, what: str, value: object, ours: object) -> None:
        if value != ours:
            instead = typed({key: ours if isinstance(ours, int) else str(ours)})
            raise UsageError(f"{key}={value}: the runs of a grid share one {what}. Type {instead}")

    @classmethod
    def of(cls, words: list[str], **asked: bool) -> "Plan":
        """Of the runs of `python run.py -m WORDS`; see Swept."""
        return cls(Swept(words, **asked))

    def _add(self, cell: int, run: Run) -> None:
        combination, targets = self.cells.combination(cell), tracks.targets(run)
        for stage in walk(targets):
            if not stage.alone:
                continue
            asked = stage.name in run.cfg.stages or stage.name not in every_stage()
            if stage.id not in self.parts or (asked and stage.id in self._unasked):
                self._add_part(stage, cell)
            if asked:
                self._unasked.discard(stage.id)
            elif self.parts[stage.id].cell == cell:
                self._unasked.add(stage.id)
            self.guesses[stage.name] = stage.seconds
            like = (combination, stage.name, stage.what)
            if like not in self.costs:
                self.costs[like] = _cost(stage)
        alone = [[target] if target.alone else target.needs() for target in targets]
        self.targets.append(tuple(stage.id for stages in alone for stage in stages))
        if Evaluate.name not in run.cfg.stages:
            self.records.append(())
            return
        needs = self.targets[-1]
        name = f"{RECORD}/{name_of_run(run)}"
        self.records.append((name,))
        level = max(self.parts[need].level for need in needs) + 1
        self.parts.setdefault(name, Part(name, run.group, needs, (), "", "", False, level, cell))

    def _add_part(self, stage: Stage, cell: int) -> None:
        inside = [need for need in stage.needs() if not need.alone]
        needs = [need for need in stage.needs() if need.alone]
        needs += [need for within in inside for need in within.needs()]
        names = tuple(dict.fromkeys(need.id for need in needs))
        model, at = stage.origin() or (None, "")
        level = max((self.parts[name].level + 1 for name in names), default=0)
        within = tuple(need.id for need in inside)
        start = model.id if model else ""
        part = Part(stage.id, stage.what, names, within, start, at, stage.trains, level, cell)
        self.parts[part.name] = part

    def cost(self, part: Part) -> Cost:
        return self.costs.get((self.cells.combination(part.cell), part.stage, part.what), Cost())

    @property
    def folder(self) -> Path:
        """Where what is known of this grid alone is kept: claims, failures, jobs."""
        return self.outputs / "grids" / Spec("grid", 1, {"words": sorted(self.cells.name)}).key

    def keep(self) -> None:
        """Note the choices, and what the grid needs: also of runs that nobody typed, such as those
        of reference=retrain, which another plan of the same choices may have queued.
        """
        note = self.folder / "grid.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "grid.lock"):  # two planners of one grid add, neither replaces
            try:
                before = json.loads(note.read_text()).get("parts", [])
            except (FileNotFoundError, ValueError):
                before = []  # one that is damaged knows nothing that could be kept
            parts = sorted({*before, *self.parts})
            write_json(note, {"words": self.cells.name, "parts": parts})

    def configuration(self, part: Part) -> tuple[Config, str]:
        """Of a run that has the part: its configuration and its command."""
        return self.cells.configuration(part.cell), self.cells.command(part.cell)

    @cached_property
    def inventory(self) -> Inventory:
        return Inventory(self.outputs)

    def missing(self) -> list[Part]:
        """What is to be made, in the order in which it can be."""
        self.inventory.list()
        done = {name for name, part in self.parts.items() if self.inventory.done(part, self.parts)}
        self.inventory.list_no_more()
        return [part for name, part in self.parts.items() if name not in done]

    @property
    def stages(self) -> list[str]:
        """In the order in which parts of them can be made."""
        ordered = sorted(self.parts.values(), key=lambda part: part.level)
        return list(dict.fromkeys(part.stage for part in ordered))

    def seconds(self) -> Callable[[Part], float]:
        """How long a part takes: as its like did that are there, else by FLOPs at their speed, else
        at that of cfg.cost.
        """
        times: dict[tuple, list[float]] = defaultdict(list)
        speeds: dict[str, list[float]] = defaultdict(list)
        for part in self.parts.values():
            flops = self.cost(part).flops
            like = (part.stage, part.what, flops)
            if len(times[like]) >= 20 or not self.inventory.there(part.name):
                continue
            took = self.inventory.seconds(part)
            if took is None:
                continue
            times[like].append(took)
            speeds[f"seconds of {part.stage}"].append(took)
            if flops:
                speeds[part.stage].append(took / flops)
                speeds[""].append(took / flops)
        medians = {like: statistics.median(values) for like, values in times.items() if values}
        speed = {stage: statistics.median(values) for stage, values in speeds.items()}
        peak = 1 / (self.device.device_tflops * 1e12 * self.device.utilisation)

        @cache
        def of(stage: str, what: str, flops: float) -> float:
            by_flops = flops * speed.get(stage, speed.get("", peak))
            measured = medians.get((stage, what, flops)) or by_flops
            return measured or speed.get(f"seconds of {stage}") or self.guesses.get(stage, 1.0)

        return lambda part: of(part.stage, part.what, self.cost(part).flops)


def _cost(stage: Stage) -> Cost:
    """Of a stage and of what is made together with it."""
    costs = [stage.cost(), *(need.cost() for need in stage.needs() if not need.alone)]
    return Cost(
        sum(cost.steps for cost in costs),
        sum(cost.flops for cost in costs),
        sum(cost.bytes for cost in costs),
    )
