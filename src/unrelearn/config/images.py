"""Rules of `forget` where it names images one by one, of any kind of model."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from unrelearn.advice import problem
from unrelearn.config.groups import name_of
from unrelearn.config.rules import Problems, Rules
from unrelearn.config.schema import Config
from unrelearn.errors import UsageError
from unrelearn.forgotten import KINDS, names_images


def by_class(cfg: Config) -> Problems:
    """What has no meaning where images are forgotten one by one."""
    if not names_images(cfg.forget):
        return
    for group in ("method", "attack"):
        given = getattr(cfg, group)
        if get_object(given["_target_"]).by_class:
            why = "is about a forgotten class, and images are forgotten one by one"
            yield problem(group, name_of(given), why, {"forget": KINDS["class"]})


def memorised(cfg: Config) -> Problems:
    if cfg.model.network is None and str(cfg.forget).startswith("memorised:"):
        why = "is said by many classifiers, and this model is none"
        yield problem("forget", cfg.forget, why, {"forget": "random:0.02"})


RULES: Rules = ((by_class, ("forget", "method", "attack")), (memorised, ("forget",)))


def check_images(cfg: Config, dataset: Any) -> list[str]:
    """Problems that show when the images are chosen."""
    import torch

    from unrelearn.data.splits import Examples, divided, forget_indexes

    kind, _, value = str(cfg.forget).partition(":")
    if kind == "file" and not Path(value).expanduser().is_file():
        why = "is a folder" if Path(value).expanduser().is_dir() else "no such file"
        why += "; save indexes of training images by numpy.save"
        return [problem("forget", cfg.forget, why, "Type forget=file:/path/indexes.npy")]
    is_share = 0 < _number(value) < 1
    if is_share and kind in ("random", "memorised"):
        return []  # any share can be had, but for none at all, of which training tells
    if not cfg.dry_run and hasattr(dataset, "load"):
        held = {**asdict(cfg.held_out), "forget_split_seed": None, "group": "held_out"}
        data = divided(
            dataset.load(), **(held if cfg.model.network is None else asdict(cfg.validation))
        )
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
