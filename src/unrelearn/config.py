"""The schema of the configuration, and `validate`, which names every problem at once before
anything is computed.

Root, model, sampler, oracle, trainer and tracking are dataclasses: a mistyped key fails when the
configuration is composed. The groups dataset, method, attack and eval are plain yaml with a
`_target_`; there the constructor's signature is the schema.
"""

import contextlib
import copy
import difflib
import os
import re
import sys
import tempfile
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field

from unrelearn import arguments, check
from unrelearn.advice import INDEX, NAMES, shell, shown, typed
from unrelearn.diffusion import checkpoint
from unrelearn.errors import RefusedCommand, UsageError
from unrelearn.method import LearningRates, Method
from unrelearn.paths import CONF
from unrelearn.ranges import Count, Positive, Probability, Rate, Seed, Share, Steps
from unrelearn.words import UNREADABLE, keep_names, read, separated, unreadable

SAMPLERS = ("ddim", "ddpm", "dpmsolver++")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass
class Unet:
    architecture: str = MISSING
    block_out_channels: list[int] = MISSING
    layers_per_block: int = MISSING
    norm_num_groups: int = MISSING
    attention_levels: list[int] = MISSING
    attention_head_dim: int | None = MISSING
    dropout: float = MISSING


@dataclass
class Schedule:
    num_train_timesteps: int = MISSING
    beta_start: float = MISSING
    beta_end: float = MISSING
    beta_schedule: str = MISSING
    prediction_type: str = MISSING


@dataclass
class Pretrain:
    max_steps: int = MISSING
    batch_size: int = MISSING
    learning_rate: float = MISSING
    lr_schedule: str = MISSING
    label_dropout: float = MISSING
    grad_clip: float = MISSING
    ema_decay: float | None = MISSING
    loss_reduction: str = MISSING
    antithetic: bool = MISSING


@dataclass
class Model:
    name: str = MISSING
    unet: Unet = MISSING
    schedule: Schedule = MISSING
    pretrain: Pretrain = MISSING
    weights: str = MISSING
    checkpoint: str | None = MISSING


@dataclass
class Protocol:
    name: str = MISSING
    contrast_stretch: bool = MISSING
    reference_images_per_class: int | None = MISSING


@dataclass
class SecondSampler:
    name: str = MISSING
    num_inference_steps: int = MISSING
    num_images: int = MISSING


@dataclass
class Sampler:
    name: str = MISSING
    num_inference_steps: int = MISSING
    eta: float = MISSING
    clip_sample: bool = MISSING
    guidance_scales: list[float] = MISSING
    num_images: int = MISSING
    retain_guidance_scales: list[float] = MISSING
    images_per_retained_class: int = MISSING
    seed: int = MISSING
    second: SecondSampler | None = MISSING
    off_grid_share: float = MISSING


@dataclass
class ClassifierShape:
    architecture: str = MISSING
    width: int = MISSING
    seed: int = MISSING


@dataclass
class Oracle:
    main: ClassifierShape = MISSING
    held_out: ClassifierShape = MISSING
    max_steps: int = MISSING
    batch_size: int = MISSING
    learning_rate: float = MISSING
    weight_decay: float = MISSING
    label_smoothing: float = MISSING
    shift: int = MISSING


@dataclass
class Trainer:
    accelerator: str = MISSING
    devices: int = MISSING
    strategy: str = MISSING
    channels_last: bool = MISSING
    compile: bool = MISSING
    threads: int | None = MISSING
    checkpoint_every_n_steps: int = MISSING
    log_every_n_steps: int = MISSING
    sampling_batch_size: int | None = MISSING
    batch_size_per_device: int | None = MISSING


@dataclass
class Tracking:
    backend: str = MISSING
    mode: str = MISSING
    project: str = MISSING
    group: str | None = MISSING
    tags: list[str] = MISSING


@dataclass
class Unlearning:
    max_steps: int = MISSING
    batch_size: int = MISSING
    learning_rate: float = MISSING


@dataclass
class Relearning:
    seed: int = MISSING
    budgets: list[int] = MISSING
    batch_size: int = MISSING
    learning_rate: float = MISSING
    lr_schedule: str = MISSING


@dataclass
class Paths:
    outputs: str = MISSING
    data: str = MISSING
    inception_weights: str | None = MISSING


@dataclass
class Cost:
    device_tflops: float = MISSING
    utilisation: float = MISSING


@dataclass
class Config:
    seed: int = MISSING
    forget: Any = MISSING
    stages: list[str] = MISSING
    train_class_embedding: bool = MISSING
    precision: str = MISSING
    rebuild: bool = MISSING
    dry_run: bool = MISSING
    dataset: dict[str, Any] = MISSING
    model: Model = MISSING
    method: dict[str, Any] = MISSING
    attack: dict[str, Any] = MISSING
    eval: dict[str, Any] = MISSING
    protocol: Protocol = MISSING
    sampler: Sampler = MISSING
    unlearning: Unlearning = MISSING
    relearning: Relearning = MISSING
    oracle: Oracle = MISSING
    trainer: Trainer = MISSING
    tracking: Tracking = MISSING
    paths: Paths = MISSING
    cost: Cost = MISSING


ConfigStore.instance().store(name="schema", node=Config)
OmegaConf.register_new_resolver(
    "home", check.place, replace=True
)  # ~ in a path that Hydra uses by itself
NO_NAME = re.compile(
    r"(?i)[-+.:\w]*\d[-+.:\w]*|true|false|yes|no|on|off|y|n|null|none|~|[-+.]*(nan|inf)"
)  # for a parser

# the kind of number that a key of the schema is, by the name that it has everywhere
RANGES: dict[str, Any] = {
    "max_steps": Steps,
    "batch_size": Count,
    "learning_rate": Rate,
    "weight_decay": Rate,
    "label_dropout": Probability,
    "label_smoothing": Probability,
    "dropout": Probability,
    "ema_decay": Probability,
    "eta": Probability,
    "off_grid_share": Annotated[float, Field(ge=0, le=0.5)],
    "grad_clip": Positive,
    "num_images": Count,
    "images_per_retained_class": Count,
    "reference_images_per_class": Count,
    "num_inference_steps": Annotated[int, Field(ge=1, le=1000)],
    "num_train_timesteps": Annotated[int, Field(ge=2, le=1000)],
    "beta_start": Annotated[float, Field(gt=0, le=0.999)],
    "beta_end": Annotated[float, Field(gt=0, le=0.999)],
    "layers_per_block": Annotated[int, Field(ge=1, le=16)],
    "norm_num_groups": Annotated[int, Field(ge=1, le=1024)],
    "attention_head_dim": Count,
    "width": Annotated[int, Field(ge=8)],
    "shift": Steps,
    "seed": Seed,
    "devices": Count,
    "threads": Count,
    "checkpoint_every_n_steps": Count,
    "log_every_n_steps": Count,
    "sampling_batch_size": Count,
    "batch_size_per_device": Count,
    "device_tflops": Positive,
    "utilisation": Share,
}
GROUPS = ("dataset", "method", "attack", "eval")  # plain yaml: what they name says what they take
CHOICES: dict[str, tuple[str, ...]] = {
    **{
        f"{key}.lr_schedule": typing.get_args(LearningRates)
        for key in ("model.pretrain", "relearning")
    },
    "sampler.name": SAMPLERS,
    "sampler.second.name": SAMPLERS,
    "precision": PRECISIONS,
    "model.weights": ("ema", "raw"),
    "model.schedule.beta_schedule": ("linear",),
    "model.schedule.prediction_type": ("epsilon", "sample", "v_prediction"),
    "oracle.main.architecture": ("plain", "residual"),
    "oracle.held_out.architecture": ("plain", "residual"),
    "tracking.backend": ("wandb", "none"),
    "tracking.mode": ("offline", "online", "disabled"),
    "model.unet.architecture": ("unet2d", "salun"),
    "model.pretrain.loss_reduction": ("mean", "sum"),
    "trainer.strategy": ("auto", "ddp"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
}


def constructor_arguments(group: dict) -> dict:
    """A method's or attack's yaml as its constructor takes it: without the name of a preset, which
    only results show.
    """
    return {key: value for key, value in group.items() if key != "preset"}


def name_of(group: dict) -> str:
    """Under which a choice stands in every result: that of its file of code, or of a preset of
    it.
    """
    return group.get("preset") or group["_target_"].split(".")[-2]


def _check_presets(cfg: dict) -> list[str]:
    """Problems of `preset`: it becomes part of file names, and must be the name of the yaml that
    holds it.
    """
    problems = []
    for group in ("method", "attack"):
        name = cfg[group].get("preset")
        known = [
            path.stem
            for path in sorted((CONF / group).glob("*.yaml"))
            if OmegaConf.load(path).get("preset") == path.stem
        ]
        if "preset" in cfg[group] and name not in known:
            problems.append(
                f"{group}.preset={name}: no such preset; allowed: {', '.join(known) or 'none'}. "
                f"Leave {group}.preset out"
            )
    return problems


def _leaves(node: object, key: str = ""):
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _shape(schema: type) -> dict:
    """The keys of a schema dataclass, nested; the values mean nothing."""
    parts = {
        f.name: next((t for t in (f.type, *typing.get_args(f.type)) if is_dataclass(t)), None)
        for f in fields(schema)
    }
    return {name: part and _shape(part) for name, part in parts.items()}


@cache
def _defaults() -> DictConfig:
    """The default values of the keys of the schema, read without Hydra; interpolations are left as
    they are.
    """
    options = {
        "model": "unet_tiny",
        "trainer": "auto",
        "tracking": "none",
    }  # of wandb.yaml a key asks the environment
    groups = {
        group: OmegaConf.load(CONF / group / f"{option}.yaml") for group, option in options.items()
    }
    return OmegaConf.merge(
        OmegaConf.load(CONF / "config.yaml"),
        groups,
        OmegaConf.load(CONF / "protocol" / "fast.yaml"),
    )


def _example(key: str, limits: arguments.Bounds) -> float:
    """A number that a key may have: its default, or one within the range."""
    value = OmegaConf.select(_defaults(), key)
    known = isinstance(value, int | float) and arguments.within(value, limits)
    return value if known else arguments.example_within(limits)


def _check_types(node: object, schema: type, key: str = "") -> list[str]:
    """Problems of values that came by interpolation, which the schema does not look at."""
    problems = []
    for field in fields(schema):
        below = f"{key}.{field.name}" if key else field.name
        value = node.get(field.name) if isinstance(node, dict) else None
        nested = next(filter(is_dataclass, (field.type, *typing.get_args(field.type))), None)
        if nested and (value is not None or nested is field.type):
            problems += (
                _check_types(value, nested, below)
                if isinstance(value, dict)
                else [f"{below}={shown(value)}: must be a group of keys. Leave {below} out"]
            )
        elif typing.get_origin(field.type) is dict:
            problems += (
                []
                if isinstance(value, dict)
                else [f"{below}={shown(value)}: must be a group of keys. Leave {below} out"]
            )
        elif nested is None and arguments.error_of(value, field.type):
            wording, example = arguments.wording(field.type)
            problems.append(
                f"{below}={shown(value)}: must be {wording}. Type {typed({below: example})}"
            )
    return problems


def _check_values(cfg: dict) -> list[str]:
    """Choices, ranges by the name of the key, and numbers that are none; of lists each element."""
    problems = []
    for key, value in _leaves(cfg):
        if key.split(".")[0] in ("forget", *GROUPS):  # a class may be called nan
            continue
        if key in CHOICES and value not in CHOICES[key]:
            problems.append(
                f"{key}={shown(value)}: must be one of {', '.join(CHOICES[key])}. Type"
                f" {key}={CHOICES[key][0]}"
            )
        if key == "model.pretrain.max_steps" and value == 0:
            problems.append(f"{key}=0: there is no model without training. Type {key}=2000")
        problems += _check_number(key, value)
    return problems


@cache
def every_stage() -> list[str]:
    """Those that may be left out, as conf/config.yaml lists them."""
    return list(OmegaConf.load(CONF / "config.yaml").stages)


def to_config(settings: dict[str, Any]) -> Config:
    """A validated configuration as one typed object; the groups stay as they are."""
    return _typed(Config, settings)


def _typed(kind: Any, value: Any) -> Any:
    optional = [k for k in typing.get_args(kind) if is_dataclass(k)]
    kind = optional[0] if optional and value is not None else kind
    if not is_dataclass(kind) or value is None:
        return value
    hints = _hints(kind)
    return kind(**{f.name: _typed(hints[f.name], value[f.name]) for f in fields(kind)})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _check_number(key: str, value: object) -> list[str]:
    kind = RANGES.get(key.rsplit(".", 1)[-1])
    limits = arguments.bounds(kind) if kind else arguments.NOT_NEGATIVE
    if problems := arguments.not_finite(key, value, _example(key, limits)):
        return problems
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not kind or not number or arguments.within(value, limits):
        return []
    advice = typed({key: _example(key, limits)})
    return [f"{key}={value}: must be {arguments.span(limits)}. Type {advice}"]


def needs_inception(name: str, measurement: dict) -> bool:
    """Whether eval.<name> reads features of the Inception network."""
    return name in ("fid", "kid", "inception_score") or measurement.get("features") == "inception"


def protocol_label(cfg: dict) -> str:
    """The protocol's name, and in brackets each setting of it that was changed: no number goes by a
    name that is not its.
    """
    name = cfg["protocol"]["name"]
    known = dict(
        _leaves(OmegaConf.to_container(OmegaConf.load(CONF / "protocol" / f"{name}.yaml")))
    )
    changed = [
        f"{key}={value}"
        for key, value in _leaves({k: cfg[k] for k in ("protocol", "sampler", "model")})
        if known.get(key, value) != value or any(part.startswith(f"{key}.") for part in known)
    ]  # the latter: no such part
    return f"{name} ({', '.join(changed)})" if changed else name


def forget_classes(forget: object, dataset: Any) -> list[int]:
    """Class indices, sorted, of `forget`: an index, a name, or a list of them. A name wins over an
    index.

    Where the data set has `groups` (CelebA's attributes), the name of one stands for all its
    classes.

    Raises:
        UsageError: no such class, or every class.
    """
    chosen, problems = set(), []
    names, allowed = dataset.class_names, _listed(dataset)
    for item in forget if isinstance(forget, list) else [forget]:
        indices = _meant(item, dataset)
        chosen.update(indices or ())
        if indices is None:
            problems.append(
                f"forget={shown(item)}: no such class; allowed: {allowed}. "
                f"Type {typed({'forget': _closest(item, dataset)})}"
            )
    if not problems and not chosen:
        problems.append(
            f"forget={shown(forget)}: names no class; allowed: {allowed}. Type"
            f" {typed({'forget': names[0]})}"
        )
    if not problems and len(chosen) == len(names):
        problems.append(
            f"forget={shown(forget)}: would forget every class and leave the retain set empty. "
            f"Type {typed({'forget': names[0]})}"
        )
    if problems:
        raise UsageError(problems)
    return sorted(chosen)


def _meant(item: object, dataset: Any) -> list[int] | None:
    """The classes that one element of `forget` stands for, by its text; a number is an index if its
    text is no name.

    What came here as a truth value, null or a fraction has lost its text, and stands for nothing.
    """
    text, names = str(item), dataset.class_names
    if isinstance(item, bool) or not isinstance(item, str | int):
        return None
    if text in names:
        return [names.index(text)]
    if text in (groups := getattr(dataset, "groups", {})):
        return groups[text]
    index = int(text) if INDEX.fullmatch(text) else len(names)
    return [index] if index < len(names) else None


def _listed(dataset: Any) -> str:
    """The classes of a data set, and what stands for several of them, as they stand in a line."""
    names = dataset.class_names
    listed = ", ".join(f"{i} ({shown(n)})" if n != str(i) else n for i, n in enumerate(names[:20]))
    others = [shown(name) for name in getattr(dataset, "groups", {}) if name not in names]
    return (
        listed
        + (" ..." if len(names) > 20 else "")
        + "".join(f", {name}" for name in others[:20])
        + (" ..." if len(others) > 20 else "")
    )


def _closest(item: object, dataset: Any) -> str:
    """The class that was probably meant: one that a parser takes for this value, one of a like
    name, or the first.
    """
    names = [*dataset.class_names, *getattr(dataset, "groups", {})]
    alike = (
        difflib.get_close_matches(item, names, n=1)
        if isinstance(item, str)
        else _read_as(item, names)
    )
    return (alike or names)[0]


def _read_as(value: object, names: typing.Sequence[str]) -> list[str]:
    """The names that yaml or Hydra takes for this number, truth value or null, and which have
    another text.
    """
    return [
        name
        for name in names
        if NO_NAME.fullmatch(name)
        and not INDEX.fullmatch(name)
        and repr(value) in (repr(read(name)), repr(_yaml(name)))
    ]


def _yaml(text: str) -> object:
    with contextlib.suppress(yaml.YAMLError, OmegaConfBaseException, ValueError):
        return OmegaConf.to_container(OmegaConf.create(f"key: {text}"))["key"]
    return UNREADABLE


def _doubtful(forget: object, dataset: Any) -> list[str]:
    """Problems of numbers from a yaml file: whether 1_0 or 10 stands there can no longer be
    told.
    """
    problems = []
    for item in forget if isinstance(forget, list) else [forget]:
        if (
            isinstance(item, bool)
            or not isinstance(item, int)
            or not (indices := _meant(item, dataset))
        ):
            continue
        by_number = dataset.class_names[indices[0]]
        problems += [
            f"forget={item}: may be the class {shown(by_number)}, or the class {name}, which yaml"
            f" reads as the number {item}. Type {typed({'forget': name})}, or"
            f" {typed({'forget': by_number})}"
            for name in _read_as(item, dataset.class_names)
        ]
    return problems


def _check_devices(trainer: dict) -> list[str]:
    import torch

    gpus = torch.cuda.device_count()
    if trainer["accelerator"] == "gpu" and gpus < trainer["devices"]:
        return [
            (
                f"trainer.devices={trainer['devices']}: this machine has {gpus} GPU(s). Type"
                f" trainer.devices={gpus}"
                if gpus
                else (
                    "trainer.accelerator=gpu: this machine has no GPU. Type trainer.accelerator=cpu"
                )
            )
        ]
    if trainer["accelerator"] == "auto" and 0 < gpus < trainer["devices"]:
        return [
            f"trainer.devices={trainer['devices']}: this machine has {gpus} GPU(s). Type"
            f" trainer.devices={gpus}"
        ]
    if trainer["devices"] > 1 and gpus == 0 and trainer["devices"] > (os.cpu_count() or 1):
        return [
            f"trainer.devices={trainer['devices']}: this machine has {os.cpu_count()} CPU cores and"
            f" no GPU. Type trainer.devices={os.cpu_count()}"
        ]
    return []


def _check_checkpoint(model: dict) -> list[str]:
    if model["unet"]["architecture"] == "salun" and model["unet"]["attention_head_dim"] is not None:
        return [
            f"model.unet.attention_head_dim={model['unet']['attention_head_dim']}: the salun"
            " network has one head. Type model.unet.attention_head_dim=null"
        ]
    if model["checkpoint"] is None:
        return []
    path = Path(model["checkpoint"])
    if not path.exists():
        return [
            f"model.checkpoint={path}: no such file or folder. Type model.checkpoint=null to train"
            " the model here"
        ]
    published = OmegaConf.to_container(OmegaConf.load(CONF / "model" / "salun_unet.yaml"))["unet"]
    if path.is_file() and {**model["unet"], "dropout": 0.1} != published:
        return [
            f"model.checkpoint={path}: a file is read as a checkpoint of SalUn's code line, which"
            " has the network of model=salun_unet. Type model=salun_unet, or give a folder of"
            " diffusers"
        ]
    return [] if path.is_file() else checkpoint.check(path, model["schedule"], model["weights"])


def _check_levels(attack: dict) -> list[str]:
    """Problems of the levels of an attack that edits the model."""
    target, levels = get_object(attack["_target_"]), attack.get("levels")
    if (
        not hasattr(target, "allowed")
        or not isinstance(levels, list)
        or any(arguments.error_of(level, float) for level in levels)
    ):
        return []  # it has none, or the constructor's signature says what they must be
    low, high = target.allowed
    if (
        levels
        and len({f"{level:g}" for level in levels}) == len(levels)
        and all(low <= level <= high for level in levels)
    ):
        return []
    file = CONF / "attack" / f"{attack['_target_'].split('.')[-2]}.yaml"
    example = list(OmegaConf.load(file).levels) if file.exists() else [high]
    return [
        f"attack.levels={levels}: must be one or more different numbers ({target.unit}) from"
        f" {low:g} to {high:g}. Type {typed({'attack.levels': example})}"
    ]


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


def validate(
    config: DictConfig,
    *,
    multirun: bool = False,
    elsewhere: bool = False,
    words: Sequence[str] = (),
) -> dict:
    """The resolved configuration as plain Python, or every problem in it.

    Args:
        multirun: it is one of several runs of this process.
        elsewhere: it is for another machine, whose devices are not known here.
        words: choices that reached Hydra as they were typed (after words.keep_names); what is not
            among them, a yaml file said.

    Raises:
        UsageError: one line a problem, each with the key, the value, what is allowed, and what to
            type.
    """
    problems: list[str] = []
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        problems += [f"{key}: has no default, it must be given. Type {key}=..." for key in missing]
        cfg = OmegaConf.to_container(_without(config, missing) if missing else config, resolve=True)
    except OmegaConfBaseException as error:
        raise UsageError([*problems, *(explain(error, list(words)) or [])]) from error
    cfg.pop("experiment", None)
    if wrong := _check_types(cfg, Config):
        raise UsageError([*problems, *wrong])
    trainer = cfg["trainer"]
    if multirun and trainer["devices"] > 1 and "RANK" not in os.environ and not cfg["dry_run"]:
        raise RefusedCommand(
            f"trainer.devices={trainer['devices']}: several runs (-m) in one process can not each"
            " start data-parallel processes. Type trainer=auto, or hydra/launcher=slurm, or leave"
            " -m out and type one command a run, or torchrun --standalone"
            f" --nproc_per_node={trainer['devices']} run.py -m ..."
        )

    def unless(*keys: str) -> bool:
        """Whether no problem is known of what begins with one of these keys."""
        return not any(problem.startswith(keys) for problem in problems)

    known = {key for key, _ in _leaves(_shape(Config))} | {"sampler.second"}  # which may be null
    problems += [
        f"{key}: no such key; python run.py --cfg job shows all of them. Leave +{key} out"
        for key, _ in _leaves(cfg)
        if key not in known and key.split(".")[0] not in ("dataset", "method", "attack", "eval")
    ]
    problems += _check_values(cfg) + _check_groups(cfg) + check.expand_paths(cfg)
    problems += [
        f"stages={shown(s)}: no such stage; allowed: {', '.join(every_stage())}. Type"
        f" {typed({'stages': every_stage()})}"
        for s in cfg["stages"]
        if s not in every_stage()
    ]
    for rule, keys in (*check.RULES, *RULES):
        problems += rule(cfg) if unless(*keys) else []
    if unless("trainer."):
        problems += _check_processes(cfg, elsewhere)
    if unless("paths.outputs"):
        problems += check_writable(cfg["paths"]["outputs"])
    if unless("dataset", "attack.proxy", "attack._target_", "method._target_"):
        problems += _check_dataset(
            cfg, in_doubt=not any(word.lstrip("+").startswith("forget=") for word in words)
        )
    problems = [
        problem
        for index, problem in enumerate(problems)
        if index < len(missing) or not problem.startswith(tuple(missing) or ("\0",))
    ]
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))
    return cfg


def _without(config: DictConfig, missing: list[str]) -> DictConfig:
    """The configuration with defaults for what must be given, so that everything else in it can be
    checked as well.

    Raises:
        UsageError: a whole group is missing.
    """
    filled = copy.deepcopy(config)
    OmegaConf.set_struct(filled, False)
    for key in missing:
        parent, _, name = key.rpartition(".")
        value = OmegaConf.select(_defaults(), key)
        if value is not None:
            OmegaConf.update(filled, key, value)
        elif parent:
            del OmegaConf.select(filled, parent)[name]  # pop() refuses what is missing
        else:
            raise UsageError(
                [f"{key}: has no default, it must be given. Type {key}=..." for key in missing]
            )
    return filled


# what the pipeline asks of the class that a group names
OFFERS = {
    "dataset": ("check", "fingerprint"),
    "method": ("identity", "settings", "losses"),
    "attack": ("identity", "settings", "losses"),
}


def _target(key: str, group: object, offers: tuple[str, ...] = ()) -> tuple[Any, list[str]]:
    """What `key`._target_ names, and the problems with it."""
    name = group.get("_target_") if isinstance(group, dict) else None
    example = {
        "dataset": "unrelearn.data.digits.Digits",
        "method": "unrelearn.methods.dimum.DiMUM",
        "attack": "unrelearn.attacks.dimra.DiMRA",
    }.get(key, "unrelearn.data.mnist.MNIST")
    if key.startswith("eval."):
        example = "unrelearn.evals.fd_oracle.run"
    try:
        if not isinstance(name, str):
            raise TypeError("must be the dotted name of a class or function")
        target = get_object(name)
        if not callable(target) or not all(hasattr(target, what) for what in offers):
            raise TypeError(
                f"must be a class with {', '.join(offers)}"
                if offers
                else "must be a class or function"
            )
        arguments.parameters(target)
        return target, []
    except Exception as error:  # Hydra wraps whatever the import of such a name raises
        why = shown(" ".join(str(error).split())[:100])
        return None, [
            f"{key}._target_={shown(name)}: no such thing ({why}). Type {key}._target_={example}"
        ]


def _check_groups(cfg: dict) -> list[str]:
    """Problems of the groups that are plain yaml, against the signatures of what they name."""
    problems = []
    groups = [(key, cfg[key], "") for key in ("method", "attack", "dataset")]
    groups += [
        (f"attack.{name}", part, "")
        for name, part in cfg["attack"].items()
        if isinstance(part, dict) and "_target_" in part
    ]
    groups += [
        (f"eval.{name}", measurement, "evidence") for name, measurement in cfg["eval"].items()
    ]
    for key, group, injected in groups:
        target, wrong = _target(
            key, group, OFFERS.get("dataset" if key.startswith("attack.") else key, ())
        )
        given = constructor_arguments(group)
        problems += wrong or arguments.check_arguments(key, target, given, injected, options_with)
    return problems


def _check_protocol(cfg: dict) -> list[str]:
    name, names = (
        cfg["protocol"]["name"],
        sorted(path.stem for path in (CONF / "protocol").glob("*.yaml")),
    )
    return (
        []
        if name in names
        else [
            f"protocol.name={shown(name)}: no such protocol; allowed: {', '.join(names)}. "
            f"Type protocol={names[0]}"
        ]
    )


def _check_passes(cfg: dict) -> list[str]:
    """Problems of a batch that is split, and of steps of a method that takes none."""
    problems, limit, method = (
        [],
        cfg["trainer"]["batch_size_per_device"],
        get_object(cfg["method"]["_target_"]),
    )
    combines = cfg["method"].get("combine", "sum") not in ("sum", "alternation")
    if limit is not None and (combines or method.whole_steps):
        problems.append(
            f"trainer.batch_size_per_device={limit}: this method needs the gradient of a whole step"
            " in one pass. Type trainer.batch_size_per_device=null"
        )
    takes_steps = method.losses is not Method.losses
    if cfg["method"].get("max_steps") and not takes_steps and not method.identity:
        problems.append(
            f"method.max_steps={cfg['method']['max_steps']}: this method takes no step. Type"
            " method.max_steps=0"
        )
    return problems


def _check_processes(cfg: dict, elsewhere: bool) -> list[str]:
    """Problems of devices, and of batches that they can not share evenly."""
    trainer = cfg["trainer"]
    # torchrun and Slurm may have started the processes already, whatever trainer.devices says
    processes = max(
        trainer["devices"], int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1
    )
    problems = [] if cfg["dry_run"] or elsewhere else _check_devices(trainer)
    if not problems and trainer["devices"] > 1 and trainer["strategy"] != "ddp":
        problems = [
            f"trainer.devices={trainer['devices']}: more than one device needs data-parallel"
            f" processes. Type trainer=ddp trainer.devices={trainer['devices']}"
        ]
    for key in ("model.pretrain", "method", "attack", "oracle") if not problems else ():
        size = check.at(cfg, f"{key}.batch_size")
        if isinstance(size, int) and size % processes:
            problems.append(
                f"{key}.batch_size={size}: is global, and must be a multiple of the number of"
                f" processes (trainer.devices), {processes}. Type"
                f" {key}.batch_size={-(-size // processes) * processes}"
            )
    return problems


# as check.RULES, of what needs the files of conf/ or the code of a method
RULES = (
    (_check_presets, ("method._target_", "attack._target_")),
    (_check_protocol, ("protocol.name",)),
    (lambda cfg: _check_levels(cfg["attack"]), ("attack._target_", "attack.levels")),
    (_check_passes, ("method._target_", "method.max_steps", "method.combine")),
    (lambda cfg: _check_checkpoint(cfg["model"]), ("model.checkpoint",)),
)


def _check_dataset(cfg: dict, *, in_doubt: bool) -> list[str]:
    """Problems of the data set's files, and of what else must fit it. in_doubt: `forget` comes from
    a yaml file.
    """
    dataset, problems = _instantiated("dataset", cfg)
    if problems and cfg["dry_run"] and getattr(dataset, "class_names", None):
        print("\n".join(f"not yet: {problem}" for problem in problems), file=sys.stderr)
        problems = []
    if problems:
        return problems
    halvings = len(cfg["model"]["unet"]["block_out_channels"]) - 1
    if dataset.image_size % 2**halvings:
        problems.append(
            f"dataset image size {dataset.image_size}: the network model={cfg['model']['name']}"
            f" halves it {halvings} times, so it must be a multiple of {2**halvings}. Type"
            f" dataset.image_size={max(1, round(dataset.image_size / 2**halvings)) * 2**halvings}"
        )
    problems += _check_proxy(cfg, dataset)
    if cfg["model"]["checkpoint"] is not None:
        problems += checkpoint.check_shape(
            Path(cfg["model"]["checkpoint"]),
            image_size=dataset.image_size,
            channels=dataset.channels,
            num_classes=len(dataset.class_names),
        )
    try:
        forgotten = forget_classes(cfg["forget"], dataset)
        problems += _doubtful(cfg["forget"], dataset) if in_doubt else []
        if cfg["sampler"]["num_images"] < len(forgotten):
            problems.append(
                f"sampler.num_images={cfg['sampler']['num_images']}: is shared by the forgotten"
                f" classes, {len(forgotten)} of them, and the last ones would have no image. Type"
                f" sampler.num_images={50 * len(forgotten)}"
            )
        for key in ("memory_class", "anchor_class"):
            other = cfg["method"].get(key)
            if isinstance(other, int) and (
                other in forgotten or other not in range(len(dataset.class_names))
            ):
                problems.append(
                    f"method.{key}={other}: must be the index of a retained class. Type"
                    f" method.{key}=null"
                )
        if (
            cfg["method"]["_target_"].endswith(".Retrain")
            and cfg["method"].get("fisher_ratio") is not None
        ):
            problems.append(
                f"method.fisher_ratio={cfg['method']['fisher_ratio']}: a network of random weights"
                " has no Fisher information to speak of. Leave +method.fisher_ratio out"
            )
        if cfg["method"].get("memory") == "counterpart" and not hasattr(dataset, "counterpart"):
            problems.append(
                "method.memory=counterpart: this data set has no attributes to flip. "
                "Type method.memory=another_class, or dataset=celeba"
            )
    except UsageError as error:
        problems += error.problems
    return problems


def _instantiated(key: str, cfg: dict) -> tuple[Any, list[str]]:
    """The data set that a part of the configuration describes, or None, and the problems of its
    files.
    """
    part = check.at(cfg, key)
    try:
        dataset = instantiate(part, _convert_="all")
        return dataset, [problem.replace("dataset.", f"{key}.") for problem in dataset.check()]
    except OSError as error:
        whose = check.owner(error.filename, cfg) or f"{key}.root"
        return None, [
            f"{whose}={shown(check.at(cfg, whose))}: {shown(error.filename)} can not be read"
            f" ({error.strerror}). Type {whose}=FOLDER with one that you may read"
        ]
    except UsageError as error:
        return None, error.problems
    except Exception as error:  # a constructor may raise anything
        why = shown(" ".join(str(error.__cause__ or error).split())[:200])
        return None, [
            f"{key}._target_={part['_target_']}: can not be made of these arguments ({why}). "
            f"Type python run.py {key}=NAME --cfg job to see those of another one"
        ]


def _check_proxy(cfg: dict, dataset: Any) -> list[str]:
    """Problems of another data set that an attack trains on: it must be there, and fit the
    network.
    """
    if "proxy" not in cfg["attack"]:
        return []
    proxy, problems = _instantiated("attack.proxy", cfg)
    if problems and cfg["dry_run"] and proxy is not None:
        print("\n".join(f"not yet: {problem}" for problem in problems), file=sys.stderr)
        return []
    if not problems and not hasattr(proxy, "load"):
        problems.append(
            f"attack.proxy._target_={cfg['attack']['proxy']['_target_']}: is read from disk, too"
            " large for a proxy. Type attack.proxy._target_=unrelearn.data.mnist.MNIST"
        )
    if problems:
        return problems
    found, wanted = ([d.channels, d.image_size, d.image_size] for d in (proxy, dataset))
    if found != wanted:
        problems.append(
            f"attack.proxy: its images are {found} (channels, height, width), and the model's"
            f" {wanted}. Type attack.proxy.image_size={dataset.image_size}, or a proxy with as many"
            " channels"
        )
    return problems


def explain(error: BaseException, overrides: Sequence[str]) -> list[str] | None:
    """One line for each problem when Hydra or OmegaConf could not compose the configuration; None
    if it is something else.
    """
    text = " ".join(str(error).split())
    if (
        isinstance(error, MissingConfigException)
        and error.missing_cfg_file
        and "/" in error.missing_cfg_file
    ):
        group, option = error.missing_cfg_file.rsplit("/", 1)
        options = sorted(error.options or [])
        close = (
            [
                name for name in options if name.startswith(f"{option}_")
            ]  # presets of what was one, once
            or difflib.get_close_matches(option, options, n=1)
            or options[:1]
            or ["..."]
        )
        return [
            f"{group}={shown(option)}: no such {group}; allowed: {', '.join(options)}. "
            f"Type {' or '.join(f'{group}={name}' for name in close)}"
        ]
    if isinstance(error, OverflowError) and (found := re.search(r"full_key: (\S+)", text)):
        return [
            f"{found[1]}: {text.split(' full_key')[0]}. Type {found[1]}=NUMBER with a smaller one"
        ]
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    if "Ambiguous value" in text and (several := _several(overrides)):
        return several
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    match = re.search(r"Could not override '([^']+)'", text)
    key = match[1].split("@")[0] if match else getattr(cause, "full_key", None) or ""
    key = re.sub(r"\[\d+\].*", "", key)  # of an element, the list that was typed
    given = next((o for o in overrides if key and o.lstrip("+~").split("=")[0] == key), key)
    if match or "not in" in str(cause):
        return [_no_such_key(key, given, overrides)]
    reason = re.split(r" full_key: | To append | Set the env", " ".join(str(cause).split()))[0]
    return [
        f"{shown(given) + ': ' if given else ''}{shown(reason)}. "
        "Type python run.py --cfg job to see what stands there by default"
    ]


def _several(overrides: Sequence[str]) -> list[str]:
    """A line for each choice that has several values without -m: a list, a run each, or one name
    with commas in it.
    """
    lines = []
    for word in overrides:
        key, _, values = word.partition("=")
        if (
            not word.startswith("-")
            and OverridesParser.create().parse_override(word).is_sweep_override()
        ):
            each = f"-m {shell(word)} for a run each"
            is_list = key in ("forget", "eval") or isinstance(
                OmegaConf.select(_defaults(), key), ListConfig
            )
            name = f", or {typed({key: values})} if that is one name" if key in NAMES else ""
            advice = (
                f"{shell(f'{key}=[{values}]')} for all in one run, {each}{name}"
                if is_list
                else f"{each}{name}"
            )
            lines.append(f"{shown(word)}: several values, and one run. Type {advice}")
    return lines


def _no_such_key(key: str, given: str, overrides: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    known = _known_keys(
        [word for word in overrides if (CONF / word.lstrip("+").split("=")[0]).is_dir()]
    )
    siblings = sorted(
        {
            k[len(parent) :].lstrip(".").split(".")[0]
            for k in known
            if not parent or k.startswith(f"{parent}.")
        }
        - {"_target_"}
    )
    value = read(given.split("=", 1)[1]) if "=" in given else "..."
    close = difflib.get_close_matches(name, siblings, n=1)
    others = [] if close else options_with(parent, name)
    if others:
        return (
            f"{shown(given)}: the {parent} chosen here has no such key;"
            f" {parent}={', '.join(others)} {'have' if len(others) > 1 else 'has'} it. Type"
            f" {typed({parent: others[0], key: value})}"
        )
    advice = (
        f"Type {typed({f'{parent}.{close[0]}' if parent else close[0]: value})}"
        if close
        else "Type python run.py --cfg job to see their values"
    )
    return (
        f"{shown(given)}: no such key; allowed{' in ' + parent if parent else ''}:"
        f" {', '.join(siblings) or 'none'}. {advice}"
    )


def options_with(group: str, name: str) -> list[str]:
    """The options of a group in which a key stands, first those that can not do without it."""
    options = (
        {
            path.stem: OmegaConf.to_container(OmegaConf.load(path))
            for path in sorted((CONF / group).glob("*.yaml"))
        }
        if group
        else {}
    )
    return sorted(
        (option for option, keys in options.items() if name in keys),
        key=lambda option: options[option][name] != "???",
    )


def _known_keys(choices: Sequence[str] = ()) -> list[str]:
    """Every key of the configuration, dotted, with these options of groups or, where they do not
    hold, the default ones.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = hydra_compose("config", overrides=list(choices))
        except (HydraException, OmegaConfBaseException):
            config = hydra_compose("config")
        return [key for key, _ in _leaves(OmegaConf.to_container(config))]


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
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                validate(
                    hydra_compose(
                        "config", overrides=[_first_value(w) if several_runs else w for w in left]
                    ),
                    words=left,
                )
            return problems
        except UsageError as more:
            return problems + [line for line in more.problems if not line.startswith(tuple(roots))]
        except Exception as another:
            error = another
    return problems or None


def _first_value(word: str) -> str:
    parsed = OverridesParser.create().parse_override(word)
    return (
        f"{parsed.get_key_element()}={next(parsed.sweep_string_iterator())}"
        if parsed.is_sweep_override()
        else word
    )


# ---- the configurations of a multirun, for those who plan it
# ---------------------------------------------------------


class Sweep:
    """What `python run.py -m WORDS` would run, as choices.

    axes: key -> its values, as text; of the command line or, where that does not give the key, of
    an experiment's hydra.sweeper.params. fixed: the other words. elsewhere: the runs are for other
    machines than this one.

    Raises:
        UsageError: a word that Hydra cannot read, or a composition that does not hold.
    """

    def __init__(self, words: list[str], *, elsewhere: bool = False):
        self.elsewhere = elsewhere
        GlobalHydra.instance().clear()
        initialize_config_dir(str(CONF), version_base="1.3")
        self.axes: dict[str, list[str]] = {}
        self.fixed: list[str] = []
        try:
            words = [keep_names(word) for word in words]
            if problems := unreadable(words):
                raise UsageError(problems)
            for word in words:
                parsed = OverridesParser.create().parse_override(word)
                if parsed.is_sweep_override():
                    self.axes[parsed.get_key_element()] = list(parsed.sweep_string_iterator())
                else:
                    self.fixed.append(word)
            given = {word.lstrip("+~").split("=")[0] for word in self.fixed} | set(self.axes)
            params = (
                hydra_compose(
                    "config", overrides=self.fixed, return_hydra_config=True
                ).hydra.sweeper.params
                or {}
            )
            for key, values in params.items():
                if key not in given:
                    parsed = OverridesParser.create().parse_override(keep_names(f"{key}={values}"))
                    chosen = (
                        list(parsed.sweep_string_iterator())
                        if parsed.is_sweep_override()
                        else [str(values)]
                    )
                    self.axes[key] = chosen
        except (HydraException, OmegaConfBaseException) as error:
            problems = explain(error, words)
            if not problems:
                raise
            raise UsageError(problems) from error

    def words(self, chosen: dict[str, str]) -> list[str]:
        """The command line of one run."""
        return [*self.fixed, *(f"{key}={value}" for key, value in chosen.items())]

    def compose(self, chosen: dict[str, str]) -> tuple[dict, DictConfig]:
        """The validated configuration of one run, and what it was resolved from."""
        words = self.words(chosen)
        try:
            config = hydra_compose("config", overrides=words)
        except Exception as error:
            problems = explain(error, words)
            if not problems:
                raise
            raise UsageError(problems) from error
        return validate(config, elsewhere=self.elsewhere, words=words), config


def resolved(config: DictConfig, changes: dict[str, Any]) -> dict[str, Any]:
    """A configuration that was validated before, with other values of some keys, and of all that is
    made from them: a hundredth of what composing it anew would take.
    """
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    cfg = OmegaConf.to_container(config, resolve=True)
    cfg.pop("experiment", None)
    check.expand_paths(cfg)
    return cfg
