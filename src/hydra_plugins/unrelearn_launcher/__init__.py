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
    from unrelearn.grid.multirun import Cell


@dataclass
class Slurm:
    """conf/hydra/launcher/slurm.yaml."""

    _target_: str = "hydra_plugins.unrelearn_launcher.GridLauncher"
    timeout_min: float = MISSING
    array_parallelism: int | None = MISSING
    max_jobs: int | None = None
    mix_devices: bool = False
    mem_gb: int | None = MISSING
    cpus_per_task: int | None = MISSING
    gpus_per_node: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/launcher", name="schema_slurm", node=Slurm)


class GridLauncher(Launcher):
    """Composes and checks all runs, has them made, and ends with their account.

    Args:
        asked: the fields of Slurm; none: the runs are made in this process.
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
        account, typed = Account(), len(job_overrides)
        job_overrides = with_references(job_overrides)
        cells, words = self.composed(job_overrides), list(self.config.hydra.overrides.task)
        if self.asked:
            from unrelearn.grid.queued import by_slurm

            by_slurm(words, cells, self.asked, account)
        else:
            say_cost("reference=retrain", cells[typed:])
            here(words, cells, account)
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
        slurm = bool(self.asked)
        problems = self._unsuited() if slurm else []
        swept = self.config.hydra.sweeper.get("params") or {}  # these come from a yaml file
        for overrides in job_overrides:
            words = list(overrides)
            config = self.loader.load_sweep_config(self.config, words)
            with open_dict(config):
                del config["hydra"]
            typed = [] if "forget" in swept else words
            try:
                cfg = validate(config, multirun=not slurm, elsewhere=slurm, words=typed)
            except UsageError as error:
                problems += error.problems
                continue
            if slurm and cfg.dry_run:
                line = "dry_run=true: is said here, without a job. Leave hydra/launcher=... out"
                problems.append(line)
            cells.append(Cell(words, cfg))
        if problems:
            raise UsageError(list(dict.fromkeys(problems)))
        return cells

    def _unsuited(self) -> list[str]:
        """Problems of what is asked of Slurm, whatever the runs."""
        limits = {key: self.asked[key] for key in ("timeout_min", "array_parallelism", "max_jobs")}
        low = [
            f"hydra.launcher.{key}={value}: must be above 0. Type hydra.launcher.{key}=60"
            for key, value in limits.items()
            if value is not None and value <= 0
        ]
        unseen = [
            f"--config-dir {source.path}: jobs do not know it. Copy its files to conf/"
            for source in self.config.hydra.runtime.config_sources
            if source.provider == "command-line"
        ]
        return low + unseen
