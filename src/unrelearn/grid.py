"""Grids: the runs of a multirun as distinct artefacts in the order in which they can be made, each
of them once.

    Plan     what the runs consist of, how long each part will take, and which parts are there
    work     makes parts that are missing: any number of processes may do so at once, on any machine
             that sees the folder

A part is made under a claim, a file lock that dies with its process, so that nothing is made twice
and nothing waits for a process that is gone. What fails is noted beside the grid and rules out only
what needs it.
"""

import contextlib
import errno
import itertools
import json
import os
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from filelock import FileLock, Timeout

from unrelearn import cost, distributed
from unrelearn.advice import command, typed
from unrelearn.artifact import MANIFEST, Spec, write_json
from unrelearn.config import STAGES, Sweep
from unrelearn.errors import UsageError
from unrelearn.launch import storage_problems
from unrelearn.pipeline import Pipeline, settle_inception, snapshot

# a value of these changes nothing else in a configuration, unless something is made from it by
# interpolation
PLAIN = ("seed", "forget")
ORDER = ("dataset", "pretrain", "oracle", "reference", "unlearn", "attack", "evaluate", "record")
SECONDS = {
    "oracle": 20.0,
    "reference": 2.0,
    "record": 2.0,
}  # of what has no FLOPs to speak of, where none was measured


class Node(NamedTuple):
    """A part of some run.

    name: stage/key, which is its folder below outputs/artifacts; of a record, record/<name of the
        run>.
    needs: names; of what starts from a model, that model is the first. snapshot: the folder in it,
        of a model under attack.
    level: how many parts must be made one after the other before it. cell: the first run that needs
        it.
    """

    name: str
    what: str
    needs: tuple[str, ...]
    snapshot: str
    level: int
    cell: int

    @property
    def stage(self) -> str:
        return self.name.partition("/")[0]

    @property
    def key(self) -> str:
        return self.name.partition("/")[2]


class Shelf:
    """What is there below an outputs folder."""

    def __init__(self, outputs: Path):
        self.artifacts, self.runs = outputs / "artifacts", outputs / "runs"
        self._listed: dict[str, set[str]] | None = None
        self._manifests: dict[str, dict] = {}

    def list(self) -> None:
        """Look at whole folders once, which for many parts is quicker than to ask for each."""
        self._listed = {stage: set(_names(self.artifacts / stage)) for stage in ORDER}
        self._listed["record"] = {
            name for name in _names(self.runs) if (self.runs / name / "result.json").exists()
        }

    def list_no_more(self) -> None:
        self._listed = None

    def there(self, name: str) -> bool:
        stage, _, key = name.partition("/")
        if self._listed is not None and key in self._listed[stage]:
            return True
        return (
            self._listed is None
            and (
                self.runs / key / "result.json" if stage == "record" else self.artifacts / name
            ).exists()
        )

    def manifest(self, name: str) -> dict:
        if name not in self._manifests:
            self._manifests[name] = json.loads((self.artifacts / name / MANIFEST).read_text())
        return self._manifests[name]

    def diverged(self, name: str) -> bool:
        """Whether a model is there whose training diverged."""
        with contextlib.suppress(
            OSError, ValueError
        ):  # a damaged one is for its maker to complain of
            return self.there(name) and self.manifest(name)["meta"]["status"] == "diverged"
        return False

    def ruled_out(self, node: Node, nodes: dict[str, Node]) -> bool:
        """Whether a part can not be, as the model that it starts from diverged."""
        if node.stage not in ("unlearn", "attack", "evaluate"):
            return False
        model = node.needs[0]
        if not self.diverged(model):
            return not self.there(model) and self.ruled_out(nodes[model], nodes)
        return not (node.snapshot and (self.artifacts / model / node.snapshot / "raw").exists())

    def settled(self, node: Node, nodes: dict[str, Node]) -> bool:
        return self.there(node.name) or self.ruled_out(node, nodes)

    def seconds(self, node: Node) -> float | None:
        """What a part that is there took, sampling included."""
        if node.stage == "record":
            return None
        with contextlib.suppress(OSError, ValueError, KeyError):
            manifest = self.manifest(node.name)
            before = (
                self.manifest(f"samples/{manifest['parents'][0]}")["meta"]["seconds"]
                if node.stage == "evaluate"
                else 0
            )
            return manifest["meta"]["seconds"] + before
        return None


def _names(folder: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


class Plan:
    """The distinct parts of all runs of `python run.py -m WORDS`, each after those that it needs.

    Compositions are checked as run.py checks them: each combination of all choices but seed and
    forgotten class, and each of their values once.

    Raises:
        UsageError: what does not hold.
    """

    def __init__(self, words: list[str], *, elsewhere: bool = False, dry_run: bool = False):
        """elsewhere: for other machines than this one. dry_run: not even the data set need be
        here.
        """
        self.words = words
        self.sweep = Sweep([*words, *["dry_run=true"] * dry_run], elsewhere=elsewhere)
        plain = [key for key in PLAIN if key in self.sweep.axes]
        self._first = {key: values[0] for key, values in self.sweep.axes.items()}
        self._values = {
            key: {
                text: self.sweep.compose({**self._first, key: text})[0][key]
                for text in self.sweep.axes[key]
            }
            for key in plain
        }
        self.settle = Settled()
        self._composed = lru_cache(maxsize=64)(
            self._compose
        )  # of the combinations that are being worked on
        self.cells: list[tuple[tuple[str, str], ...]] = []
        self.nodes: dict[str, Node] = {}
        self.costs: dict[
            tuple[str, str, str], tuple[int, float, float]
        ] = {}  # combination, stage, what: steps, FLOPs, bytes
        pipeline = None
        for chosen, cfg in self._runs(plain):
            if pipeline is None:
                self._check(cfg)
                self.outputs, self.device = Path(cfg["paths"]["outputs"]), cfg["cost"]
                self.trainer, self.tracking = cfg["trainer"], cfg["tracking"]
            pipeline = Pipeline(cfg, "", pipeline)
            if Path(cfg["paths"]["outputs"]) != self.outputs:
                raise UsageError(
                    f"paths.outputs={cfg['paths']['outputs']}: the runs of a grid share one folder."
                    f" Type {typed({'paths.outputs': str(self.outputs)})}"
                )
            self._add(chosen, pipeline)

    @staticmethod
    def _check(cfg: dict) -> None:
        missing = [stage for stage in STAGES if stage not in cfg["stages"]]
        if missing:
            raise UsageError(
                f"stages=[{','.join(cfg['stages'])}]: a grid runs all of them. Leave stages out"
            )

    def _runs(self, plain: list[str]) -> Iterator[tuple[dict[str, str], dict]]:
        others = {key: values for key, values in self.sweep.axes.items() if key not in plain}
        for combination in _product(others):
            _, bound = self._composed(tuple({**self._first, **combination}.items()))
            for chosen in _product({key: self.sweep.axes[key] for key in plain}):
                yield (
                    {**combination, **chosen},
                    self._configuration({**combination, **chosen}, bound),
                )

    def _compose(self, chosen: tuple[tuple[str, str], ...]) -> tuple[dict, frozenset[str]]:
        """A configuration and the plain keys in it from which other values are made."""
        cfg, made_from = self.sweep.compose(dict(chosen))
        self.settle(cfg)
        return cfg, frozenset(made_from & set(PLAIN))

    def _configuration(self, chosen: dict[str, str], bound: frozenset[str] | None = None) -> dict:
        """As run.py would compose it. That takes a tenth of a second: plain values are put into
        what was composed before.
        """
        first = {
            key: text if key not in self._values else self._first[key]
            for key, text in chosen.items()
        }
        if bound is None:
            _, bound = self._composed(tuple(first.items()))
        first |= {key: chosen[key] for key in bound if key in chosen}
        cfg, _ = self._composed(tuple(first.items()))
        return {**cfg, **{key: values[chosen[key]] for key, values in self._values.items()}}

    def _add(self, chosen: dict[str, str], pipeline: Pipeline) -> None:
        cell, new = len(self.cells), []
        self.cells.append(tuple(chosen.items()))
        parts = pipeline.parts()
        names = {part.key: f"{part.stage}/{part.key}" for part in parts}
        for part in parts:
            if (name := names[part.key]) not in self.nodes:
                needs = tuple(names[key] for key in part.needs)
                level = max((self.nodes[need].level + 1 for need in needs), default=0)
                at = snapshot(part.model.step) if part.model and part.model.step is not None else ""
                self.nodes[name] = node = Node(name, part.what, needs, at, level, cell)
                new.append(node)
        combination = self.combination(cell)
        if any(
            node.stage != "record" and (combination, node.stage, node.what) not in self.costs
            for node in new
        ):
            for row in cost.estimate(pipeline):
                stage = "evaluate" if row["stage"] == "samples" else row["stage"]
                self.costs[combination, stage, row["what"]] = (
                    row["steps"],
                    row["flops"],
                    row["bytes"],
                )
            for node in new:
                self.costs.setdefault((combination, node.stage, node.what), (0, 0.0, 0.0))

    def combination(self, cell: int) -> str:
        return " ".join(
            f"{key}={text}" for key, text in self.cells[cell] if key not in self._values
        )

    def cost(self, node: Node) -> tuple[int, float, float]:
        """(optimiser steps, FLOPs, bytes on disk) of a part."""
        return self.costs.get((self.combination(node.cell), node.stage, node.what), (0, 0.0, 0.0))

    @property
    def folder(self) -> Path:
        """Where what is known of this grid alone is kept: claims, failures, jobs."""
        return self.outputs / "grids" / Spec("grid", 1, {"words": sorted(self.words)}).key

    def keep(self) -> None:
        """Note the choices, by which others can tell what the grid needs."""
        write_json(self.folder / "grid.json", {"words": self.words})

    def command(self, cell: int) -> str:
        return command(self.sweep.words(dict(self.cells[cell])))

    def configuration(self, node: Node) -> tuple[dict, str]:
        return self._configuration(dict(self.cells[node.cell])), self.command(node.cell)

    @cached_property
    def shelf(self) -> Shelf:
        return Shelf(self.outputs)

    def seconds(self) -> Callable[[Node], float]:
        """How long a part takes: as its like did that are there, else by FLOPs at their speed, else
        at that of cfg.cost.
        """
        alike, speeds = defaultdict(list), defaultdict(list)
        for node in self.nodes.values():
            like = (node.stage, node.what, self.cost(node)[1])
            if (
                len(alike[like]) < 20
                and self.shelf.there(node.name)
                and (took := self.shelf.seconds(node)) is not None
            ):
                alike[like].append(took)
                if like[2]:
                    speeds[node.stage].append(took / like[2])
                    speeds[""].append(took / like[2])
                speeds[f"seconds of {node.stage}"].append(took)
        medians = {like: statistics.median(values) for like, values in alike.items() if values}
        speed = {stage: statistics.median(values) for stage, values in speeds.items()}
        peak = 1 / (self.device["device_tflops"] * 1e12 * self.device["utilisation"])

        @cache
        def of(stage: str, what: str, flops: float) -> float:
            by_flops = flops * speed.get(stage, speed.get("", peak))
            return (
                medians.get((stage, what, flops))
                or by_flops
                or speed.get(f"seconds of {stage}")
                or SECONDS.get(stage, 1.0)
            )

        return lambda node: of(node.stage, node.what, self.cost(node)[1])


class Settled:
    """settle_inception for many configurations: the file is looked for, and its absence said, once
    for all that ask alike.
    """

    def __init__(self, known: dict[str, list[dict]] | None = None):
        """known: of the one who planned, so that all who work on it take the same."""
        self.known = known or {}

    def __call__(self, cfg: dict) -> None:
        asked = json.dumps([cfg["eval"], cfg["paths"]])
        if asked not in self.known:
            if not cfg["dry_run"]:
                settle_inception(cfg)
            self.known[asked] = [cfg["eval"], cfg["paths"]]
        cfg["eval"], cfg["paths"] = self.known[asked]


def _product(axes: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    return (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))


# ---- making
# --------------------------------------------------------------------------------------------------


class Failures:
    """What could not be made and why, one file a part."""

    def __init__(self, folder: Path):
        self.folder = folder / "failed"

    def note(self, node: Node, why: str) -> None:
        write_json(
            self.folder / f"{node.name.replace('/', '-')}.json",
            {
                "part": node.name,
                "why": why,
                "when": time.strftime("%Y-%m-%dT%H:%M:%S"),
                "job": os.environ.get("SLURM_JOB_ID"),
            },
        )

    def forget(self, node: Node) -> None:
        (self.folder / f"{node.name.replace('/', '-')}.json").unlink(missing_ok=True)

    def all(self) -> dict[str, str]:
        """Name of the part -> why."""
        found = {}
        for name in _names(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process has just made up for it
                if not name.startswith("."):
                    note = json.loads((self.folder / name).read_text())
                    found[note["part"]] = note["why"]
        return found


def claim(folder: Path, node: Node) -> FileLock:
    lock = folder / "claims" / f"{node.name.replace('/', '-')}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)


def running(folder: Path) -> set[str]:
    """Names of the parts that a living process is making."""
    held = set()
    for name in _names(folder / "claims"):
        try:
            with FileLock(folder / "claims" / name, timeout=0):
                pass
        except Timeout:
            stage, _, key = name.removesuffix(".lock").partition("-")
            held.add(f"{stage}/{key}")
    return held


def closure(nodes: dict[str, Node], wanted: Iterable[Node]) -> dict[str, Node]:
    """The parts and all that they need, at whatever distance."""
    found: dict[str, Node] = {}
    new = list(wanted)
    while new:
        node = new.pop()
        if node.name not in found:
            found[node.name] = node
            new += [nodes[need] for need in node.needs]
    return found


class Maker:
    """Makes parts; those of one run, or of one data set, that follow one another share what they
    have read.
    """

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None

    def make(self, node: Node, cfg: dict, command: str) -> None:
        if self.pipeline is None or self.pipeline.command != command:
            self.pipeline = Pipeline(cfg, command, self.pipeline)
        part = next((part for part in self.pipeline.parts() if part.key == node.key), None)
        if part is None:
            raise UsageError(
                f"{node.name}: code or configuration have changed since the grid was planned. "
                "Type the same command again to plan it anew"
            )
        self.pipeline.make(part)


def work(
    nodes: dict[str, Node],
    wanted: Iterable[str],
    *,
    shelf: Shelf,
    folder: Path,
    configuration: Callable[[Node], tuple[dict, str]],
    begun: Callable[[Node], None] = lambda node: None,
    made: Callable[[Node, float], None] = lambda node, seconds: None,
) -> dict[str, str]:
    """Make the wanted parts that are missing, in order; wait for what others are making.

    Args:
        nodes: all that `wanted` names, and what that needs, at whatever distance.
        configuration: of a part: the resolved configuration and the command of a run that has it.

    Returns:
        what is missing in the end -> why: it failed, or something that it needs did.
    """
    maker, failures, failed, wanted = Maker(), Failures(folder), {}, list(wanted)
    left = [nodes[name] for name in wanted]
    while left:
        went_on, others, waiting = False, False, []
        # before looking: what is let go of after this is there, or noted, when it is looked at
        held = distributed.on_main(lambda: running(folder))
        for node in left:
            state = distributed.on_main(
                lambda node=node: _state(node, nodes, shelf, failed, failures)
            )
            if state != "ready":
                waiting += [node] * (state == "waiting")
                continue
            lock = claim(folder, node)
            if not distributed.on_main(lambda lock=lock: _acquire(lock)):
                others, waiting = True, [*waiting, node]
                continue
            try:
                if not distributed.on_main(lambda node=node: shelf.settled(node, nodes)):
                    begun(node)
                    started = time.monotonic()
                    why = _make(maker, node, configuration, failures)
                    went_on = True
                    if why is None:
                        failures.forget(node)
                        made(node, time.monotonic() - started)
                    else:
                        failed[node.name] = why
                        failures.note(node, why)
            finally:
                if distributed.is_main():
                    Path(lock.lock_file).unlink(missing_ok=True)
                    lock.release()
        if waiting and not went_on:
            if not others and not held & closure(nodes, waiting).keys():
                break  # nobody makes what they need
            time.sleep(0.3)
        left = waiting

    def unmade() -> dict[str, str]:
        missing = [name for name in wanted if not shelf.settled(nodes[name], nodes)]
        return {name: failed.get(name) or "something that it needs is missing" for name in missing}

    return distributed.on_main(
        unmade
    )  # the first rank may still be writing when another one gets here


def _acquire(lock: FileLock) -> bool:
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        return True
    return False


def _state(
    node: Node, nodes: dict[str, Node], shelf: Shelf, failed: dict[str, str], failures: Failures
) -> str:
    """ "settled", "ready", "waiting" for what it needs, or "lost": this part, or one that it needs,
    failed.
    """
    if shelf.settled(node, nodes):
        return "settled"
    if node.name in failed or any(need in failed for need in node.needs):
        failed.setdefault(node.name, "something that it needs failed")
        return "lost"
    if all(shelf.settled(nodes[need], nodes) for need in node.needs):
        return "ready"
    noted = failures.all()
    if any(
        need in noted and not shelf.there(need) for need in node.needs
    ):  # another process gave up on it
        failed[node.name] = "something that it needs failed"
        return "lost"
    return "waiting"


def _make(
    maker: Maker, node: Node, configuration: Callable[[Node], tuple[dict, str]], failures: Failures
) -> str | None:
    """None, or why it failed. A full disk stops everything, as what follows would fail too; so
    does, of several ranks, one that
    fails alone: the others wait for it, and only torchrun or Slurm can end them."""
    try:
        maker.make(node, *configuration(node))
    except UsageError as error:
        return " ".join(error.problems)
    except Exception as error:
        # a file that one part reads is none of the disk's doing
        problems = storage_problems(error, maker.pipeline.cfg if maker.pipeline else None)
        if (
            problems
            and problems[0].startswith("paths.outputs")
            and getattr(error, "errno", None) != errno.ENOENT
        ):
            raise UsageError(problems) from error
        why = (
            problems[0]
            if problems
            else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        )
        if distributed.world_size() > 1:
            failures.note(node, why)
            raise
        maker.pipeline = None  # nothing of a run that broke is used again
        return why
    return None


# ---- what there is
# --------------------------------------------------------------------------------------------------


class Overview(NamedTuple):
    """counts: stage -> state -> number of parts. left: seconds of what is to be made. failed: name
    -> why.
    """

    counts: dict[str, Counter]
    left: float
    failed: dict[str, str]

    @property
    def done(self) -> bool:
        return all(
            state in ("done", "diverged") for counter in self.counts.values() for state in counter
        )


STATES = ("done", "diverged", "running", "queued", "to do", "failed")


def overview(
    plan: Plan, queued: Iterable[str] = (), ended: Mapping[str, str] = MappingProxyType({})
) -> Overview:
    """What of a grid is there, what is being made, and what failed when it was last tried.

    queued: parts that wait in a queue. ended: parts of jobs that are over -> what to say of one
        that could have been made.
    """
    shelf = plan.shelf
    shelf.list()
    held, noted, queued, seconds = (
        running(plan.folder),
        Failures(plan.folder).all(),
        set(queued),
        plan.seconds(),
    )
    counts: dict[str, Counter] = {stage: Counter() for stage in ORDER}
    left, failed = 0.0, {}
    for node in plan.nodes.values():
        if shelf.there(node.name):
            diverges = node.stage in ("pretrain", "unlearn", "attack") and shelf.diverged(node.name)
            state = "diverged" if diverges else "done"
        elif shelf.ruled_out(node, plan.nodes):
            state = "diverged"
        else:
            left += seconds(node)
            why = noted.get(node.name)
            if (
                why is None
                and node.name in ended
                and all(shelf.settled(plan.nodes[need], plan.nodes) for need in node.needs)
            ):
                why = ended[node.name]
            state = (
                "running"
                if node.name in held
                else "queued"
                if node.name in queued
                else "failed"
                if why
                else "to do"
            )
            if state == "failed":
                failed[node.name] = why
        counts[node.stage][state] += 1
    shelf.list_no_more()
    return Overview({stage: counter for stage, counter in counts.items() if counter}, left, failed)
