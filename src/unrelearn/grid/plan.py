"""What the runs of a grid consist of."""

import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from unrelearn.advice import command, typed
from unrelearn.artifact import Spec, write_json
from unrelearn.config import Sweep, every_stage, resolved
from unrelearn.errors import UsageError
from unrelearn.grid.parts import RECORD, Inventory, Part
from unrelearn.record import name_of_run
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage, walk
from unrelearn.stages.measure import settle_inception
from unrelearn.tracks import diffusion as track

# values of these are put into a configuration that was composed and checked with other ones
PLAIN = ("seed", "forget")
SECONDS_OF_A_RECORD = 2.0


class Plan:
    """The distinct parts of all runs of `python run.py -m WORDS`, each after those that it needs.

    Compositions are checked as run.py checks them: each combination of all choices but seed and
    forgotten class, and each of their values once.

    Args:
        elsewhere: for other machines than this one.
        dry_run: not even the data set need be here.

    Raises:
        UsageError: what does not hold.
    """

    def __init__(self, words: list[str], *, elsewhere: bool = False, dry_run: bool = False):
        self.words = words
        self.sweep = Sweep([*words, *["dry_run=true"] * dry_run], elsewhere=elsewhere)
        axes = self.sweep.axes
        self._first = {key: values[0] for key, values in axes.items()}
        self._values = {key: self._read(key) for key in PLAIN if key in axes}
        self.settle = Settled()
        # of the combinations that are being worked on
        self._composed = lru_cache(maxsize=64)(self._compose)
        self.cells: list[tuple[tuple[str, str], ...]] = []
        self.parts: dict[str, Part] = {}
        self.costs: dict[tuple[str, str, str], Cost] = {}  # combination, stage, what -> cost
        self.guesses: dict[str, float] = {RECORD: SECONDS_OF_A_RECORD}  # stage -> seconds
        run = None
        for chosen in product(axes):
            cfg = self._configuration(chosen)
            if run is None:
                self._check(cfg)
                self.outputs, self.device = Path(cfg["paths"]["outputs"]), cfg["cost"]
                self.trainer, self.tracking = cfg["trainer"], cfg["tracking"]
            run = Run(cfg, "", run)
            if run.outputs != self.outputs:
                raise UsageError(
                    f"paths.outputs={cfg['paths']['outputs']}: the runs of a grid share one folder."
                    f" Type {typed({'paths.outputs': str(self.outputs)})}"
                )
            self._add(chosen, run)

    @staticmethod
    def _check(cfg: dict[str, Any]) -> None:
        if [stage for stage in every_stage() if stage not in cfg["stages"]]:
            raise UsageError(
                f"stages=[{','.join(cfg['stages'])}]: a grid runs all of them. Leave stages out"
            )

    def _read(self, key: str) -> dict[str, Any]:
        """Each value of a plain key as a run would have it, which checks it as well."""
        texts = self.sweep.axes[key]
        return {text: self.sweep.compose({**self._first, key: text})[0][key] for text in texts}

    def _compose(self, chosen: tuple[tuple[str, str], ...]) -> Any:
        return self.sweep.compose(dict(chosen))[1]

    def _configuration(self, chosen: dict[str, str]) -> dict[str, Any]:
        """As run.py would compose it."""
        plain = {key: values[chosen[key]] for key, values in self._values.items()}
        first = {key: self._first[key] if key in plain else chosen[key] for key in chosen}
        cfg = resolved(self._composed(tuple(first.items())), plain)
        self.settle(cfg)
        return cfg

    def _add(self, chosen: dict[str, str], run: Run) -> None:
        cell = len(self.cells)
        self.cells.append(tuple(chosen.items()))
        combination, records = self.combination(cell), []
        for stage in walk(track.targets(run)):
            if not stage.alone:
                continue
            if stage.id not in self.parts:
                self._add_part(stage, cell)
            self.guesses[stage.name] = stage.seconds
            like = (combination, stage.name, stage.what)
            if like not in self.costs:
                self.costs[like] = _cost(stage)
            records.append(stage)
        needs = tuple(evaluation.id for evaluation in track.evaluations(run))
        name = f"{RECORD}/{name_of_run(run)}"
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

    def combination(self, cell: int) -> str:
        chosen = self.cells[cell]
        return " ".join(f"{key}={text}" for key, text in chosen if key not in self._values)

    def cost(self, part: Part) -> Cost:
        return self.costs.get((self.combination(part.cell), part.stage, part.what), Cost())

    @property
    def folder(self) -> Path:
        """Where what is known of this grid alone is kept: claims, failures, jobs."""
        return self.outputs / "grids" / Spec("grid", 1, {"words": sorted(self.words)}).key

    def keep(self) -> None:
        """Note the choices, by which others can tell what the grid needs."""
        write_json(self.folder / "grid.json", {"words": self.words})

    def command(self, cell: int) -> str:
        return command(self.sweep.words(dict(self.cells[cell])))

    def configuration(self, part: Part) -> tuple[dict[str, Any], str]:
        return self._configuration(dict(self.cells[part.cell])), self.command(part.cell)

    @cached_property
    def inventory(self) -> Inventory:
        return Inventory(self.outputs)

    @property
    def stages(self) -> list[str]:
        """In the order in which parts of them can be made."""
        ordered = sorted(self.parts.values(), key=lambda part: part.level)
        return list(dict.fromkeys(part.stage for part in ordered))

    def seconds(self) -> Callable[[Part], float]:
        """How long a part takes: as its like did that are there, else by FLOPs at their speed, else
        at that of cfg.cost.
        """
        alike: dict[tuple, list[float]] = defaultdict(list)
        speeds: dict[str, list[float]] = defaultdict(list)
        for part in self.parts.values():
            flops = self.cost(part).flops
            like = (part.stage, part.what, flops)
            if len(alike[like]) >= 20 or not self.inventory.there(part.name):
                continue
            took = self.inventory.seconds(part)
            if took is None:
                continue
            alike[like].append(took)
            speeds[f"seconds of {part.stage}"].append(took)
            if flops:
                speeds[part.stage].append(took / flops)
                speeds[""].append(took / flops)
        medians = {like: statistics.median(values) for like, values in alike.items() if values}
        speed = {stage: statistics.median(values) for stage, values in speeds.items()}
        peak = 1 / (self.device["device_tflops"] * 1e12 * self.device["utilisation"])

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


class Settled:
    """settle_inception for many configurations: the file is looked for, and its absence said, once
    for all that ask alike.
    """

    def __init__(self, known: dict[str, list[dict]] | None = None):
        """known: of the one who planned, so that all who work on it take the same."""
        self.known = known or {}

    def __call__(self, cfg: dict[str, Any]) -> None:
        asked = json.dumps([cfg["eval"], cfg["paths"]])
        if asked not in self.known:
            if not cfg["dry_run"]:
                settle_inception(cfg)
            self.known[asked] = [cfg["eval"], cfg["paths"]]
        cfg["eval"], cfg["paths"] = self.known[asked]


def product(axes: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Every choice of one value for each key, the plain keys last, so that they change quickest."""
    ordered = sorted(axes, key=lambda key: key in PLAIN)
    for values in itertools.product(*(axes[key] for key in ordered)):
        yield dict(zip(ordered, values, strict=True))
