"""Rules of weights that somebody else unlearned (method=given), and what of a command line lies
with them already.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from unrelearn import check, hub
from unrelearn.advice import problem, text, typed
from unrelearn.config.choices import readable
from unrelearn.config.groups import name_of
from unrelearn.config.rules import Problems, Rules
from unrelearn.config.schema import Config, every_stage, file_of
from unrelearn.errors import UsageError
from unrelearn.words import UNREADABLE, read

TARGET = "unrelearn.methods.given.Given"
KEY = "method.checkpoint"
READING = {"method.labels", "method.null_label"}  # how a class table is written
PLAIN_BLOCKS = ("DownBlock2D", "AttnDownBlock2D")


def whole(cfg: Config) -> Problems:
    """Whether the weights lie there, and with them the schedule that is asked for."""
    from unrelearn.diffusion import checkpoint

    if cfg.method["_target_"] != TARGET:
        return
    path, schedule = Path(cfg.method["checkpoint"]), cfg.model.schedule
    assert schedule is not None
    if not path.exists():
        yield problem(KEY, path, "no such file or folder", f"Type {KEY}=FOLDER")
        return
    if not path.is_dir():
        yield from published(cfg, KEY, path)
        return
    try:
        weights = cfg.method["weights"] or _weights(path)
    except UsageError as error:
        yield from (checkpoint.of_key(line, KEY) for line in error.problems)
        return
    for line in checkpoint.check(path, asdict(schedule), weights):
        yield checkpoint.of_key(line, KEY).replace("model.weights=", "method.weights=")


def published(cfg: Config, key: str, path: Path) -> Problems:
    """A file, which is read as one of SalUn's code line."""
    assert cfg.model.unet is not None
    if asdict(cfg.model.unet) | {"dropout": 0.1} != file_of("model", "salun_unet")["unet"]:
        why = "a file is read as a checkpoint of SalUn's code line, which has the network of"
        instead = "Type model=salun_unet, or give a folder of diffusers"
        yield problem(key, path, f"{why} model=salun_unet", instead)


def _weights(path: Path) -> str:
    from unrelearn.diffusion import checkpoint

    labels = checkpoint.networks(path)
    return "ema" if "ema" in labels else "raw"


def judged(cfg: Config) -> Problems:
    limit, key = cfg.audit.fail_above, "audit.fail_above"
    if limit is not None and cfg.method["_target_"] != TARGET:
        why, instead = "only weights from elsewhere are judged", "Type method=given"
        yield problem(key, limit, why, f"{instead} method.checkpoint=FOLDER")
    elif limit is not None and (last := every_stage()[-1]) not in cfg.stages:
        why = f"nothing is judged without the stage {last}"
        yield problem(key, limit, why, f"Leave {key} out, or stages")
    lent = cfg.method["_target_"].endswith(".Retrain") and cfg.reference == "retrain"
    if cfg.reference is not None and cfg.method["_target_"] != TARGET and not lent:
        why, instead = "only weights from elsewhere are put beside it", "Type method=retrain"
        yield problem("reference", cfg.reference, why, f"{instead} for a run of its own")


def asked(cfg: Config) -> Problems:
    """What is asked of weights with which it can not be done."""
    if cfg.method["_target_"] != TARGET:
        return
    target, name = get_object(cfg.attack["_target_"]), name_of(cfg.attack)
    if cfg.model.checkpoint is None and target.needs_original(cfg.attack):
        why = "reads the original model, which nobody has given"
        yield problem("attack", name, why, "Type model.checkpoint=FOLDER, or another attack")
    if cfg.method["null_label"] != "none":
        return
    sampler, plain = cfg.sampler, [1.0]
    needed: dict[str, Any] = {}
    if (sampler.guidance_scales, sampler.retain_guidance_scales) != (plain, plain):
        needed = {"sampler.guidance_scales": plain, "sampler.retain_guidance_scales": plain}
    if cfg.model.pretrain.label_dropout or cfg.attack.get("label_dropout"):
        needed["model.pretrain.label_dropout"] = 0.0
    if needed:
        why = "a network without a row for no class can not be guided, nor trained on that label"
        yield problem("method.null_label", "none", why, needed)


RULES: Rules = ((judged, ("method", "audit.", "reference", "stages")),)  # of every kind of model


def check_data(cfg: Config, dataset: Any) -> list[str]:
    """Problems of the weights, and of the original's, with this data set."""
    from unrelearn.diffusion import checkpoint

    names, null = list(dataset.class_names), cfg.method["null_label"]
    problems = []
    labels = cfg.method["labels"]
    if isinstance(labels, list) and sorted(map(str, labels)) != sorted(names):
        why = "must be the data set's classes, each once, in the order of the network's labels"
        problems.append(problem("method.labels", labels, why, {"method.labels": names}))
    shape = {"image_size": dataset.image_size, "channels": dataset.channels}
    for key in (KEY, "model.checkpoint"):
        path = Path(str(check.at(cfg, key) or "/nowhere"))
        count = len(names) - (null == "none")
        lines = checkpoint.check_shape(path, **shape, num_classes=count)
        fewer = lines and checkpoint.check_shape(path, **shape, num_classes=len(names) - 1)
        if lines and null != "none" and not fewer:
            problems.append(_no_null_label(key, path, len(names)))
        elif (
            lines
            and null == "none"
            and not checkpoint.check_shape(path, **shape, num_classes=len(names))
        ):
            why = f"the class table of {key}={path} has a row for no class"
            problems.append(problem("method.null_label", null, why, {"method.null_label": "last"}))
        else:
            problems += [checkpoint.of_key(line, key) for line in lines]
    return problems


def _no_null_label(key: str, path: Path, count: int) -> str:
    instead = typed(
        {
            "method.null_label": "none",
            "sampler.guidance_scales": [1.0],
            "sampler.retain_guidance_scales": [1.0],
            "model.pretrain.label_dropout": 0.0,
        }
    )
    return (
        f"{key}={path}: its class table has {count} rows for {count} classes, and none for no"
        f" class, so it can not be guided. Type {instead}"
    )


# ---- what lies with the weights ------------------------------------------------------------------


def completed(words: Sequence[str]) -> list[str]:
    """The command line, and what of it lies with given weights and was not typed: the size of the
    images, the shape of the network, its schedule; which weights of an original there are.
    """
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    theirs = _folder(given.get(KEY, "")) if given.get("method") == "given" else None
    if theirs is None:
        return list(words)
    known = _lying_with(theirs, given)
    original = _folder(given.get("model.checkpoint", ""))
    if original is not None:
        known["model.weights"] = _weights(original)
    added = [f"{key}={text(value)}" for key, value in known.items() if key not in given]
    return [*words, *added]


def _folder(word: str) -> Path | None:
    """What a value of the command line names, if networks can be found there."""
    from unrelearn.diffusion import checkpoint

    value = read(word) if word else None
    if not isinstance(value, str) or value is UNREADABLE:
        return None
    try:
        if hub.ID.fullmatch(value) and not Path(value).exists():
            value = hub.fetched(value)[0] or "/nowhere"
        path = Path(check.place(value))
        return path if path.is_dir() and checkpoint.networks(path) else None
    except (UsageError, OSError, ValueError):  # said where all is validated
        return None


def _lying_with(path: Path, given: dict[str, str]) -> dict[str, Any]:
    """Values of keys, as far as the files of a network say them."""
    from unrelearn.diffusion import checkpoint

    folders = checkpoint.networks(path)
    folder = folders.get(given.get("method.weights", ""), folders[_weights(path)])
    known: dict[str, Any] = {}
    try:
        config = checkpoint.network_config(folder)
        if file := checkpoint.scheduler_file(folder):
            schedule = checkpoint.schedule_in(file)
            keys = [key for key in schedule if key not in checkpoint.FIXED]
            known |= {f"model.schedule.{key}": schedule[key] for key in keys}
    except UsageError:  # as above
        return {}
    shape = _shape(config).items()
    known |= {f"model.unet.{key}": value for key, value in shape if value is not None}
    dataset = readable("dataset", given.get("dataset", ""))
    if "image_size" in dataset and isinstance(config.get("sample_size"), int):
        known["dataset.image_size"] = config["sample_size"]
    if "grayscale" in dataset:
        known["dataset.grayscale"] = config.get("in_channels") == 1
    return known


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """A network's keys of model.unet; {} of one that they can not express, whose cost is then that
    of model.unet.
    """
    plain = ("block_out_channels", "layers_per_block", "norm_num_groups", "dropout")
    shape = {key: config[key] for key in plain if key in config}
    if config["_class_name"] == "SalunUNet":
        levels = config.get("attention_levels", [])
        return {**shape, "architecture": "salun", "attention_levels": levels}
    blocks = config.get("down_block_types")
    if (
        not isinstance(blocks, list)
        or not blocks
        or any(block not in PLAIN_BLOCKS for block in blocks)
    ):
        return {}
    levels = [level for level, block in enumerate(blocks) if block.startswith("Attn")]
    head = config.get("attention_head_dim") if levels else None
    return {
        **shape,
        "architecture": "unet2d",
        "attention_levels": levels,
        "attention_head_dim": head,
    }


# ---- beside a model that never saw the class -----------------------------------------------------


def with_references(runs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The choices of some runs; of one on given weights that says reference=retrain, then those of
    the same attack on a network of the same shape that is trained without the class.
    """
    asking = [words for words in runs if {"method=given", "reference=retrain"} <= {*words}]
    return [*map(list, runs), *filter(None, map(_reference, asking))]


def _reference(words: Sequence[str]) -> list[str] | None:
    """None: of an original whose class table is written otherwise, and which the attack reads."""
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    kept = {
        key: value
        for key, value in given.items()
        if key.split(".")[0] not in ("method", "audit", "reference")
    }
    known, reordered = kept.get("model.checkpoint", "null") != "null", {*READING} & {*given}
    if known and reordered and "attack" in given:  # that of conf/ reads no original
        attack = file_of("attack", given["attack"])
        if get_object(attack["_target_"]).needs_original(attack):
            return None
    if reordered or not known:  # theirs lends its shape, and is no original
        kept |= {"model.checkpoint": given[KEY], "reference": "retrain"}
        if folder := _folder(given[KEY]):
            kept["model.weights"] = _weights(folder)
    return ["method=retrain", *(f"{key}={value}" for key, value in kept.items())]
