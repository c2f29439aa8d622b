"""hydra/launcher=slurm and slurm_local: each run of a command as a job, by submitit."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError

from unrelearn import launch
from unrelearn.advice import command
from unrelearn.config import validate
from unrelearn.errors import UsageError
from unrelearn.grid.account import Account
from unrelearn.grid.multirun import Cell
from unrelearn.record import execute

# what submitit calls by the same name on every cluster
SHARED = (  # noqa: SIM905
    "timeout_min cpus_per_task gpus_per_node tasks_per_node mem_gb nodes name stderr_to_stdout"
).split()


class RunTask:
    """What a job does: one run. It raises what the run raised, so that Slurm knows it as FAILED."""

    def __call__(self, cell: Cell) -> dict | None:
        launch.join_step()
        cfg = cell.cfg
        try:
            cfg = validate(cell.config, words=cell.typed)  # the devices are those of here
            launch.processes(cfg.trainer)
            record = execute(cfg, command(cell.words))
            launch.leave()
        except Exception as error:
            launch.complain(launch.reasons(error, cfg))  # where `_collect` reads them
            raise
        return record

    def checkpoint(self, cell: Cell) -> submitit.helpers.DelayedSubmission:
        """What is queued when the job comes near its limit: the same, which goes on from there."""
        return submitit.helpers.DelayedSubmission(self, cell)


def check_cluster(cluster: str) -> None:
    if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise UsageError(
            "hydra/launcher=slurm: there is no sbatch on this machine. Type it where there is,"
            " or hydra/launcher=slurm_local, or python scripts/grid.py run ..."
        )


def submit(cells: Sequence[Cell], asked: dict[str, Any], account: Account) -> None:
    """Queue a job for each run, and wait for all of them.

    Args:
        asked: what conf/hydra/launcher says.

    Raises:
        UsageError: sbatch refuses them.
    """
    cluster, folder = asked["cluster"], Path(asked["submitit_folder"])
    jobs = _queued(cells, cluster, folder, asked)
    print(
        f"{len(jobs)} jobs, {jobs[0].job_id} to {jobs[-1].job_id}; what they say: {folder.parent}",
        flush=True,
    )
    same = set.intersection(*(set(cell.words) for cell in cells)) if len(cells) > 1 else set()
    try:
        for job, cell in zip(jobs, cells, strict=True):
            _collect(job, " ".join(word for word in cell.words if word not in same), account)
    except KeyboardInterrupt:
        ids = " ".join(dict.fromkeys(job.job_id.split("_")[0] for job in jobs))
        end = "scancel" if cluster == "slurm" else "kill"
        print(f"\ninterrupted: the jobs go on. Type {end} {ids} to end them", file=sys.stderr)
        sys.exit(130)


def _queued(
    cells: Sequence[Cell], cluster: str, folder: Path, asked: dict[str, Any]
) -> list[submitit.Job]:
    settings = {
        key if key in SHARED else f"{cluster}_{key}": value
        for key, value in asked.items()
        if key not in ("cluster", "submitit_folder", "max_num_timeout")
    }
    restarts = {"slurm_max_num_timeout": asked["max_num_timeout"]} if cluster == "slurm" else {}
    executor = submitit.AutoExecutor(folder, cluster=cluster, **restarts)
    executor.update_parameters(**settings)
    try:
        return executor.map_array(RunTask(), cells)
    except FailedJobError as error:
        wanted = ("partition", "gpus_per_node", "cpus_per_task", "mem_gb", "timeout_min")
        given = " ".join(f"hydra.launcher.{key}={asked[key]}" for key in wanted if asked.get(key))
        raise UsageError(
            f"sbatch: {' '.join(str(error).split())}. Asked for: {given}. Type another, or "
            "trainer.accelerator=cpu for no GPU"
        ) from error


def _collect(job: submitit.Job, choices: str, account: Account) -> None:
    """Wait for a job, and note its record, or why there is none."""
    try:
        account.finish(job.results()[0])
        print(f"job {job.job_id} finished: {choices}", flush=True)
    except UncompletedJobError:
        lines = (job.stderr() or "").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        why = "; ".join(dict.fromkeys(errors)) or f"its job ended as {job.state}"
        print(f"job {job.job_id} failed: {choices}: {job.paths.stderr}", flush=True)
        account.fail(choices, why)
