"""A grid on Slurm: what is known of it, and a multirun that waits for it."""

import contextlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from unrelearn import progress
from unrelearn.advice import command, shell
from unrelearn.errors import UsageError
from unrelearn.grid.account import Account
from unrelearn.grid.cells import Composed
from unrelearn.grid.follow import follow
from unrelearn.grid.multirun import Cell
from unrelearn.grid.plan import Plan
from unrelearn.grid.status import Overview, overview
from unrelearn.grid.work import NEED_MISSING
from unrelearn.launch import Trainer
from unrelearn.report.records import PAGE
from unrelearn.report.summary import print_record
from unrelearn.slurm import Jobs, Submission, release

EVERY = 15.0  # seconds between two looks at the queue
LIMITS = ("timeout_min", "max_jobs", "array_parallelism", "mix_devices")
OURS = ("_target_", *LIMITS, "additional_parameters")


def look(plan: Plan) -> Overview:
    """What there is, with what Slurm knows of it, if the grid was ever submitted and this machine
    can ask.
    """
    jobs = Jobs(plan.folder)
    if not jobs.all() or not shutil.which("squeue"):
        return overview(plan)
    queued = {name for job, tasks in jobs.alive() for name in jobs.parts(job, tasks)}
    return overview(plan, queued, jobs.ended())


def watch(plan: Plan) -> Overview:
    """Show what there is until nothing is running or queued.

    Raises:
        UsageError: Slurm did not answer five times in a row at the start.
    """
    for _ in range(4):  # right after hundreds of calls of sbatch a controller may be slow
        try:
            seen = look(plan)
            break
        except UsageError as error:
            progress.say(error.problems[0])
            time.sleep(EVERY)
    else:
        seen = look(plan)

    def again() -> Overview:
        nonlocal seen
        with contextlib.suppress(UsageError):  # a controller that is slow to answer is asked again
            seen = look(plan)
            release(job["id"] for job in Jobs(plan.folder).all())
        return seen

    return follow(plan, again, lambda now: now.number("running", "queued") > 0, EVERY)


def sbatch_options(asked: Mapping[str, Any], trainer: Trainer) -> list[str]:
    """What sbatch is asked for by the keys of conf/hydra/launcher/slurm.yaml."""
    wanted = {key: value for key, value in asked.items() if key not in OURS}
    memory, gpus = wanted.pop("mem_gb"), trainer.accelerator != "cpu" and not wanted["gres"]
    wanted["mem"] = f"{memory}G" if memory else None
    if wanted["gpus_per_node"] is None and gpus:
        wanted["gpus_per_node"] = trainer.devices
    wanted |= asked["additional_parameters"]
    given = [
        (key, value) for key, value in wanted.items() if value is not None and value is not False
    ]
    return [
        f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}")
        for key, value in given
    ]


def by_slurm(
    typed: Sequence[str], cells: Sequence[Cell], asked: Mapping[str, Any], account: Account
) -> None:
    """Submit what is missing of some runs as `scripts/grid.py submit` does, and wait for it.

    Args:
        typed: the words of the command, by which scripts/grid.py knows the same grid.
        asked: what conf/hydra/launcher/slurm.yaml says.

    Raises:
        UsageError: there is no Slurm here, or it refuses.
    """
    # of this a grid knows nothing
    name = [word for word in typed if not word.startswith("reference=")]
    plan = Plan(Composed(name, cells))
    options = shlex.join(sbatch_options(asked, plan.trainer))
    minutes, *limits = (asked[key] for key in LIMITS)
    Submission(minutes, options, *limits).submit(plan)
    try:
        seen = watch(plan)
    except KeyboardInterrupt:
        end = command(name, "scripts/grid.py cancel")
        print(f"\ninterrupted: the jobs go on. Type {end} to end them", file=sys.stderr)
        sys.exit(130)
    for cell, targets, records in zip(cells, plan.targets, plan.records, strict=True):
        missing = plan.inventory.missing([*targets, *records], plan.parts)
        if missing:
            known = (seen.failed[name] for name in missing if name in seen.failed)
            account.fail(" ".join(map(shell, cell.words)), next(known, NEED_MISSING))
        else:
            account.finish(_record(plan, *records) if records else None)


def _record(plan: Plan, name: str) -> dict[str, Any]:
    """Of a run; it is printed as that of a run of this process is."""
    folder = plan.inventory.runs / name.partition("/")[2]
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    with progress.drawing("the table"):
        print_record(record, progress.console, page=folder / PAGE)
    return record
