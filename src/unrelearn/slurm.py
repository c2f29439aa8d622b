"""A grid on Slurm: its parts as job arrays in waves, each wave holding only parts that do not need
one another.

A wave starts when the one before it has ended, however that ended (afterany): what a failed part
rules out is left, all else is made. A job that comes near its time limit, and one whose node
vanishes, is put back into the queue by Slurm and goes on from the last checkpoint. Nothing here
needs accounting: what is queued is what squeue shows, what is done is what lies on disk.
"""

import getpass
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from unrelearn import partitions
from unrelearn.advice import command
from unrelearn.artifact import write_json
from unrelearn.errors import UsageError
from unrelearn.grid.parts import Part, closure
from unrelearn.grid.plan import Plan
from unrelearn.grid.work import Failures
from unrelearn.paths import ROOT
from unrelearn.progress import say

PROGRAM = ROOT / "scripts" / "grid.py"
WARNING = 90  # seconds before its time limit that a job is told
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL")
RESTARTS = 50  # a part that makes no checkpoint between two limits would come back for ever

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --output={folder}/%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --time={minutes}
#SBATCH --signal=B:USR2@{warning}
#SBATCH --nodes=1
#SBATCH --ntasks={devices}
cd {root}
export SRUN_CPUS_PER_TASK=${{SLURM_CPUS_PER_TASK:-1}}  # which srun does not take over from sbatch
again() {{
  echo "near the time limit: to be continued"
  (( ${{SLURM_RESTART_COUNT:-0}} < {restarts} )) &&
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
}}
trap again USR2
{launcher}{python} {program} work {folder}/${{SLURM_ARRAY_TASK_ID}}.json &
work=$!
while kill -0 $work 2>/dev/null; do wait $work; code=$?; done
exit ${{code:-1}}
"""


def call(*words: str) -> str:
    """What a command of Slurm prints.

    Raises:
        UsageError: there is no Slurm here, or it refuses.
    """
    if shutil.which(words[0]) is None:
        raise UsageError(
            f"{words[0]}: no such command, so this is no machine of a Slurm cluster. "
            "Type python scripts/grid.py run with the same choices to make the grid here"
        )
    done = subprocess.run(words, text=True, capture_output=True)
    if done.returncode:
        raise UsageError(
            f"{shlex.join(words)}: {' '.join((done.stderr or done.stdout).split())}. Type sinfo"
            " to see whether the cluster answers, then the same command again"
        )
    return done.stdout


def queue() -> dict[str, set[int]]:
    """This user's jobs that wait or run: id of an array -> indices of its tasks."""
    alive: dict[str, set[int]] = {}
    for line in call("squeue", "--me", "--noheader", "--array", "--format=%F %K %T").splitlines():
        array, index, state = line.split()
        if index.isdigit() and state not in ENDED:
            alive.setdefault(array, set()).add(int(index))
    return alive


def release(ids: Iterable[str]) -> list[str]:
    """Let go of those of these arrays' tasks that Slurm holds as a node was not ready to take them
    back.
    """
    ours = set(ids)
    shown = call(
        "squeue", "--me", "--noheader", "--array", "--states=PENDING", "--format=%i|%r"
    ).splitlines()
    held = [line.partition("|")[0] for line in shown if "requeued held" in line.replace("_", " ")]
    held = [job for job in held if job.partition("_")[0] in ours]
    for job in held:
        call("scontrol", "release", job)
    return held


def limits() -> tuple[int, int]:
    """(tasks of one array, jobs of this user at once) that the cluster takes, as far as it says
    so.
    """
    shown = call("scontrol", "show", "config")

    def value(name: str, default: int) -> int:
        match = re.search(rf"^{name}\s*=\s*(\d+)", shown, re.MULTILINE)
        return int(match[1]) if match else default

    array, jobs = value("MaxArraySize", 1001), value("MaxJobCount", 10000)
    for words in (
        ("assoc", f"user={getpass.getuser()}", "format=MaxSubmit"),
        ("qos", "format=MaxSubmitPU"),
    ):
        if shutil.which("sacctmgr"):
            told = subprocess.run(
                ["sacctmgr", "--noheader", "--parsable2", "show", *words],
                text=True,
                capture_output=True,
            )
            # of several accounts and qualities of service the most generous: which one a job gets
            # is for sbatch to say
            allowed = [int(line) for line in told.stdout.split() if line.isdigit()]
            jobs = min(jobs, max(allowed, default=jobs)) if told.returncode == 0 else jobs
    return array, jobs


def room(max_jobs: int | None) -> tuple[int, int]:
    """(tasks of one array, jobs) that may be submitted now."""
    array, most = limits()
    there = len(call("squeue", "--me", "--noheader", "--array", "--format=%i").splitlines())
    return array, (min(max_jobs, most) if max_jobs else most) - there


def packed(
    parts: Iterable[Part], seconds: Callable[[Part], float], target: float
) -> list[list[Part]]:
    """Parts in lists of about `target` seconds; one that takes longer is alone."""
    packs: list[list[Part]] = []
    filled = target
    for part in parts:
        takes = seconds(part)
        if not packs or filled + takes > target:
            packs.append([])
            filled = 0.0
        packs[-1].append(part)
        filled += takes
    return packs


def waves(
    parts: Iterable[Part], seconds: Callable[[Part], float], target: float, most: int
) -> list[list[list[Part]]]:
    """The parts, by level, in packs of `target` seconds, or of more where these would be more than
    `most` jobs.

    Raises:
        UsageError: not even one job a wave is allowed.
    """
    levels: dict[int, list[Part]] = {}
    for part in parts:
        levels.setdefault(part.level, []).append(part)
    if len(levels) > most:
        raise UsageError(
            f"{max(0, most)} more jobs are allowed (the limit that is given, or the cluster's, less"
            f" what you have queued), and the grid has {len(levels)} waves, each at least one job."
            f" Type --max-jobs={len(levels)} or more, hydra.launcher.max_jobs={len(levels)} of"
            " hydra/launcher=slurm, or wait until some of your other jobs have ended"
        )
    while True:
        packs = [packed(levels[level], seconds, target) for level in sorted(levels)]
        if sum(map(len, packs)) <= most:
            return packs
        target *= 1.25


class Jobs:
    """The arrays that were submitted for a grid: <folder>/jobs/<number>/ holds a file of parts a
    task, and their logs.
    """

    def __init__(self, folder: Path):
        self.folder = folder / "jobs"

    def all(self) -> list[dict]:
        """{"id": of the array, "number", "level", "tasks": how many}, oldest first."""
        jobs = [json.loads(path.read_text()) for path in self.folder.glob("*/job.json")]
        return sorted(jobs, key=lambda job: job["number"])

    def alive(self) -> Iterator[tuple[dict, list[int]]]:
        """Each array that is not over, with the tasks that are not."""
        waiting = queue()
        for job in self.all():
            if tasks := sorted(waiting.get(job["id"], ())):
                yield job, tasks

    def ended(self) -> dict[str, str]:
        """Parts of jobs that are over -> where to look."""
        waiting = queue()
        logs: dict[str, str] = {}
        for job in self.all():
            over = set(range(job["tasks"])) - waiting.get(job["id"], set())
            for task in sorted(over):
                log = self.folder / f"{job['number']:04d}" / f"{task}.log"
                why = f"its job {job['id']}_{task} has ended without it: see {log}"
                logs |= dict.fromkeys(self.parts(job, [task]), why)
        return logs

    def parts(self, job: dict, tasks: Iterable[int]) -> Iterator[str]:
        for task in tasks:
            file = self.folder / f"{job['number']:04d}" / f"{task}.json"
            yield from json.loads(file.read_text())["wanted"]


def write_task(path: Path, plan: Plan, pack: list[Part]) -> None:
    needed = closure(plan.parts, pack)
    write_json(
        path,
        {
            "settled": plan.cells.settle.known,
            "outputs": str(plan.outputs),
            "folder": str(plan.folder),
            "wanted": [part.name for part in pack],
            "parts": [list(part) for part in needed.values()],
            "cells": {part.cell: plan.cells.words(part.cell) for part in pack},
        },
    )


@dataclass
class Submission:
    """How a grid is submitted.

    Args:
        minutes: time limit of a job; parts fill half of it.
        options: of sbatch.
        max_jobs: of this user at once, at most; None: what the cluster says.
        parallel: jobs of an array that run at once, at most.
        mix_devices: jobs may come to several kinds of GPU.
    """

    minutes: float
    options: str
    max_jobs: int | None
    parallel: int | None
    mix_devices: bool = False

    def submit(self, plan: Plan) -> None:
        """Submit what is missing and not queued, and say what to type to follow it."""
        jobs = Jobs(plan.folder)
        kinds = self._kinds(plan, jobs) if plan.missing() else []
        plan.keep()
        # of two planners the second one sees what the first has queued
        with FileLock(plan.folder / "submit.lock"):
            if held := release(job["id"] for job in jobs.all()):
                names = ", ".join(held)
                say(f"released {names}, which Slurm had held because a node was not ready")
            alive = list(jobs.alive())
            missing = self._missing(plan, jobs, alive)
            array, most = room(self.max_jobs) if missing else (1, 1)
            before = [job["id"] for job, _ in alive]
            ids: list[str] = []
            target = 60 * self.minutes / 2
            for wave in waves(missing, plan.seconds(), target, most) if missing else ():
                starts = range(0, len(wave), array)
                packs = [wave[start : start + array] for start in starts]
                before = [self._array(plan, jobs, part, before, kinds) for part in packs]
                ids += before
        status, cancel = (
            command(plan.cells.name, f"scripts/grid.py {name}") for name in ("status", "cancel")
        )
        say(
            f"{len(ids)} array(s) submitted; logs: {jobs.folder}. To follow them: {status} --watch."
            f" To end them: {cancel}"
            if ids
            else "nothing to submit: what is not there is queued already"
        )

    @staticmethod
    def _missing(plan: Plan, jobs: "Jobs", alive: list[tuple[dict, list[int]]]) -> list[Part]:
        queued = {name for job, tasks in alive for name in jobs.parts(job, tasks)}
        missing = [part for part in plan.missing() if part.name not in queued]
        for part in missing:
            Failures(plan.folder).forget(part)
        return missing

    def _kinds(self, plan: Plan, jobs: "Jobs") -> list[str]:
        """Kinds of GPU that jobs may come to.

        Raises:
            UsageError: they are several, with those of the grid's former jobs.
        """
        if plan.trainer.accelerator == "cpu" or not shutil.which("sinfo"):
            return []
        now = partitions.kinds(self.options, call("sinfo", "--noheader", "--format=%P|%G"))
        known = now.union(*(job.get("kinds", ()) for job in jobs.all()))
        if len(known) > 1 and not self.mix_devices:
            before = " with those of the jobs before" * (len(now) < 2)
            raise UsageError(
                f"--sbatch {shlex.quote(self.options)}: its jobs may come to several kinds of"
                f" device{before} ({', '.join(sorted(known))}), and a seed is another draw on each."
                " Type --sbatch --partition=NAME with nodes of one kind, "
                "hydra.launcher.mix_devices=true of hydra/launcher=slurm, or --mix-devices"
            )
        return sorted(now)

    def _array(
        self,
        plan: Plan,
        jobs: "Jobs",
        packs: list[list[Part]],
        before: list[str],
        kinds: list[str],
    ) -> str:
        """Submit one array, a task for each pack, to start when others have ended; its id."""
        number = max((job["number"] for job in jobs.all()), default=-1) + 1
        level, folder = packs[0][0].level, jobs.folder / f"{number:04d}"
        for task, pack in enumerate(packs):
            write_task(folder / f"{task}.json", plan, pack)
        script = folder / "job.sh"
        script.write_text(self._script(plan, folder, level))
        after = [f"--dependency=afterany:{':'.join(before)}"] if before else []
        together = f"%{self.parallel}" if self.parallel else ""
        words = [f"--array=0-{len(packs) - 1}{together}", *after, *shlex.split(self.options)]
        job = call("sbatch", "--parsable", *words, str(script)).split(";")[0].strip()
        note = {"id": job, "number": number, "level": level, "tasks": len(packs), "kinds": kinds}
        write_json(folder / "job.json", note)
        say(
            f"wave {level}: job {job}, {len(packs)} task(s), {sum(map(len, packs))} part(s)"
            + (f", after {', '.join(before)}" if before else "")
        )
        return job

    def _script(self, plan: Plan, folder: Path, level: int) -> str:
        devices = plan.trainer.devices
        return SCRIPT.format(
            name=f"unrelearn-{level}",
            folder=shlex.quote(str(folder.resolve())),
            minutes=max(1, round(self.minutes)),
            warning=min(WARNING, int(30 * self.minutes)),
            devices=devices,
            restarts=RESTARTS,
            root=shlex.quote(str(Path.cwd())),
            python=shlex.quote(sys.executable),
            program=shlex.quote(str(PROGRAM)),
            launcher="srun --kill-on-bad-exit=1 " if devices > 1 else "",
        )


def cancel(plan: Plan) -> list[str]:
    """Take the grid's jobs out of the queue; what they were making goes on from its last checkpoint
    when asked for again.
    """
    ids = [job["id"] for job, _ in Jobs(plan.folder).alive()]
    if ids:
        call("scancel", *ids)
    return ids
