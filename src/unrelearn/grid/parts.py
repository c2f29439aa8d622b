"""The parts of a grid, and which of them are there."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from unrelearn.artifact import MANIFEST

RECORD = "record"  # what stands for the result of a run, as no artefact does


class Part(NamedTuple):
    """A part of some run.

    Args:
        name: stage/key, its folder below outputs/artifacts; of a record, record/<name of the run>.
        what: whose, in the words of tables.
        needs: names of other parts.
        inside: names of artefacts that are made together with it.
        model: the part with the model that it starts from, or "".
        snapshot: the folder in that, of a model under attack.
        trains: whether it leaves a model, so that it may diverge.
        level: how many parts must be made one after the other before it.
        cell: the first run that needs it.
    """

    name: str
    what: str
    needs: tuple[str, ...]
    inside: tuple[str, ...]
    model: str
    snapshot: str
    trains: bool
    level: int
    cell: int

    @property
    def stage(self) -> str:
        return self.name.partition("/")[0]

    @property
    def key(self) -> str:
        return self.name.partition("/")[2]


class Inventory:
    """What is there below an outputs folder."""

    def __init__(self, outputs: Path):
        self.artifacts, self.runs = outputs / "artifacts", outputs / "runs"
        self._listed: set[str] | None = None
        self._manifests: dict[str, dict] = {}

    def list(self) -> None:
        """Look at whole folders once, which for many parts is quicker than to ask for each."""
        self._listed = {
            f"{stage}/{key}"
            for stage in names_in(self.artifacts)
            for key in names_in(self.artifacts / stage)
        }
        for name in names_in(self.runs):
            if (self.runs / name / "result.json").exists():
                self._listed.add(f"{RECORD}/{name}")

    def list_no_more(self) -> None:
        self._listed = None

    def there(self, name: str) -> bool:
        if self._listed is not None:
            return name in self._listed
        stage, _, key = name.partition("/")
        if stage == RECORD:
            return (self.runs / key / "result.json").exists()
        return (self.artifacts / name).exists()

    def manifest(self, name: str) -> dict:
        if name not in self._manifests:
            self._manifests[name] = json.loads((self.artifacts / name / MANIFEST).read_text())
        return self._manifests[name]

    def diverged(self, name: str) -> bool:
        """Whether a model is there whose training diverged."""
        # a damaged one is for its maker to complain of
        with contextlib.suppress(OSError, ValueError):
            return self.there(name) and self.manifest(name)["meta"]["status"] == "diverged"
        return False

    def ruled_out(self, part: Part, parts: dict[str, Part]) -> bool:
        """Whether a part can not be, as the model that it starts from diverged."""
        if not part.model:
            return False
        if not self.diverged(part.model):
            return not self.there(part.model) and self.ruled_out(parts[part.model], parts)
        weights = self.artifacts / part.model / part.snapshot / "raw"
        return not (part.snapshot and weights.exists())

    def done(self, part: Part, parts: dict[str, Part]) -> bool:
        return self.there(part.name) or self.ruled_out(part, parts)

    def missing(self, wanted: Iterable[str], parts: dict[str, Part]) -> tuple[str, ...]:
        """Which of the wanted parts, and of what those need, are to be made, in that order."""
        reached: set[str] = set()
        new = list(wanted)
        while new:
            name = new.pop()
            if name not in reached and not self.done(parts[name], parts):
                reached.add(name)
                new += parts[name].needs
        return tuple(name for name in parts if name in reached)

    def seconds(self, part: Part) -> float | None:
        """What a part that is there took, with what was made together with it."""
        if part.stage == RECORD:
            return None
        with contextlib.suppress(OSError, ValueError, KeyError):
            names = (part.name, *part.inside)
            return sum(self.manifest(name)["meta"]["seconds"] for name in names)
        return None


def names_in(folder: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def closure(parts: dict[str, Part], wanted: Iterable[Part]) -> dict[str, Part]:
    """The parts and all that they need, at whatever distance."""
    reached: dict[str, Part] = {}
    new = list(wanted)
    while new:
        part = new.pop()
        if part.name not in reached:
            reached[part.name] = part
            new += [parts[need] for need in part.needs]
    return reached
