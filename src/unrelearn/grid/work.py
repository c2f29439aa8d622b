"""Makes the parts of a grid that are missing."""

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from unrelearn import distributed, tracks
from unrelearn.artifact import write_json
from unrelearn.config import Config
from unrelearn.errors import UsageError
from unrelearn.grid.parts import RECORD, Inventory, Part, closure, names_in
from unrelearn.launch import reasons
from unrelearn.record import finish, keep, name_of_run
from unrelearn.run import Run
from unrelearn.stage import make, walk


class Failures:
    """What could not be made and why, one file a part."""

    def __init__(self, folder: Path):
        self.folder = folder / "failed"

    def _file(self, part: Part) -> Path:
        return self.folder / f"{part.name.replace('/', '-')}.json"

    def note(self, part: Part, why: str) -> None:
        when, job = time.strftime("%Y-%m-%dT%H:%M:%S"), os.environ.get("SLURM_JOB_ID")
        write_json(self._file(part), {"part": part.name, "why": why, "when": when, "job": job})

    def forget(self, part: Part) -> None:
        self._file(part).unlink(missing_ok=True)

    def all(self) -> dict[str, str]:
        """Name of the part -> why."""
        reasons = {}
        for name in names_in(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process has just made up for it
                if not name.startswith("."):
                    note = json.loads((self.folder / name).read_text())
                    reasons[note["part"]] = note["why"]
        return reasons


def claim(folder: Path, part: Part) -> FileLock:
    lock = folder / "claims" / f"{part.name.replace('/', '-')}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)


def running(folder: Path) -> set[str]:
    """Names of the parts that a living process is making."""
    held = set()
    for name in names_in(folder / "claims"):
        try:
            with FileLock(folder / "claims" / name, timeout=0):
                pass
        except Timeout:
            stage, _, key = name.removesuffix(".lock").partition("-")
            held.add(f"{stage}/{key}")
    return held


# Slurm ends a job's ranks one after the other: one that sees another gone may be the next, and then
# nothing has failed
MOMENT = 5.0  # seconds
FAILED_BEFORE = "something that it needs failed"
NEED_MISSING = "something that it needs is missing"


def why_failed(error: Exception, cfg: Config | None) -> str:
    """One line on what could not be made.

    Raises:
        UsageError: the disk is full, so that what follows would fail too.
    """
    problems = reasons(error, cfg)
    # a file that is only read is none of the disk's doing
    read = getattr(error, "errno", None) == errno.ENOENT
    stored = not isinstance(error, UsageError) and problems[0].startswith("paths.outputs")
    if stored and not read:
        raise UsageError(problems) from error
    return " ".join(problems)


@dataclass
class Worker:
    """Makes parts; those of one run, or of one data set, that follow one another share what they
    have read.

    Args:
        parts: all that is wanted, and what that needs, at whatever distance.
        inventory: what is there.
        folder: of the grid, for claims and failures.
        configuration: of a part: the resolved configuration and the command of a run that has it.
        begun, finished: called before a part, and after it with the seconds it took.
    """

    parts: dict[str, Part]
    inventory: Inventory
    folder: Path
    configuration: Callable[[Part], tuple[Config, str]]
    begun: Callable[[Part], None] = lambda part: None
    finished: Callable[[Part, float], None] = lambda part, seconds: None

    def __post_init__(self) -> None:
        self.failures = Failures(self.folder)
        self.failed: dict[str, str] = {}
        self.run: Run | None = None

    def work(self, wanted: Iterable[str]) -> dict[str, str]:
        """Make the wanted parts that are missing, in order; wait for what others are making.

        Returns:
            What is missing in the end -> why: it failed, or something that it needs did.
        """
        wanted = list(wanted)
        left = [self.parts[name] for name in wanted]
        while left:
            # before looking: what is let go of after this is there, or noted, when it is looked at
            held = distributed.on_main(lambda: running(self.folder))
            outcomes = [(part, self._try(part)) for part in left]
            left = [part for part, outcome in outcomes if outcome in ("waiting", "taken")]
            happened = {outcome for _, outcome in outcomes}
            if left and "tried" not in happened:
                if "taken" not in happened and not held & closure(self.parts, left).keys():
                    break  # nobody makes what they need
                time.sleep(0.3)
        # on one rank: another one may get here while the first is still writing
        return distributed.on_main(lambda: self._missing(wanted))

    def _missing(self, wanted: list[str]) -> dict[str, str]:
        missing = [name for name in wanted if not self._done(self.parts[name])]
        return {name: self.failed.get(name) or NEED_MISSING for name in missing}

    def _done(self, part: Part) -> bool:
        return self.inventory.done(part, self.parts)

    def _try(self, part: Part) -> str:
        """Make a part if that can be done now: "tried", "taken" by another process, "waiting" for
        what it needs, "done", or "lost": it, or something that it needs, failed.
        """
        state = distributed.on_main(lambda: self._state(part))
        if state != "ready":
            return state
        lock = claim(self.folder, part)
        if not distributed.on_main(lambda: _acquire(lock)):
            return "taken"
        try:
            if distributed.on_main(lambda: self._done(part)):
                return "done"
            self._attempt(part)
            return "tried"
        finally:
            if distributed.is_main():
                Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()

    def _state(self, part: Part) -> str:
        if self._done(part):
            return "done"
        if part.name in self.failed or any(need in self.failed for need in part.needs):
            self.failed.setdefault(part.name, FAILED_BEFORE)
            return "lost"
        if all(self._done(self.parts[need]) for need in part.needs):
            return "ready"
        noted = self.failures.all()
        if any(need in noted and not self.inventory.there(need) for need in part.needs):
            self.failed[part.name] = FAILED_BEFORE  # another process gave up on what it needs
            return "lost"
        return "waiting"

    def _attempt(self, part: Part) -> None:
        self.begun(part)
        started = time.monotonic()
        why = self._why_not_made(part)
        if why is None:
            self.failures.forget(part)
            self.finished(part, time.monotonic() - started)
        else:
            self.failed[part.name] = why
            self.failures.note(part, why)

    def _why_not_made(self, part: Part) -> str | None:
        """None, or why it failed. Of several ranks one that fails alone ends them all: the others
        wait for it, and only torchrun or Slurm can end those.
        """
        try:
            self._make(part)
        except Exception as error:
            why = why_failed(error, self.run.cfg if self.run else None)
            if isinstance(error, UsageError):
                return why
            if distributed.world_size() > 1:
                time.sleep(MOMENT)
                self.failures.note(part, why)
                raise
            self.run = None  # nothing of a run that broke is used again
            return why
        return None

    def run_of(self, cfg: Config, command: str) -> Run:
        """The last run, if it is this one, or a new one, which shares what that has read."""
        if self.run is None or self.run.command != command:
            self.run = Run(cfg, command, self.run)
        return self.run

    def _make(self, part: Part) -> None:
        run = self.run_of(*self.configuration(part))
        if part.name == f"{RECORD}/{name_of_run(run)}":
            keep(run, finish(run))
            return
        stages = {stage.id: stage for stage in walk(tracks.targets(run))}
        if part.name not in stages:
            raise UsageError(
                f"{part.name}: code or configuration have changed since the grid was planned. "
                "Type the same command again to plan it anew"
            )
        make([stages[part.name]])


def _acquire(lock: FileLock) -> bool:
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        return True
    return False
