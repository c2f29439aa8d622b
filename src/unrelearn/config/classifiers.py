"""Rules of a classifier: its network, its references, and the images that are to be forgotten."""

from functools import partial
from typing import Any

from unrelearn.advice import problem
from unrelearn.config.groups import name_of
from unrelearn.config.models import NetworkSettings
from unrelearn.config.rules import Problems, Rules, stages
from unrelearn.config.schema import Config
from unrelearn.forgotten import names_images

FIRST_REFERENCE = 100_000  # seeds of references, which no run may have
FIRST_HALF = 150_000  # and of models that see half of the images; of `manif_smc` from 200,000 on


def network_of(cfg: Config) -> NetworkSettings:
    assert cfg.model.network is not None
    return cfg.model.network


def network(cfg: Config) -> Problems:
    widths, key = network_of(cfg).widths, "model.network.widths"
    if len(widths) != 3 or any(not 1 <= width <= 4096 for width in widths):
        why = "must be three widths from 1 to 4096"
        yield problem(key, widths, why, {key: [16, 64, 64]})


def checkpoint(cfg: Config) -> Problems:
    model, key = cfg.model, "model.checkpoint"
    if model.checkpoint is not None:
        yield problem(key, model.checkpoint, "a classifier is trained here", {key: None})
    if model.weights != "raw":
        why = "of a classifier no average is kept"
        yield problem("model.weights", model.weights, why, {"model.weights": "raw"})
    if (decay := model.pretrain.ema_decay) is not None:
        key, why = "model.pretrain.ema_decay", "references keep no average, so no other model does"
        yield problem(key, decay, why, {key: None})


def validation(cfg: Config) -> Problems:
    own, key = cfg.validation.forget_split_seed, "validation.forget_split_seed"
    if own is not None and not cfg.validation.share:
        why = "no image is held out where validation.share is 0"
        yield problem(key, own, why, "Type protocol=salun, or leave it out")


def held_out(cfg: Config) -> Problems:
    share, key = cfg.held_out.share, "held_out.share"
    if share:
        why = "is of denoisers; a classifier's record is told from test images"
        yield problem(key, share, why, {key: 0.0})


def halves(cfg: Config) -> Problems:
    count, key = cfg.references.halves, "references.halves"
    if count % 2:
        why = "must be even: two models share the images between them"
        yield problem(key, count, why, {key: count + 1})


def half(cfg: Config) -> Problems:
    few, key = cfg.references.count < 4, "references.half"
    if cfg.references.half is not None and few:
        why = f"of {cfg.references.count} references, and each half needs two"
        yield problem(key, cfg.references.half, why, {"references.count": 4})


def seed(cfg: Config) -> Problems:
    if cfg.seed >= FIRST_REFERENCE:
        why = f"must be below {FIRST_REFERENCE}, where the seeds of references begin"
        yield problem("seed", cfg.seed, why, {"seed": 0})


def passes(cfg: Config) -> Problems:
    limit, key = cfg.trainer.batch_size_per_device, "trainer.batch_size_per_device"
    if limit is not None:
        yield problem(key, limit, "BatchNorm needs a whole step in one pass", {key: None})


def retained_only(cfg: Config) -> Problems:
    """An attack that learns a new head for all classes, from images of the retained ones."""
    whole_classes = not names_images(cfg.forget)
    learns_head = name_of(cfg.attack) == "linear_probe"
    if learns_head and whole_classes and cfg.attack["data"] == "retain":
        why = "has no image of a forgotten class, which no new head then answers"
        yield problem("attack.data", "retain", why, {"attack.data": "public"})


def parameters(cfg: Config) -> Problems:
    """The names that method.parameters stands for are those of cross-attention."""
    for group in ("method", "attack"):
        value, key = getattr(cfg, group).get("parameters", "all"), f"{group}.parameters"
        if value != "all":
            yield problem(key, value, "a classifier has no cross-attention", f"Leave {key} out")


RULES: Rules = (
    (retained_only, ("forget", "attack")),
    (passes, ("trainer.batch_size_per_device",)),
    (network, ("model.network.",)),
    (checkpoint, ("model.checkpoint", "model.weights")),
    (seed, ("seed",)),
    (partial(stages, whose="a classifier has"), ("stages",)),
    (validation, ("validation.",)),
    (halves, ("references.halves",)),
    (half, ("references.half", "references.count")),
    (held_out, ("held_out.",)),
    (parameters, ("method.parameters", "attack.parameters")),
)


def check_data(cfg: Config, dataset: Any) -> list[str]:
    """Problems of a data set with this network."""
    problems = []
    if network_of(cfg).name == "vgg16_bn" and dataset.image_size < 16:
        why = f"halves images four times, and these have {dataset.image_size} pixels a side"
        problems.append(problem("model", "vgg16_bn", why, {"model": "fast"}))
    return problems
