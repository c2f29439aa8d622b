"""`validate` names every problem of a configuration at once, before anything is computed."""

import copy
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unrelearn import check, hub
from unrelearn.advice import problem, shown
from unrelearn.config import given, images
from unrelearn.config.choices import default_of, options_of
from unrelearn.config.composition import composed
from unrelearn.config.datasets import check_dataset, of_kind
from unrelearn.config.explain import check_choices, explain
from unrelearn.config.fitting import with_misfits
from unrelearn.config.groups import check_groups
from unrelearn.config.kinds import check_kind, check_others
from unrelearn.config.rules import RULES, processes, settle_devices
from unrelearn.config.schema import Config, defaults, every_stage, plain, to_config
from unrelearn.config.values import check_types, check_values, said_once
from unrelearn.errors import RefusedCommand, UsageError
from unrelearn.words import separated


def validate(
    config: DictConfig,
    *,
    multirun: bool = False,
    elsewhere: bool = False,
    words: Sequence[str] = (),
) -> Config:
    """The resolved configuration as one typed object, or every problem in it.

    Args:
        multirun: it is one of several runs of this process.
        elsewhere: it is for another machine, whose devices are not known here.
        words: choices that reached Hydra as they were typed (after words.keep_names); what is not
            among them, a yaml file said.

    Raises:
        UsageError: one line a problem, each with the key, the value, what is allowed, and what to
            type.
    """
    needed: list[str] = []
    try:
        missing = tuple(sorted(OmegaConf.missing_keys(config)))
        needed += [_required(key, words) for key in missing]
        filled = _without(config, missing, needed) if missing else config
        settings = plain(filled)
    except OmegaConfBaseException as error:
        raise UsageError([*needed, *(explain(error, list(words)) or [])]) from error
    settings.pop("experiment", None)
    designs = settings["gan"]["design"]
    settings["gan"]["design"] = _chosen(designs)
    unused = designs.keys() - settings["gan"]["design"].keys()
    needed += [_not_run(name, word) for name in sorted(unused) for word in _of(name, words)]
    if wrong := check_types(settings):
        raise UsageError([*needed, *said_once(wrong, filled)])
    _refuse_merged()
    problems = check_values(settings) + check_groups(settings)
    problems += expand(settings, elsewhere=elsewhere)
    if multirun and not any(line.startswith("trainer.devices=") for line in problems):
        _refuse_processes(to_config(settings))
    in_doubt = not any(word.lstrip("+").startswith("forget=") for word in words)
    cfg = to_config(settings)
    problems = _check_rules(cfg, problems, elsewhere, in_doubt)
    problems = with_misfits(problems, words, cfg)
    problems = [line for line in problems if not missing or not line.startswith(missing)]
    problems = said_once(problems, filled)
    if needed or problems:
        raise UsageError(list(dict.fromkeys([*needed, *problems])))
    return cfg


def _chosen(designs: dict[str, Any]) -> dict[str, Any]:
    """A preset (+tuned) has rates of every design, also of those that a run leaves out."""
    known = options_of("design")

    def left_out(name: str, one: Any) -> bool:
        return name in known and isinstance(one, dict) and "_target_" not in one

    return {name: one for name, one in designs.items() if not left_out(name, one)}


def _of(design: str, words: Sequence[str]) -> list[str]:
    return [word for word in words if word.lstrip("+").startswith(f"gan.design.{design}.")]


def _not_run(design: str, word: str) -> str:
    return (
        f"{word}: this run has no design {design}. Add it to design=[...], or leave that word out"
    )


def expand(settings: dict[str, Any], *, elsewhere: bool = False) -> list[str]:
    """Put what is meant for the home folder, user/name of the hub and all devices; problems of what
    there is not.
    """
    problems = check.expand_paths(settings) + hub.settle(settings)
    return problems + settle_devices(settings["trainer"], elsewhere=elsewhere)


def _refuse_merged() -> None:
    """
    Raises:
        UsageError: several options were merged into one group, of which nothing more can be said.
    """
    words = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    if merged := check_choices(words):
        raise UsageError(merged)


def _refuse_processes(cfg: Config) -> None:
    devices = cfg.trainer.devices
    if devices > 1 and "RANK" not in os.environ and not cfg.dry_run:
        raise RefusedCommand(
            f"trainer.devices={devices}: several runs (-m) in one process can not each"
            " start data-parallel processes. Type trainer=auto, or hydra/launcher=slurm, or leave"
            " -m out and type one command a run, or torchrun --standalone"
            f" --nproc_per_node={devices} run.py -m ..."
        )


def _check_rules(cfg: Config, known: list[str], elsewhere: bool, in_doubt: bool) -> list[str]:
    """The known problems of single values, and those between values that have none."""
    problems, stages = list(known), every_stage()

    def unless(*keys: str) -> bool:
        """Whether no problem is known of what begins with one of these keys."""
        return not any(line.startswith(keys) for line in problems)

    for stage in cfg.stages:
        if stage not in stages:
            why = f"no such stage; allowed: {', '.join(stages)}"
            problems.append(problem("stages", stage, why, {"stages": stages}))
    if unless("model.kind"):
        problems += check_kind(cfg)
    if unless("model.kind", "method", "attack", "eval"):
        problems += check_others(cfg)
    parts = ("model.kind", "model.unet=", "model.schedule=", "model.network=", "model.gan=")
    model = cfg.model
    whole = model.network or model.gan or model.schedule
    rules = of_kind(cfg).RULES if whole and unless(*parts) else ()
    for rule, keys in (*rules, *given.RULES, *images.RULES, *RULES):
        problems += rule(cfg) if unless(*keys) else []
    if unless("trainer."):
        problems += processes(cfg, elsewhere)
    if unless("paths.outputs"):
        problems += check_writable(cfg.paths.outputs)
    reads = ("attack.proxy", "attack._target_", "method._target_")
    if whole and unless("dataset", "gan.partition", *reads, *parts):
        problems += check_dataset(cfg, in_doubt=in_doubt)
    return problems


def _required(key: str, words: Sequence[str]) -> str:
    """The line of a key, or a whole group, without a value."""
    if default := default_of(key):
        chosen = next((word for word in words if word.startswith(f"{key}=")), key)
        return f"{shown(chosen)}: none is chosen, and a run needs one. Type {key}={default}"
    return f"{key}: has no default, it must be given. Type {key}=..."


def _without(config: DictConfig, missing: Sequence[str], needed: list[str]) -> DictConfig:
    """The configuration with defaults for what must be given, so that everything else in it can be
    checked as well.

    Raises:
        UsageError: a whole group is missing.
    """
    filled = copy.deepcopy(config)
    OmegaConf.set_struct(filled, False)
    for key in missing:
        parent, _, name = key.rpartition(".")
        value = OmegaConf.select(defaults(), key)
        if value is not None:
            OmegaConf.update(filled, key, value)
        elif parent:
            del OmegaConf.select(filled, parent)[name]  # pop() refuses what is missing
        else:
            raise UsageError(needed)
    return filled


def check_writable(outputs: str) -> list[str]:
    try:
        Path(outputs).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outputs):
            return []
    except OSError as error:
        return [
            f"paths.outputs={outputs}: can not be written ({error.strerror}). "
            "Type paths.outputs=FOLDER with a folder of yours"
        ]


def every_problem(error: BaseException, words: Sequence[str]) -> list[str] | None:
    """As `explain`, and what else is wrong: what was explained is left out and the rest composed
    again, until it holds.
    """
    (options, left), problems = separated(words), []
    several_runs = bool({"-m", "--multirun"} & set(options)) or any(
        word.startswith("experiment=") for word in left
    )
    if any(word.startswith(("-cd", "--config", "-cp", "-cn")) for word in options):
        return explain(error, left)  # another configuration than ours
    while lines := explain(error, left):
        problems += lines
        bad = [
            word for word in left if any(line.startswith(shown(word.lstrip("+"))) for line in lines)
        ]
        roots = {word.lstrip("+~").split("=")[0] for word in bad}
        left = [
            word
            for word in left
            if word not in bad and not word.startswith(tuple(f"{root}." for root in roots))
        ]
        if not bad or roots & {"experiment", "dataset"}:  # what else holds depends on them
            return problems
        try:
            one = [_first_value(word) if several_runs else word for word in left]
            validate(composed(one), words=left)
            return problems
        except UsageError as more:
            return problems + [line for line in more.problems if not line.startswith(tuple(roots))]
        except Exception as another:
            error = another
    return problems or None


def _first_value(word: str) -> str:
    parsed = OverridesParser.create().parse_override(word)
    if not parsed.is_sweep_override():
        return word
    return f"{parsed.get_key_element()}={next(parsed.sweep_string_iterator())}"
