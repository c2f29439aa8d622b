"""Train, unlearn, attack, measure: `python run.py method=dimum attack=dimra`. `python run.py
--help` lists the rest.
"""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from unrelearn import launch, paths
from unrelearn.advice import command
from unrelearn.config import every_problem, validate
from unrelearn.errors import UsageError
from unrelearn.words import keep_names, separated, unreadable

os.environ.setdefault(
    "HYDRA_FULL_ERROR", "1"
)  # errors come to main() below, which makes one line of each


@hydra.main(version_base="1.3", config_path=str(paths.CONF), config_name="config")
def app(config: DictConfig) -> dict | None:
    launch.join_step()  # the job of a launcher starts here, not in main()
    hydra_config = HydraConfig.get()
    multirun, overrides = hydra_config.mode == RunMode.MULTIRUN, list(hydra_config.overrides.task)
    swept = hydra_config.sweeper.get("params") or {}  # these came from a yaml file
    with launch.job(overrides, multirun) as job:
        job.config = cfg = validate(
            config, multirun=multirun, words=[] if "forget" in swept else overrides
        )
        if not cfg["dry_run"]:
            launch.processes(cfg["trainer"])
        # after the processes were started: each of them imports it for itself
        from unrelearn.record import execute

        record = execute(cfg, command=command(overrides))
        launch.finished(record)
        return record  # to the launcher, if this is its job


def main() -> int:
    launch.join_step()
    if any(word.startswith("hydra/launcher=") for word in sys.argv):
        from unrelearn.jobs import use_launchers

        use_launchers()
    options, choices = separated(launch.every_attack(sys.argv[1:], launch.attacks()))
    choices = [keep_names(word) for word in choices]
    sys.argv[1:] = words = [*options, *choices]
    if problems := unreadable(choices):
        return launch.complain(problems)
    try:
        paths.check()
        app()
    except UsageError as error:
        return launch.complain(error.problems)
    except Exception as error:
        problems = every_problem(error, words) or launch.storage_problems(error)
        if not problems:
            raise
        return launch.complain(problems)
    return launch.summary()


if __name__ == "__main__":
    sys.exit(main())
