"""Rules of a classifier: its network, its references, and the images that are to be forgotten."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from unrelearn.advice import problem
from unrelearn.config.groups import name_of
from unrelearn.config.rules import Problems, Rules
from unrelearn.config.schema import Config, Network
from unrelearn.errors import UsageError
from unrelearn.forgotten import names_examples

FIRST_REFERENCE = 100_000  # seeds of references, which no run may have
FIRST_HALF = 200_000  # and of models that see half of the images


def network_of(cfg: Config) -> Network:
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


def stages(cfg: Config) -> Problems:
    known = ["pretrain", "unlearn", "attack", "evaluate"]
    if not set(known) & set(cfg.stages):
        why = f"a classifier has none of these; allowed: {', '.join(known)}"
        yield problem("stages", cfg.stages, why, {"stages": known})


def validation(cfg: Config) -> Problems:
    own, key = cfg.validation.forget_split_seed, "validation.forget_split_seed"
    if own is not None and not cfg.validation.share:
        why = "no image is held out where validation.share is 0"
        yield problem(key, own, why, "Type protocol=salun, or leave it out")


def halves(cfg: Config) -> Problems:
    count, key = cfg.references.halves, "references.halves"
    if count % 2:
        why = "must be even: two models share the images between them"
        yield problem(key, count, why, {key: count + 1})


def seed(cfg: Config) -> Problems:
    if cfg.seed >= FIRST_REFERENCE:
        why = f"must be below {FIRST_REFERENCE}, where the seeds of references begin"
        yield problem("seed", cfg.seed, why, {"seed": 0})


def passes(cfg: Config) -> Problems:
    limit, key = cfg.trainer.batch_size_per_device, "trainer.batch_size_per_device"
    if limit is not None:
        yield problem(key, limit, "BatchNorm needs a whole step in one pass", {key: None})


def by_class(cfg: Config) -> Problems:
    """What has no meaning where images are forgotten one by one."""
    if not names_examples(cfg.forget) or str(cfg.forget).startswith("class:"):
        return
    for group in ("method", "attack"):
        given = getattr(cfg, group)
        if get_object(given["_target_"]).by_class:
            why = "is about a forgotten class, and images are forgotten one by one"
            yield problem(group, name_of(given), why, {"forget": "class:3"})


def retained_only(cfg: Config) -> Problems:
    """An attack that learns a new head for all classes, from images of the retained ones."""
    whole_classes = not names_examples(cfg.forget) or str(cfg.forget).startswith("class:")
    learns_head = name_of(cfg.attack) == "linear_probe"
    if learns_head and whole_classes and cfg.attack["data"] == "retain":
        why = "has no image of a forgotten class, which no new head then answers"
        yield problem("attack.data", "retain", why, {"attack.data": "public"})


RULES: Rules = (
    (by_class, ("forget", "method", "attack")),
    (retained_only, ("forget", "attack")),
    (passes, ("trainer.batch_size_per_device",)),
    (network, ("model.network.",)),
    (checkpoint, ("model.checkpoint", "model.weights")),
    (seed, ("seed",)),
    (stages, ("stages",)),
    (validation, ("validation.",)),
    (halves, ("references.halves",)),
)


def check_data(cfg: Config, dataset: Any) -> list[str]:
    """Problems of a data set with this network, and of `forget` where it names images."""
    problems = []
    if network_of(cfg).name == "vgg16_bn" and dataset.image_size < 16:
        why = f"halves images four times, and these have {dataset.image_size} pixels a side"
        problems.append(problem("model", "vgg16_bn", why, {"model": "fast"}))
    return problems + _images(cfg, dataset)


def _images(cfg: Config, dataset: Any) -> list[str]:
    import torch

    from unrelearn.data.splits import Examples, divided, forget_indexes

    kind, _, value = str(cfg.forget).partition(":")
    if not names_examples(cfg.forget) or kind == "class":
        return []
    if kind == "file" and not Path(value).expanduser().is_file():
        why = "no such file; save indexes of training images by numpy.save"
        return [problem("forget", cfg.forget, why, "Type forget=file:/path/indexes.npy")]
    is_share = 0 < _number(value) < 1
    if is_share and kind in ("random", "memorised"):
        return []  # any share can be had, but for none at all, of which training tells
    if not cfg.dry_run:
        data = divided(dataset.load(), **asdict(cfg.validation))
        examples = Examples(data.train.labels, data.class_names, data.true_labels)
    elif is_share or kind == "file":
        return []  # what needs the images
    else:
        examples = Examples(torch.zeros(1, dtype=torch.long), ())
    try:
        forget_indexes(str(cfg.forget), examples, cfg.forget_seed)
    except UsageError as error:
        return error.problems
    return []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
