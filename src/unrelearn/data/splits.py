"""Which training images are to be forgotten, where they are chosen one by one.

    random:0.1          a share of all of them
    class:3             all of one class, by its label or its name
    file:indexes.npy    those that a file of whole numbers lists
    memorised:0.1       the share that a bank of models memorises most
    mislabelled:0.02    a share of all, drawn from those whose label was made wrong on purpose

Every choice is a function of the specification, the labels and a seed of its own.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from unrelearn.data import ImageData
from unrelearn.errors import UsageError
from unrelearn.forgotten import KINDS
from unrelearn.randomness import generator_for


@dataclass(frozen=True)
class Examples:
    """What is known of the N training images when some of them are chosen.

    Args:
        labels: int64 (N,), those that a model is trained on.
        class_names: by label.
        true_labels: int64 (N,), where some of the labels were made wrong (`ImageData.true_labels`).
        memorisation: (N,), higher: rather memorised, as a bank of models says.
    """

    labels: Tensor
    class_names: tuple[str, ...]
    true_labels: Tensor | None = None
    memorisation: Tensor | None = None


class _Refused(Exception):
    """Why a choice can not be made, and what to type instead."""


def forget_indexes(forget: str, examples: Examples, seed: int) -> Tensor:
    """Indexes int64 (M,) into the training images, ascending, 0 < M < N.

    Args:
        forget: KIND:VALUE, see the head of this file.
        seed: decides what random and mislabelled draw, and nothing else.
    Raises:
        UsageError: one line with the value, what is allowed, and what to type.
    """
    kind, _, value = forget.partition(":")
    try:
        chosen = _chosen(kind, value, examples, seed)
        if len(chosen) == len(examples.labels):
            raise _Refused(
                f"these are all {len(chosen)} training images, none would be left to retain; type"
                f" forget={KINDS['random']}"
            )
    except _Refused as reason:
        raise UsageError(f"forget={forget}: {reason}") from reason
    return chosen.sort().values


def validation_indexes(labels: Tensor, share: float, seed: int) -> Tensor:
    """Indexes of the images that are held out, the same share of every class: int64, ascending.

    As Unlearn-Saliency draws them (arXiv 2310.12508), so that its seeds mean the same images here.
    """
    classes, generator = labels.cpu().numpy(), np.random.RandomState(seed)
    held = []
    for label in range(int(classes.max()) + 1):
        of_class = np.where(classes == label)[0]
        held.append(generator.choice(of_class, int(share * len(of_class)), replace=False))
    return torch.from_numpy(np.sort(np.concatenate(held)))


def divided(
    data: ImageData,
    share: float,
    seed: int,
    forget_split_seed: int | None,
    group: str = "validation",
) -> ImageData:
    """The data with a share of each class's training images held out; of the original model, where
    there is a `forget_split_seed`, other ones (see conf/protocol/salun.yaml).

    group: of the configuration, that has the share.

    Raises:
        UsageError: the share is of no class one image.
    """
    if not share:
        return data
    train = data.train

    def parts(seed: int) -> tuple[Tensor, Tensor]:
        held = torch.zeros(len(train), dtype=torch.bool)
        held[validation_indexes(train.labels, share, seed)] = True
        return (~held).to(train.labels.device), held.to(train.labels.device)

    kept, held = parts(seed)
    if not held.any():
        why = f"of no class is this one image. Type {group}.share=0.5"
        raise UsageError(f"{group}.share={share}: {why}")
    original, seen = (train.where(kept), train.where(held)), kept
    if forget_split_seed is not None:
        kept, held = parts(forget_split_seed)

    def still(known: Tensor | None) -> Tensor | None:
        return None if known is None else known[kept.to(known.device)]

    return replace(
        data,
        train=train.where(kept),
        true_labels=still(data.true_labels),
        memorisation=still(data.memorisation),
        validation=train.where(held),
        original=original,
        seen=seen[kept],
    )


def _chosen(kind: str, value: str, examples: Examples, seed: int) -> Tensor:
    if kind not in KINDS or not value:
        raise _Refused(f"must be one of {', '.join(KINDS.values())}; type forget=random:0.1")
    if kind == "class":
        return _of_class(value, examples)
    if kind == "file":
        return _from_file(Path(value).expanduser(), len(examples.labels))
    count, candidates = _count(kind, value, examples), torch.arange(len(examples.labels))
    if kind == "memorised":
        return _memorised(examples)[:count]
    if kind == "mislabelled":
        candidates = _mislabelled(examples, count)
    g = generator_for(seed, "forget", kind)
    return candidates[torch.randperm(len(candidates), generator=g)[:count]]


def _count(kind: str, value: str, examples: Examples) -> int:
    """How many images a share of all of them is, at least one."""
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise _Refused(
            "must be a share of the training images, more than 0 and less than 1; type"
            f" forget={KINDS[kind]}"
        )
    if (count := round(share * len(examples.labels))) < 1:
        n = len(examples.labels)
        raise _Refused(f"of {n} training images this is none; type forget={KINDS[kind]}")
    return count


def _of_class(value: str, examples: Examples) -> Tensor:
    names = examples.class_names
    numbers = [str(label) for label in range(len(names))]
    if value not in names and value not in numbers:
        raise _Refused(
            f"no such class; allowed: 0 to {len(names) - 1} or one of {', '.join(names)}; type"
            " forget=class:0"
        )
    label = names.index(value) if value in names else int(value)
    chosen = torch.where(examples.labels == label)[0].cpu()
    if not len(chosen):
        present = names[int(examples.labels[0])]
        raise _Refused(f"no training image is of class {names[label]}; type forget=class:{present}")
    return chosen


def _from_file(path: Path, n: int) -> Tensor:
    save = f"save whole numbers from 0 to {n - 1}, each once, by numpy.save"
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise _Refused(f"there is no such file; {save}, and type forget=file:/path") from error
    except OSError as error:
        raise _Refused(f"can not be read ({error.strerror}); {save}") from error
    except (ValueError, EOFError, BadZipFile) as error:  # whose words advise to unpickle it
        raise _Refused(f"is no file of numpy.save; {save}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
        raise _Refused(f"is no list of whole numbers; {save}")
    outside = array[(array < 0) | (array >= n)]
    indexes, counts = np.unique(array, return_counts=True)
    if not array.size:
        raise _Refused(f"lists no image; {save}")
    if outside.size:
        raise _Refused(
            f"{outside.size} of {array.size} indexes are out of range, the first is {outside[0]};"
            f" {save}"
        )
    if (repeated := indexes[counts > 1]).size:
        raise _Refused(f"{repeated.size} indexes are repeated, the first is {repeated[0]}; {save}")
    return torch.from_numpy(indexes.astype(np.int64))


def _memorised(examples: Examples) -> Tensor:
    """All indexes, the most memorised first."""
    if examples.memorisation is None:
        raise _Refused("how much each image is memorised is not known here; type forget=random:0.1")
    return examples.memorisation.cpu().argsort(descending=True, stable=True)


def _mislabelled(examples: Examples, count: int) -> Tensor:
    """Indexes of the images whose label is wrong, at least so many."""
    if examples.true_labels is None:
        raise _Refused(
            "no label of this data set was made wrong on purpose; type dataset=digits"
            " dataset.label_noise=0.2"
        )
    wrong = torch.where(examples.labels != examples.true_labels)[0].cpu()
    if count > len(wrong):
        share = math.floor(1000 * len(wrong) / len(examples.labels)) / 1000
        raise _Refused(
            f"these are {count} images, and {len(wrong)} have a wrong label; type"
            f" forget=mislabelled:{share:g}, or a larger dataset.label_noise"
        )
    return wrong
