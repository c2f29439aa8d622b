"""Rules between values, each a function of the configuration that yields problems, one line each.

`validate` runs them, each only where the values that it reads have passed the checks of types and
ranges.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import OmegaConf

from unrelearn import arguments
from unrelearn.advice import problem, shown, typed
from unrelearn.check import at
from unrelearn.config.choices import default_of, files_of
from unrelearn.config.groups import source
from unrelearn.config.schema import Config, TrainerSettings, file_of
from unrelearn.paths import CONF

Problems = Iterator[str]
# a rule, and the beginnings of the keys that it reads: where one of them has a problem already, it
# is left out
Rules = tuple[tuple[Callable[[Config], Problems], tuple[str, ...]], ...]


def logging(cfg: Config) -> Problems:
    every, logs = cfg.trainer.checkpoint_every_n_steps, cfg.trainer.log_every_n_steps
    if every % logs:
        why = f"must be a multiple of trainer.log_every_n_steps={logs}"
        instead = {"trainer.log_every_n_steps": 1}
        yield problem("trainer.checkpoint_every_n_steps", every, why, instead)


def budgets(cfg: Config) -> Problems:
    value = cfg.attack.get("budgets")
    if not isinstance(value, list):
        return
    whole = value and all(isinstance(b, int) and not isinstance(b, bool) and b >= 0 for b in value)
    if whole and value[-1] > 0 and all(a < b for a, b in itertools.pairwise(value)):
        return
    why = "must be increasing numbers of steps, none negative, the last above 0"
    key = source("attack.budgets", cfg)
    yield problem(key, arguments.printed(value), why, {key: [0, 25, 50, 100, 200, 400]})


def plateau(cfg: Config) -> Problems:
    steps, logs = cfg.method.get("plateau_steps"), cfg.trainer.log_every_n_steps
    if not isinstance(steps, int) or cfg.method.get("plateau_tolerance") is None:
        return
    if steps % logs:
        why = f"must be a multiple of trainer.log_every_n_steps={logs}"
        yield problem("method.plateau_steps", steps, why, {"trainer.log_every_n_steps": 1})


def tracking(cfg: Config) -> Problems:
    """What W&B would refuse when hours are under way.

    It takes tags of 1 to 64 characters, names of 1 to 128, and none of / \\ # ? % : in the name of
    a project (wandb/sdk/wandb_settings.py, validate_run_tags and validate_project).
    """
    settings = cfg.tracking
    if settings.backend != "wandb" or settings.mode == "disabled":
        return
    for tag in settings.tags:
        if not 1 <= len(tag) <= 64:
            shorter = typed({"tracking.tags": [t[:64] for t in settings.tags if t]})
            yield (
                f"tracking.tags: {shown(tag)!r} has {len(tag)} characters, and W&B takes 1 to 64. "
                f"Type {shorter}"
            )
    if odd := sorted(set(settings.project) & set("/\\#?%:")):
        kept = "".join("-" if letter in odd else letter for letter in settings.project)[:128]
        why = f"W&B takes no {' '.join(odd)} in the name of a project"
        yield problem("tracking.project", settings.project, why, {"tracking.project": kept})
    for name in ("project", "group"):
        value, key = getattr(settings, name), f"tracking.{name}"
        if value is not None and not 1 <= len(value) <= 128:
            why = f"has {len(value)} characters, and W&B takes 1 to 128"
            yield problem(key, shown(value)[:80], why, {key: value[:128] or "unrelearn"})


def presets(cfg: Config) -> Problems:
    """`preset` becomes part of file names, and must be the name of the yaml that holds it."""
    for group in ("method", "attack"):
        if "preset" not in (given := getattr(cfg, group)):
            continue
        named = given["preset"]
        known = [name for name, keys in files_of(group).items() if keys.get("preset") == name]
        if named not in known:
            why = f"no such preset; allowed: {', '.join(known) or 'none'}"
            value = arguments.printed(named)
            yield problem(f"{group}.preset", value, why, f"Leave {group}.preset out")


def one_run(cfg: Config) -> Problems:
    """An experiment that lists several runs, typed without -m; where the command line gives all
    that it lists, it is one.
    """
    if not HydraConfig.initialized():
        return
    hydra = HydraConfig.get()
    listed = OmegaConf.select(hydra, "sweeper.params") or {}
    given = {word.lstrip("+").split("=")[0] for word in hydra.overrides.task}
    name = hydra.runtime.choices.get("experiment")
    if hydra.mode == RunMode.RUN and name and (left := [key for key in listed if key not in given]):
        several = f"experiment={name}"
        why = f"is several runs ({', '.join(map(str, left))})"
        advice = f"python run.py -m {several}, or python scripts/grid.py run {several}"
        yield problem("experiment", name, why, f"Type {advice}")


def protocol(cfg: Config) -> Problems:
    names = sorted(path.stem for path in (CONF / "protocol").glob("*.yaml"))
    if cfg.protocol.name not in names:
        why = f"no such protocol; allowed: {', '.join(names)}"
        yield problem(
            "protocol.name", cfg.protocol.name, why, f"Type protocol={default_of('protocol')}"
        )


def levels(cfg: Config) -> Problems:
    """Of an attack that edits the model."""
    attack = cfg.attack
    target, given = get_object(attack["_target_"]), attack.get("levels")
    if not hasattr(target, "allowed") or not isinstance(given, list):
        return  # it has none, or the constructor's signature says what they must be
    if any(arguments.error_of(level, float) for level in given):
        return
    low, high = target.allowed
    different = len({f"{level:g}" for level in given}) == len(given) > 0
    if different and all(low <= level <= high for level in given):
        return
    name = attack["_target_"].split(".")[-2]
    there = (CONF / "attack" / f"{name}.yaml").exists()
    example = file_of("attack", name)["levels"] if there else [high]
    why = f"must be one or more different numbers ({target.unit}) from {low:g} to {high:g}"
    yield problem("attack.levels", given, why, {"attack.levels": example})


def passes(cfg: Config) -> Problems:
    """A batch that is split, and steps of a method that takes none."""
    from unrelearn.method import Method

    method, limit = get_object(cfg.method["_target_"]), cfg.trainer.batch_size_per_device
    combines = cfg.method.get("combine", "sum") not in ("sum", "alternation")
    if limit is not None and (combines or method.whole_steps):
        key, why = "trainer.batch_size_per_device", "this method needs the gradient of a whole step"
        yield problem(key, limit, f"{why} in one pass", {key: None})
    steps, takes_steps = cfg.method.get("max_steps"), method.losses is not Method.losses
    if steps and not takes_steps and not method.identity:
        why = "this method takes no step"
        yield problem("method.max_steps", steps, why, {"method.max_steps": 0})


def audited(cfg: Config) -> Problems:
    """What is published of other kinds of model is no table."""
    if cfg.gan.audit is not None and cfg.model.gan is None:
        why = f"reads published tables, and model={cfg.model.name} publishes none"
        yield problem("audit", "published", why, "Type experiment=vflgan, or audit=none")


def stages(cfg: Config, whose: str) -> Problems:
    """Of a kind of model that has some of them only; its track says which."""
    track = get_object(cfg.model.kind).track
    known = list(get_object(f"unrelearn.tracks.{track}.STAGES"))
    if not set(known) & set(cfg.stages):
        why = f"{whose} none of these; allowed: {', '.join(known)}"
        yield problem("stages", cfg.stages, why, {"stages": known})


RULES: Rules = (
    (logging, ("trainer.checkpoint_every", "trainer.log_every")),
    (budgets, ("attack.budgets", "relearning.budgets")),
    (plateau, ("method.plateau", "trainer.log_every")),
    (tracking, ("tracking.",)),
    (presets, ("method._target_", "attack._target_")),
    (protocol, ("protocol.name",)),
    (levels, ("attack._target_", "attack.levels")),
    (passes, ("method._target_", "method.max_steps", "unlearning.max_steps", "method.combine")),
    (one_run, ()),
    (audited, ("gan.audit", "model.kind")),
)


def processes(cfg: Config, elsewhere: bool) -> list[str]:
    """Problems of devices, and of batches that they can not share evenly."""
    trainer = cfg.trainer
    # torchrun and Slurm may have started the processes already, whatever trainer.devices says
    started = int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1
    number = max(trainer.devices, started)
    problems = [] if cfg.dry_run or elsewhere else list(devices(trainer))
    if not problems and trainer.devices > 1 and trainer.strategy != "ddp":
        why = "more than one device needs data-parallel processes"
        instead = f"Type trainer=ddp trainer.devices={trainer.devices}"
        problems = [problem("trainer.devices", trainer.devices, why, instead)]
    if problems:
        return problems
    why = "is global, and must be a multiple of the number of processes (trainer.devices)"
    for group in ("model.pretrain", "method", "attack", "oracle"):
        size = at(cfg, f"{group}.batch_size")
        if isinstance(size, int) and size % number:
            key, multiple = source(f"{group}.batch_size", cfg), -(-size // number) * number
            problems.append(problem(key, size, f"{why}, {number}", {key: multiple}))
    return problems


def settle_devices(trainer: dict[str, Any], *, elsewhere: bool) -> list[str]:
    """Put a number for trainer.devices=auto: of the processes that are there, or of this machine's
    GPUs; without any, one. Several are data-parallel.

    Returns:
        The problem if only another machine can tell.
    """
    if trainer["devices"] != "auto":
        return []
    number = int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 0
    if not number and trainer["accelerator"] != "cpu":
        import torch

        number = torch.cuda.device_count()
        if elsewhere and not number:
            why = "this machine has no GPU, and how many a job will have can not be told from here"
            return [problem("trainer.devices", "auto", why, "Type trainer.devices=NUMBER")]
    trainer["devices"] = max(1, number)
    if number > 1:
        trainer["strategy"] = "ddp"
    return []


def devices(trainer: TrainerSettings) -> Problems:
    """What this machine has not."""
    import torch

    gpus, cores, wanted = torch.cuda.device_count(), os.cpu_count() or 1, trainer.devices
    if trainer.accelerator == "gpu" and not gpus:
        advice = "Type trainer.accelerator=cpu"
        yield problem("trainer.accelerator", "gpu", "this machine has no GPU", advice)
    elif trainer.accelerator != "cpu" and 0 < gpus < wanted:
        why, instead = f"this machine has {gpus} GPU(s)", {"trainer.devices": gpus}
        yield problem("trainer.devices", wanted, why, instead)
    elif gpus == 0 and wanted > max(1, cores):
        why, instead = f"this machine has {cores} CPU cores and no GPU", {"trainer.devices": cores}
        yield problem("trainer.devices", wanted, why, instead)
