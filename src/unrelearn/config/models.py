"""What a model is, in the schema of the configuration: networks, schedules, their training."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pydantic
from omegaconf import MISSING

from unrelearn.ranges import Count, LearningRates, Positive, Probability, Rate, Seed, Steps, Weight


def number(low: float, high: float | None = None, *, above: bool = False) -> Any:
    """A range of its own; above: the lowest value is none of it."""
    limit = {"gt": low} if above else {"ge": low}
    return pydantic.Field(**limit, le=high)


def of(kind: Any) -> Any:
    """A key that must be given, with what it may be: a range (unrelearn.ranges) or a Literal."""
    return field(default=MISSING, metadata={"kind": kind})


Beta = Annotated[float, number(0, 0.999, above=True)]


@dataclass
class UnetSettings:
    architecture: str = of(Literal["unet2d", "salun", "prompt"])
    block_out_channels: list[int] = MISSING
    layers_per_block: int = of(Annotated[int, number(1, 16)])
    norm_num_groups: int = of(Annotated[int, number(1, 1024)])
    attention_levels: list[int] = MISSING
    attention_head_dim: int | None = of(Count)
    dropout: float = of(Probability)


@dataclass
class Schedule:
    num_train_timesteps: int = of(Annotated[int, number(2, 1000)])
    beta_start: float = of(Beta)
    beta_end: float = of(Beta)
    beta_schedule: str = of(Literal["linear", "scaled_linear"])
    prediction_type: str = of(Literal["epsilon", "sample", "v_prediction"])


@dataclass
class PretrainSettings:
    max_steps: int = of(Steps)
    batch_size: int = of(Count)
    learning_rate: float = of(Rate)
    lr_schedule: str = of(LearningRates)
    label_dropout: float = of(Probability)
    grad_clip: float = of(Positive)
    ema_decay: float | None = of(Probability)
    loss_reduction: str = of(Literal["mean", "sum"])
    antithetic: bool = MISSING


@dataclass
class NetworkSettings:
    """A classifier, and what all that trains it has in common."""

    name: str = of(Literal["fast", "resnet18_cifar", "vgg16_bn"])
    widths: list[int] = MISSING
    momentum: float = of(Annotated[float, number(0, 0.999)])
    weight_decay: float = of(Rate)
    batch_norm: str = of(Literal["train", "eval"])


@dataclass
class Text:
    """A text encoder, and its training."""

    length: int = of(Annotated[int, number(3, 77)])
    width: int = of(Annotated[int, number(8, 1024)])
    layers: int = of(Annotated[int, number(1, 16)])
    heads: int = of(Annotated[int, number(1, 64)])
    max_steps: int = of(Count)
    batch_size: int = of(Count)
    learning_rate: float = of(Rate)
    seed: int = of(Seed)


@dataclass
class Latent:
    """A denoiser of latents that comes with its autoencoder and text encoder."""

    caption: str = MISSING
    gradient_checkpointing: bool = MISSING


@dataclass
class Networks:
    """Of federated generators: widths of hidden layers, and what is common to their critics."""

    generator: list[int] = MISSING
    extractor: list[int] = MISSING
    server: list[int] = MISSING
    latent: int = of(Count)
    batch_norm_eps: float = of(Positive)
    penalty_weight: float = of(Weight)
    critic_steps: int = of(Count)


@dataclass
class PublishedAudit:
    """Of published tables: worlds with and without a record, and replicas of each."""

    targets: Any = MISSING
    change: str = of(Literal["remove", "replace"])
    replicas: int = of(Annotated[int, number(8)])
    features: str | None = of(Literal["columns", "oracle"])
    records: int | None = of(Count)


@dataclass
class Gan:
    """How columns are held, and what is trained of them."""

    design: dict[str, Any] = field(default_factory=dict)
    privacy: dict[str, Any] = field(default_factory=dict)
    protected: str = MISSING
    partition: str = of(Literal["halves", "left_right", "interleaved", "columns"])
    penalty: str = of(Literal["joint", "factorised"])
    statistics: str = of(Literal["public", "own", "dp"])
    statistics_noise_multiplier: float = of(Positive)
    select: str = of(Literal["last", "best_fd"])
    transport: str = of(Literal["local", "gloo"])
    replicas: int = of(Count)
    records: int | None = of(Count)
    audit: PublishedAudit | None = MISSING


@dataclass
class ModelSettings:
    name: str = MISSING
    kind: str = MISSING
    unet: UnetSettings | None = MISSING
    schedule: Schedule | None = MISSING
    network: NetworkSettings | None = MISSING
    text: Text | None = None  # of a denoiser that reads captions
    latent: Latent | None = None  # of Stable Diffusion
    gan: Networks | None = None
    pretrain: PretrainSettings = MISSING
    weights: str = of(Literal["ema", "raw"])
    checkpoint: str | None = MISSING
