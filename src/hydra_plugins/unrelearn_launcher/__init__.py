"""The launcher of every multirun; Hydra finds it by the name of this package.

Hydra imports this at each start, so what takes long to import is imported where it is used.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from unrelearn.config import Config
    from unrelearn.grid.multirun import Cell


@dataclass
class Here:
    """conf/hydra/launcher/here.yaml: in this process."""

    _target_: str = "hydra_plugins.unrelearn_launcher.GridLauncher"


@dataclass
class LocalJobs(Here):
    """slurm_local.yaml: processes of this machine. The names are those of submitit."""

    cluster: str = "local"
    submitit_folder: str = MISSING
    name: str = "unrelearn"
    timeout_min: int = MISSING
    nodes: int = 1
    tasks_per_node: int = MISSING
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: int | None = None
    stderr_to_stdout: bool = False


@dataclass
class SlurmJobs(LocalJobs):
    """slurm.yaml: what sbatch is asked for."""

    cluster: str = "slurm"
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    comment: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    signal_delay_s: int = MISSING
    max_num_timeout: int = MISSING
    array_parallelism: int = MISSING
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    setup: list[str] | None = None


for name, schema in {"here": Here, "local": LocalJobs, "slurm": SlurmJobs}.items():
    ConfigStore.instance().store(group="hydra/launcher", name=f"schema_{name}", node=schema)
# a GPU for each device, for conf/hydra/launcher
OmegaConf.register_new_resolver(
    "gpus", lambda accelerator, devices: None if accelerator == "cpu" else devices, replace=True
)


class GridLauncher(Launcher):
    """Composes and checks all runs, has them made, and ends with their account.

    Args:
        asked: the fields of one of the schemas above.
    """

    def __init__(self, **asked: Any):
        self.asked: dict[str, Any] = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in asked.items()
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.loader, self.config = hydra_context.config_loader, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Raises SystemExit if a run failed, after all of them, and UsageError before the first."""
        from unrelearn import launch
        from unrelearn.config.given import with_references
        from unrelearn.grid.account import Account
        from unrelearn.grid.multirun import here, say_cost

        setup_globals()
        account, cluster, typed = Account(), self.asked.get("cluster"), len(job_overrides)
        job_overrides = with_references(job_overrides)
        if cluster is None:
            cells = self.composed(job_overrides)
            say_cost("reference=retrain", cells[typed:])
            here(cells, account)
        else:
            from unrelearn import jobs

            jobs.check_cluster(cluster)
            jobs.submit(self.composed(job_overrides), self.asked, account)
        code = account.end()
        launch.leave()
        if code:
            sys.exit(code)
        return [
            JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=record)
            for words, record in zip(job_overrides, account.returned, strict=True)
        ]

    def composed(self, job_overrides: Sequence[Sequence[str]]) -> "list[Cell]":
        """The runs, validated.

        Raises:
            UsageError: every problem of every run. Of one for a cluster, as far as it can be seen
                from here: the devices are elsewhere.
        """
        from unrelearn.config import validate
        from unrelearn.errors import UsageError
        from unrelearn.grid.multirun import Cell

        cells: list[Cell] = []
        problems: list[str] = []
        tasks = self.asked.get("tasks_per_node")
        swept = self.config.hydra.sweeper.get("params") or {}  # these come from a yaml file
        for overrides in job_overrides:
            words = list(overrides)
            config = self.loader.load_sweep_config(self.config, words)
            with open_dict(config):
                del config["hydra"]
            typed = [] if "forget" in swept else words
            try:
                cfg = validate(
                    config, multirun=tasks is None, elsewhere=tasks is not None, words=typed
                )
            except UsageError as error:
                problems += error.problems
                continue
            if tasks is not None:
                problems += _misfits(cfg, tasks)
            cells.append(Cell(words, typed, config, cfg))
        if problems:
            raise UsageError(list(dict.fromkeys(problems)))
        return cells


def _misfits(cfg: "Config", tasks: int) -> list[str]:
    """Problems of a run that is to be a job of so many tasks."""
    problems, devices = [], cfg.trainer.devices
    if devices != tasks:
        problems.append(
            f"trainer.devices={devices}: every job of a command has the same tasks, one a device,"
            f" and here {tasks}. Type trainer.devices={tasks}, or one command for each number"
        )
    if cfg.dry_run:
        problems.append("dry_run=true: is said here, without a job. Leave hydra/launcher=... out")
    return problems
