"""A stage is one kind of work, whose result is an artefact. The graph of a run follows from what
its stages say: keys, order, cost, the parts of a grid, what is removed and what W&B draws.

The idea is that of luigi (requires, output, run) and ai2-tango (VERSION).
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from unrelearn import tracking
from unrelearn.artifact import Artifact, Spec
from unrelearn.run import Run


@dataclass(frozen=True)
class Cost:
    """Optimiser steps, FLOPs of the network, and bytes on disk."""

    steps: int = 0
    flops: float = 0.0
    bytes: float = 0.0


class Stage:
    """One artefact of a run, which may not be there yet.

    A stage says what it is made of and how; adding one touches its own file and a track.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raised when its code changes what it computes: all is made anew
    axis: ClassVar[str | None] = None  # over which W&B draws its curves
    depth: int = 1  # how many of data set, method and attack went into it
    beside: ClassVar[bool] = False  # kept as long as the model that it is of
    alone: ClassVar[bool] = True  # False: in a grid it is made together with what needs it
    trains: ClassVar[bool] = False  # whether it leaves a model, which may diverge
    on_demand: ClassVar[bool] = False  # made by who reads it: where all is there, it is not opened
    seconds: ClassVar[float] = 1.0  # about, where none was measured and there are no FLOPs

    def __init__(self, run: Run):
        self.run = run

    def config(self) -> dict[str, Any]:
        """What of the configuration decides the content; hashed."""
        raise NotImplementedError

    def parents(self) -> list["Stage"]:
        """What it is made from; hashed."""
        return []

    def needs(self) -> list["Stage"]:
        """What must be there first: its parents, and what it reads besides."""
        return self.parents()

    def make(self, folder: Path) -> dict[str, Any]:
        """Write files into the folder; return what the manifest is to say."""
        raise NotImplementedError

    def cost(self) -> Cost:
        return Cost()

    @property
    def what(self) -> str:
        """Whose, in the words of tables: the method, the attack, the model; or nothing."""
        return ""

    def origin(self) -> "tuple[Stage, str] | None":
        """The stage whose model it starts from, and the folder in that, of a model under attack."""
        return None

    def ruled_out(self) -> bool:
        """Whether it can not be, as the model that it starts from diverged."""
        return False

    @cached_property
    def spec(self) -> Spec:
        parents = tuple(parent.key for parent in self.parents())
        return Spec(self.name, self.version, self.config(), parents)

    @property
    def key(self) -> str:
        return self.spec.key

    @property
    def id(self) -> str:
        """Its folder below outputs/artifacts."""
        return f"{self.name}/{self.key}"

    @property
    def artifact(self) -> Artifact | None:
        """What is there of it."""
        return self.run.store.find(self.spec)

    def build(self) -> Artifact:
        """The artefact, made if it is not there."""
        return self.run.build(self.spec, self.make)

    def track(self, at: str = "") -> AbstractContextManager[tracking.LoggedRun]:
        """The W&B run of this artefact; its group is what went into it."""
        group = "-".join(list(self.run.names.values())[: self.depth])
        about = tracking.About(
            stage=self.name,
            key=self.key,
            group=group,
            config=self.spec.config,
            name=f"{self.name} {group}{at} {self.key[:8]}",
            axis=self.axis,
        )
        return tracking.run(self.run.tracking, self.run.outputs, about)


def kinds() -> list[type[Stage]]:
    """Every stage that is loaded and makes something, once a name."""
    by_name: dict[str, type[Stage]] = {}
    new: list[type[Stage]] = [Stage]
    while new:
        kind = new.pop(0)
        new += kind.__subclasses__()
        if hasattr(kind, "name"):
            by_name.setdefault(kind.name, kind)
    return list(by_name.values())


def walk(targets: Iterable[Stage]) -> Iterator[Stage]:
    """The targets and all that they need, each once, after what it needs."""
    seen: set[str] = set()

    def visit(stage: Stage) -> Iterator[Stage]:
        if stage.id in seen:
            return
        seen.add(stage.id)
        for need in stage.needs():
            yield from visit(need)
        yield stage

    for target in targets:
        yield from visit(target)


def make(targets: Iterable[Stage]) -> None:
    """Build all of them, and what they need, but for what a divergence rules out."""
    targets = list(targets)
    asked = {stage.id for stage in targets}
    for stage in walk(targets):
        wanted = stage.id in asked or not stage.on_demand
        if wanted and not stage.ruled_out():
            stage.build()
