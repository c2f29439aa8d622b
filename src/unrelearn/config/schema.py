"""The schema of the configuration: each key with its type and, beside it, the values it may have.

A mistyped key fails when the configuration is composed. The groups dataset, method, attack and eval
are plain yaml with a `_target_`; there the signature of what they name is the schema.
"""

import typing
from collections.abc import Iterator
from dataclasses import Field, asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from unrelearn import check
from unrelearn.config.models import Gan, ModelSettings, number, of
from unrelearn.paths import CONF
from unrelearn.ranges import (
    Count,
    Devices,
    LearningRates,
    Positive,
    Probability,
    Rate,
    Seed,
    Share,
    Steps,
    Weight,
)

Samplers = Literal["ddim", "ddpm", "dpmsolver++", "lms"]
Architectures = Literal["plain", "residual", "resnet"]
Augmentations = Literal[
    "none", "crop_flip", "randaugment", "autoaugment", "erasing", "trivial", "augmix"
]
GROUPS = ("dataset", "method", "attack", "eval")  # what they name says what they take
PARTS = ("gan.design.", "gan.privacy.")  # so do these


@dataclass
class Augment:
    base: str = of(Augmentations)
    retrain: str = of(Augmentations)
    retain: str = of(Augmentations)
    forget: str = of(Augmentations)
    attack: str = of(Augmentations)


@dataclass
class ReferencesSettings:
    count: int = of(Annotated[int, number(2)])
    at_once: int = of(Count)
    halves: int = of(Annotated[int, number(2)])
    half: str | None = of(Literal["tuning", "table"])


@dataclass
class PredictionsSettings:
    features: bool = MISSING


@dataclass
class Protocol:
    name: str = MISSING
    contrast_stretch: bool = MISSING
    reference_images_per_class: int | None = of(Count)


@dataclass
class Validation:
    share: float = of(Annotated[float, number(0, 0.5)])
    seed: int = of(Seed)
    forget_split_seed: int | None = of(Seed)


@dataclass
class HeldOut:
    share: float = of(Annotated[float, number(0, 0.9)])
    seed: int = of(Seed)


@dataclass
class SecondSampler:
    name: str = of(Samplers)
    num_inference_steps: int = of(Annotated[int, number(1, 1000)])
    num_images: int = of(Count)


@dataclass
class Sampler:
    name: str = of(Samplers)
    num_inference_steps: int = of(Annotated[int, number(1, 1000)])
    eta: float = of(Probability)
    clip_sample: bool = MISSING
    guidance_scales: list[float] = MISSING
    num_images: int = of(Count)
    retain_guidance_scales: list[float] = MISSING
    images_per_retained_class: int = of(Count)
    seed: int = of(Seed)
    second: SecondSampler | None = MISSING
    off_grid_share: float = of(Annotated[float, number(0, 0.5)])


@dataclass
class ClassifierShape:
    architecture: str = of(Architectures)
    width: int = of(Annotated[int, number(8)])
    seed: int = of(Seed)


@dataclass
class OracleSettings:
    main: ClassifierShape = MISSING
    held_out: ClassifierShape = MISSING
    max_steps: int = of(Steps)
    batch_size: int = of(Count)
    learning_rate: float = of(Rate)
    weight_decay: float = of(Rate)
    label_smoothing: float = of(Probability)
    shift: int = of(Steps)


@dataclass
class TrainerSettings:
    accelerator: str = of(Literal["auto", "cpu", "gpu"])
    devices: Any = of(Devices)  # noqa: RUF009 - a number once it is validated
    strategy: str = of(Literal["auto", "ddp"])
    timeout_minutes: float = of(Positive)
    channels_last: bool = MISSING
    compile: bool = MISSING
    threads: int | None = of(Count)
    checkpoint_every_n_steps: int = of(Count)
    log_every_n_steps: int = of(Count)
    sampling_batch_size: int | None = of(Count)
    batch_size_per_device: int | None = of(Count)


@dataclass
class Tracking:
    backend: str = of(Literal["wandb", "none"])
    mode: str = of(Literal["offline", "online", "disabled"])
    project: str = MISSING
    group: str | None = MISSING
    tags: list[str] = MISSING


@dataclass
class Unlearning:
    max_steps: int = of(Steps)
    batch_size: int = of(Count)
    learning_rate: float = of(Rate)
    retain_weight: float = of(Weight)


@dataclass
class RelearningSettings:
    seed: int = of(Seed)
    budgets: list[int] = MISSING
    batch_size: int = of(Count)
    learning_rate: float = of(Rate)
    lr_schedule: str = of(LearningRates)


@dataclass
class Paths:
    outputs: str = MISSING
    data: str = MISSING
    inception_weights: str | None = MISSING


@dataclass
class CostSettings:
    device_tflops: float = of(Positive)
    utilisation: float = of(Share)


@dataclass
class AuditSettings:
    fail_above: float | None = of(Probability)


@dataclass
class Config:
    seed: int = of(Seed)
    forget: Any = MISSING
    forget_seed: int = of(Seed)
    forgotten_before: Any = MISSING
    stages: list[str] = MISSING
    train_class_embedding: bool = MISSING
    precision: str = of(Literal["32-true", "bf16-mixed", "16-mixed"])
    rebuild: bool = MISSING
    dry_run: bool = MISSING
    reference: str | None = of(Literal["retrain"])
    audit: AuditSettings = MISSING
    dataset: dict[str, Any] = MISSING
    model: ModelSettings = MISSING
    method: dict[str, Any] = MISSING
    attack: dict[str, Any] = MISSING
    eval: dict[str, Any] = MISSING
    protocol: Protocol = MISSING
    validation: Validation = MISSING
    held_out: HeldOut = MISSING
    sampler: Sampler = MISSING
    augment: Augment = MISSING
    references: ReferencesSettings = MISSING
    predictions: PredictionsSettings = MISSING
    gan: Gan = MISSING
    unlearning: Unlearning = MISSING
    relearning: RelearningSettings = MISSING
    oracle: OracleSettings = MISSING
    trainer: TrainerSettings = MISSING
    tracking: Tracking = MISSING
    paths: Paths = MISSING
    cost: CostSettings = MISSING


ConfigStore.instance().store(name="schema", node=Config)
# ~ in a path that Hydra uses by itself
OmegaConf.register_new_resolver("home", check.place, replace=True)


def part_of(kind: Any) -> Any:
    """The dataclass that a key of this type is a group of, also where it may be null; else None."""
    return next(filter(is_dataclass, (kind, *typing.get_args(kind))), None)


def keys_of(schema: Any, above: str = "") -> Iterator[tuple[str, "Field[Any]"]]:
    """Every dotted key that is no group of others."""
    for one in fields(schema):
        key = f"{above}.{one.name}" if above else one.name
        part = part_of(one.type)
        if part:
            yield from keys_of(part, key)
        else:
            yield key, one


def groups_of(schema: Any, above: str = "") -> Iterator[str]:
    """Every dotted key of a group, some of which may be null."""
    for one in fields(schema):
        key = f"{above}.{one.name}" if above else one.name
        if part := part_of(one.type):
            yield key
            yield from groups_of(part, key)


def leaves(node: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Every dotted key of nested dictionaries, with its value."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def plain(node: Any, *, resolve: bool = True) -> dict[str, Any]:
    """A configuration of OmegaConf as plain Python; resolve: what stands for other keys' values."""
    return cast("dict[str, Any]", OmegaConf.to_container(node, resolve=resolve))


def file_of(group: str, option: str) -> dict[str, Any]:
    """What a yaml of conf/ holds; what stands for other keys' values stays as it is."""
    return plain(OmegaConf.load(CONF / group / f"{option}.yaml"), resolve=False)


def to_config(settings: dict[str, Any]) -> Config:
    """Settings that passed the checks of types, as one typed object; groups stay as they are."""
    config: Config = _typed(Config, settings)
    return config


def with_option(cfg: Config, group: str, option: str) -> Config:
    """The same configuration with another choice of a group, as its yaml has it."""
    settings = OmegaConf.create({**asdict(cfg), group: file_of(group, option)})
    chosen: dict[str, Any] = {group: plain(settings)[group]}
    return replace(cfg, **chosen)


def _typed(kind: Any, value: Any) -> Any:
    part = part_of(kind)
    if part is None or value is None:
        return value
    return part(**{one.name: _typed(one.type, value[one.name]) for one in fields(part)})


@cache
def defaults() -> DictConfig:
    """The default values of the keys, read without Hydra; interpolations are left as they are."""
    # of tracking/wandb.yaml a key asks the environment
    options = {"model": "unet_tiny", "trainer": "auto", "tracking": "none"}
    groups = {
        group: OmegaConf.load(CONF / group / f"{option}.yaml") for group, option in options.items()
    }
    protocol = OmegaConf.load(CONF / "protocol" / "fast.yaml")
    merged = OmegaConf.merge(OmegaConf.load(CONF / "config.yaml"), groups, protocol)
    assert isinstance(merged, DictConfig)
    return merged


@cache
def every_stage() -> list[str]:
    """Those that may be left out, as conf/config.yaml lists them."""
    return list(OmegaConf.load(CONF / "config.yaml").stages)
