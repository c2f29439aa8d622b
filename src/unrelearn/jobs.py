"""hydra/launcher=slurm and slurm_local: each run of a multirun as a job, by
hydra-submitit-launcher.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import OmegaConf, open_dict

from unrelearn.config import validate
from unrelearn.errors import UsageError
from unrelearn.launch import failed, finished

# what a job of Slurm asks for, in conf/hydra/launcher: a GPU for each device
OmegaConf.register_new_resolver(
    "gpus", lambda accelerator, devices: None if accelerator == "cpu" else devices, replace=True
)


class Jobs:
    """The plugin's launcher, but all runs are checked before any is queued, all are waited for, and
    the failed are named.
    """

    def __call__(self, *arguments) -> JobReturn:
        """In the job: one run. It raises what the run raised, so that Slurm knows the job as
        FAILED.
        """
        returned = super().__call__(*arguments)
        returned.return_value  # noqa: B018 - raises
        return returned

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        import submitit

        if self._EXECUTOR == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise UsageError(
                "hydra/launcher=slurm: there is no sbatch on this machine. Type it where there is,"
                " or hydra/launcher=slurm_local, or python scripts/grid.py run ..."
            )
        self._check(job_overrides)
        settings, shared = dict(self.params), {field.name for field in fields(BaseQueueConf)}
        folder = Path(settings.pop("submitit_folder"))
        timeouts = (
            {"slurm_max_num_timeout": settings.pop("max_num_timeout")}
            if self._EXECUTOR == "slurm"
            else {}
        )
        executor = submitit.AutoExecutor(folder, cluster=self._EXECUTOR, **timeouts)
        executor.update_parameters(
            **{
                key if key in shared else f"{self._EXECUTOR}_{key}": value
                for key, value in settings.items()
            }
        )
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        calls = [
            (list(overrides), "hydra.sweep.dir", number, str(number), Singleton.get_state())
            for number, overrides in zip(numbers, job_overrides, strict=True)
        ]
        try:
            jobs = executor.map_array(self, *zip(*calls, strict=True))
        except submitit.core.utils.FailedJobError as error:
            asked = " ".join(
                f"hydra.launcher.{key}={value}"
                for key, value in settings.items()
                if key in ("partition", "gpus_per_node", "cpus_per_task", "mem_gb", "timeout_min")
                and value
            )
            raise UsageError(
                f"sbatch: {' '.join(str(error).split())}. Asked for: {asked}. Type another, or "
                "trainer.accelerator=cpu for no GPU"
            ) from error
        print(
            f"{len(jobs)} jobs, {jobs[0].job_id} to {jobs[-1].job_id}; what they say:"
            f" {folder.parent}",
            flush=True,
        )
        same = set.intersection(*map(set, job_overrides)) if len(jobs) > 1 else set()
        try:
            for job, overrides in zip(jobs, job_overrides, strict=True):
                _collect(job, " ".join(word for word in overrides if word not in same))
        except KeyboardInterrupt:
            ids = " ".join(dict.fromkeys(job.job_id.split("_")[0] for job in jobs))
            end = "scancel" if self._EXECUTOR == "slurm" else "kill"
            print(f"\ninterrupted: the jobs go on. Type {end} {ids} to end them", file=sys.stderr)
            sys.exit(130)
        return []

    def _check(self, job_overrides: Sequence[Sequence[str]]) -> None:
        """Every problem of every run, as far as it can be seen from here: the devices are
        elsewhere.
        """
        problems, tasks = [], self.params["tasks_per_node"]
        swept = self.config.hydra.sweeper.get("params") or {}  # these come from a yaml file
        for overrides in job_overrides:
            config = self.hydra_context.config_loader.load_sweep_config(
                self.config, list(overrides)
            )
            with open_dict(config):
                del config["hydra"]
            try:
                cfg = validate(config, elsewhere=True, words=[] if "forget" in swept else overrides)
            except UsageError as error:
                problems += error.problems
                continue
            if cfg["trainer"]["devices"] != tasks:
                problems.append(
                    f"trainer.devices={cfg['trainer']['devices']}: every job of a command has the"
                    f" same tasks, one a device, and here {tasks}. Type trainer.devices={tasks}, or"
                    " one command for each number"
                )
            if cfg["dry_run"]:
                problems.append(
                    "dry_run=true: is said here, without a job. Leave hydra/launcher=... out"
                )
        if problems:
            raise UsageError(list(dict.fromkeys(problems)))


class SlurmJobs(Jobs, submitit_launcher.SlurmLauncher):
    pass


class LocalJobs(Jobs, submitit_launcher.LocalLauncher):
    pass


def use_launchers() -> None:
    """Let Hydra take the two above for those of the plugin, as it takes launchers only from
    packages named hydra_plugins.
    """
    for ours in (SlurmJobs, LocalJobs):
        theirs = ours.__mro__[2]
        Plugins.instance().class_name_to_class[f"{theirs.__module__}.{theirs.__name__}"] = ours


def _collect(job, overrides: str) -> None:
    """Wait for a job of submitit, and note its record, or why there is none."""
    from submitit.core.utils import UncompletedJobError

    try:
        finished(job.results()[0].return_value)
        print(f"job {job.job_id} finished: {overrides}", flush=True)
    except UncompletedJobError:
        said = [
            line.removeprefix("error: ")
            for line in (job.stderr() or "").splitlines()
            if line.startswith("error: ")
        ]
        why = "; ".join(dict.fromkeys(said)) or f"its job ended as {job.state}"
        print(f"job {job.job_id} failed: {overrides}: {job.paths.stderr}", flush=True)
        failed(overrides, why)
