"""The runs of one command, in this process: the parts that they share once, then each run's
record.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from unrelearn import distributed, launch, progress, tracks
from unrelearn.advice import command, shell
from unrelearn.config import Config
from unrelearn.cost import estimate
from unrelearn.errors import UsageError
from unrelearn.grid.account import Account
from unrelearn.grid.cells import Composed
from unrelearn.grid.plan import Plan
from unrelearn.grid.work import FAILED_BEFORE, Worker, why_failed
from unrelearn.record import conclude
from unrelearn.run import Run
from unrelearn.stage import walk


class Cell(NamedTuple):
    """One run of several: its choices, and its validated configuration."""

    words: list[str]
    cfg: Config


def here(typed: Sequence[str], cells: Sequence[Cell], account: Account) -> None:
    """Make all runs, in the order given; what fails costs only the runs that need it.

    typed: the words of the command.

    Raises:
        UsageError: the disk is full.
    """
    first = cells[0].cfg
    if not first.dry_run:
        launch.processes(first.trainer)
    plan = Plan(Composed(typed, cells))
    worker = Worker(plan.parts, plan.inventory, plan.folder, plan.configuration)
    for part in plan.parts.values():
        worker.failures.forget(part)
    for number, cell in enumerate(cells):
        started = time.monotonic()
        why = None if cell.cfg.dry_run else _unmade(plan, worker, number)
        if why is None:
            run = worker.run_of(cell.cfg, command(cell.words))
            why = _concluded(run, time.monotonic() - started, account)
        if why is not None:
            worker.run = None  # nothing of a run that broke is used again
            launch.complain([why])
            account.fail(" ".join(map(shell, cell.words)), why)


def say_cost(why: str, cells: Sequence[Cell]) -> None:
    """What is still to be computed of runs that nobody typed one by one, before any of it."""
    rows: dict[str, dict[str, Any]] = {}
    for cell in cells:
        run = Run(cell.cfg, command(cell.words))
        rows |= {row["key"]: row for row in estimate(run, walk(tracks.targets(run)))}
    missing = [row for row in rows.values() if not row["there"]]
    steps, flops = (sum(row[name] for row in missing) for name in ("steps", "flops"))
    if missing:
        progress.say(f"{why}: {steps:,} optimiser steps more, {flops / 1e15:.3g} PFLOP")


def _unmade(plan: Plan, worker: Worker, number: int) -> str | None:
    """Make the parts of a run; None, or why one of them is missing."""
    wanted = distributed.on_main(lambda: plan.inventory.missing(plan.targets[number], plan.parts))
    lost = worker.work(wanted)
    return min(lost.values(), key=lambda why: why == FAILED_BEFORE, default=None)  # what says more


def _concluded(run: Run, spent: float, account: Account) -> str | None:
    """Record and show a run whose parts are there; None, or why that failed."""
    try:
        account.finish(conclude(run, spent))
    except Exception as error:
        why = why_failed(error, run.cfg)
        if distributed.world_size() > 1 and not isinstance(error, UsageError):
            raise  # the other ranks wait for this one
        return why
    return None
