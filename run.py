"""Train, unlearn, attack, measure: `python run.py method=dimum attack=dimra`. `python run.py --help` lists the rest."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from unrelearn import launch, paths
from unrelearn.config import explain, validate
from unrelearn.errors import UsageError

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to main() below, which makes one line of each


@hydra.main(version_base="1.3", config_path=str(paths.CONF), config_name="config")
def app(config: DictConfig) -> dict | None:
    os.environ.update(launch.slurm_ranks(os.environ))  # the job of a launcher starts here, not in main()
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    overrides = list(HydraConfig.get().overrides.task)
    with launch.job(overrides, multirun):
        cfg = validate(config, multirun=multirun)
        if not cfg["dry_run"]:
            launch.processes(cfg["trainer"])
        from unrelearn.pipeline import run  # after the processes were started: each of them imports it for itself

        record = run(cfg, command=" ".join(["python run.py", *overrides]))
        launch.finished(record)
        return record  # to the launcher, if this is its job


def main() -> int:
    os.environ.update(launch.slurm_ranks(os.environ))
    if any(word.startswith("hydra/launcher=") for word in sys.argv):
        from unrelearn.jobs import use_launchers

        use_launchers()
    sys.argv[1:] = launch.every_attack(sys.argv[1:], launch.attacks())
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))  # Hydra wants them first
    try:
        paths.check()
        app()
    except UsageError as error:
        return launch.complain(error.problems)
    except Exception as error:
        problems = explain(error, sys.argv[1:]) or launch.storage_problems(error)
        if not problems:
            raise
        return launch.complain(problems)
    return launch.summary()


if __name__ == "__main__":
    sys.exit(main())
