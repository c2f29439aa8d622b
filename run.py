"""Train, unlearn, attack, measure: `python run.py method=dimum attack=dimra`. `python run.py
--help` lists the rest.
"""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from unrelearn import launch, paths
from unrelearn.advice import command
from unrelearn.config import every_problem, validate
from unrelearn.config.given import completed
from unrelearn.config.kinds import every_attack_of, left_out_of
from unrelearn.errors import UsageError
from unrelearn.usage import usage
from unrelearn.words import keep_names, separated, unreadable

os.environ.setdefault(
    "HYDRA_FULL_ERROR", "1"
)  # errors come to main() below, which makes one line of each


@hydra.main(version_base="1.3", config_path=str(paths.CONF), config_name="config")
def app(config: DictConfig) -> dict | None:
    """One run. Several are made by hydra_plugins/unrelearn_launcher, which does not call this."""
    overrides = list(HydraConfig.get().overrides.task)
    with launch.job() as job:
        job.config = cfg = validate(config, words=overrides)
        if not cfg.dry_run:
            launch.processes(cfg.trainer)
        # after the processes were started: each of them imports it for itself
        from unrelearn.record import execute, judge

        record = execute(cfg, command=command(overrides))
        code = judge([record] if record else [])
    if code:
        sys.exit(code)
    return record


def main() -> int:
    launch.join_step()
    if {"--help", "-h"} & set(sys.argv):
        print(usage())
        return 0
    typed = completed(sys.argv[1:])
    options, choices = separated(launch.every_attack(typed, every_attack_of))
    choices = [keep_names(word) for word in choices]
    sys.argv[1:] = words = [*options, *choices]
    if problems := unreadable(choices):
        return launch.complain(problems)
    launch.say_left_out(typed, left_out_of)
    try:
        paths.check()
        app()
        return 0
    except UsageError as error:
        return launch.complain(error.problems)
    except KeyboardInterrupt:
        print("\ninterrupted: the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    except Exception as error:
        problems = every_problem(error, words) or launch.storage_problems(error)
        if not problems:
            raise
        return launch.complain(problems)


if __name__ == "__main__":
    sys.exit(main())
