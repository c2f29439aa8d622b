"""Which training images are to be forgotten, where they are chosen one by one.

    random:0.1          a share of all of them
    class:3             all of one class, by its label or its name
    file:indexes.npy    those that a file of whole numbers lists
    memorised:0.1       the share that a bank of models memorises most
    mislabelled:0.02    a share of all, drawn from those whose label was made wrong on purpose

Every choice is a function of the specification, the labels and a seed of its own.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unrelearn.errors import UsageError
from unrelearn.randomness import generator_for

KINDS = {
    "random": "random:0.1",
    "class": "class:3",
    "file": "file:indexes.npy",
    "memorised": "memorised:0.1",
    "mislabelled": "mislabelled:0.02",
}


@dataclass(frozen=True)
class Examples:
    """What is known of the N training images when some of them are chosen.

    Args:
        labels: int64 (N,), those that a model is trained on.
        class_names: by label.
        true_labels: int64 (N,), where some of the labels were made wrong (`ImageData.true_labels`).
        memorisation: (N,), higher: rather memorised, e.g. `banks.memorisation` of a bank of models.
    """

    labels: Tensor
    class_names: tuple[str, ...]
    true_labels: Tensor | None = None
    memorisation: Tensor | None = None


def names_examples(forget: object) -> bool:
    """Whether a value of `forget` chooses images one by one, rather than classes."""
    return isinstance(forget, str) and forget.partition(":")[0] in KINDS and ":" in forget


def forget_indexes(forget: str, examples: Examples, seed: int) -> Tensor:
    """Indexes int64 (M,) into the training images, ascending, 0 < M < N.

    Args:
        forget: KIND:VALUE, see the head of this file.
        seed: decides what random and mislabelled draw, and nothing else.
    Raises:
        UsageError: one line with the value, what is allowed, and what to type.
    """
    kind, _, value = forget.partition(":")
    if kind not in KINDS or not value:
        raise UsageError(
            f"forget={forget}: must be one of {', '.join(f'{name}:...' for name in KINDS)}; type"
            " forget=random:0.1"
        )
    chosen = {
        "random": _random,
        "class": _of_class,
        "file": _from_file,
        "memorised": _memorised,
        "mislabelled": _mislabelled,
    }[kind](forget, value, examples, seed)
    if len(chosen) == len(examples.labels):
        raise UsageError(
            f"forget={forget}: these are all {len(chosen)} training images, none would be left to"
            f" retain; type forget={KINDS['random']}"
        )
    return chosen.sort().values


def _random(forget: str, value: str, examples: Examples, seed: int) -> Tensor:
    everything = torch.arange(len(examples.labels))
    return _drawn(everything, _count(forget, value, examples), "random", seed)


def _of_class(forget: str, value: str, examples: Examples, seed: int) -> Tensor:
    names = examples.class_names
    if value in names:
        label = names.index(value)
    elif value.isdecimal() and int(value) < len(names):
        label = int(value)
    else:
        raise UsageError(
            f"forget={forget}: no such class; allowed: 0 to {len(names) - 1} or one of"
            f" {', '.join(names)}; type forget=class:{names[0]}"
        )
    chosen = torch.where(examples.labels == label)[0].cpu()
    if not len(chosen):
        raise UsageError(
            f"forget={forget}: no training image is of class {names[label]}; type forget=class: and"
            " the name of another"
        )
    return chosen


def _from_file(forget: str, value: str, examples: Examples, seed: int) -> Tensor:
    path, last = Path(value).expanduser(), len(examples.labels) - 1
    save = f"save whole numbers from 0 to {last}, each once, with numpy.save"
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UsageError(
            f"forget={forget}: there is no such file; {save}, and type forget=file:/path.npy"
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"forget={forget}: can not be read ({error}); {save}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
        raise UsageError(f"forget={forget}: is no list of whole numbers; {save}")
    if not len(array):
        raise UsageError(f"forget={forget}: lists no image; {save}")
    if (outside := array[(array < 0) | (array > last)]).size:
        raise UsageError(
            f"forget={forget}: {outside.size} of {len(array)} indexes are out of range, the first"
            f" is {outside[0]}; {save}"
        )
    indexes, counts = np.unique(array, return_counts=True)
    if (counts > 1).any():
        raise UsageError(
            f"forget={forget}: {(counts > 1).sum()} indexes are repeated, the first is"
            f" {indexes[counts > 1][0]}; {save}"
        )
    return torch.from_numpy(indexes.astype(np.int64))


def _memorised(forget: str, value: str, examples: Examples, seed: int) -> Tensor:
    count = _count(forget, value, examples)
    if examples.memorisation is None:
        raise UsageError(
            f"forget={forget}: how much each image is memorised is known from a bank of models,"
            " and none is given; train one first, or type forget=random:0.1"
        )
    return examples.memorisation.cpu().argsort(descending=True, stable=True)[:count]


def _mislabelled(forget: str, value: str, examples: Examples, seed: int) -> Tensor:
    count = _count(forget, value, examples)
    if examples.true_labels is None:
        raise UsageError(
            f"forget={forget}: no label of this data set was made wrong on purpose; type"
            " dataset=digits dataset.label_noise=0.2"
        )
    wrong = torch.where(examples.labels != examples.true_labels)[0].cpu()
    if count > len(wrong):
        share = math.floor(1000 * len(wrong) / len(examples.labels)) / 1000
        raise UsageError(
            f"forget={forget}: these are {count} images, and {len(wrong)} have a wrong label; type"
            f" forget=mislabelled:{share:g}, or a larger dataset.label_noise"
        )
    return _drawn(wrong, count, "mislabelled", seed)


def _count(forget: str, value: str, examples: Examples) -> int:
    """How many images a share of all of them is, at least one."""
    kind, n = forget.partition(":")[0], len(examples.labels)
    try:
        share = float(value)
    except ValueError:
        share = float("nan")
    if not 0 < share < 1:
        raise UsageError(
            f"forget={forget}: must be a share of the training images, more than 0 and less than 1;"
            f" type forget={KINDS[kind]}"
        )
    if (count := round(share * n)) < 1:
        raise UsageError(
            f"forget={forget}: of {n} training images this is none; type forget={KINDS[kind]}"
        )
    return count


def _drawn(candidates: Tensor, count: int, kind: str, seed: int) -> Tensor:
    g = generator_for(seed, "forget", kind)
    return candidates[torch.randperm(len(candidates), generator=g)[:count]]
