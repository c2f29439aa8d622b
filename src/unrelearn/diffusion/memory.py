"""The data that stand in for what is forgotten: images of other classes, generated ones, noise."""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unrelearn import randomness
from unrelearn.data import ImageSet
from unrelearn.diffusion.sampling import sample
from unrelearn.task import Task

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import DenoisingTask

Memory = Literal[
    "another_class",
    "next_class",
    "nearest_class",
    "counterpart",
    "all_retain",
    "fixed_k",
    "generated",
    "noise",
]


def memory_set(
    task: "DenoisingTask", memory: Memory, size: int | None, memory_class: int | None
) -> ImageSet:
    """The alternative data to be memorised under each forgotten condition, labelled with that
    condition.

    Args:
        memory: which images.
            another_class   real images of memory_class, or of the next retained class; of words
                            those of the caption with the forgotten word edited
            next_class      real images of the next retained class, which for words shares no more
                            with the forgotten one than the order of classes gives
            nearest_class   real images of the retained class whose mean is nearest in the oracle's
                            feature space
            counterpart     real images with the forgotten attribute flipped and the others kept
                            (CelebA, avatars)
            all_retain      real images of every retained class
            fixed_k         `size` (default 10) real images drawn once from the retain set:
                            memorisation taken literally
            generated       `size` (default 256) images of the other class drawn by the original
                            model: no real data
            noise           `size` (default 256) images of uniform noise, the target of Selective
                            Amnesia
        size: at most this many images per forgotten class; None keeps all.
        memory_class: the label whose images replace the class ("another_class" and "generated").
    """
    sets = []
    for c in task.forget_classes:
        part = _images(task, memory, size, replacement(task, memory, memory_class, c), c)
        labels = torch.full((len(part),), c, device=part.images.device)
        sets.append(ImageSet(part.images, labels, task.worded(part.wordings)))
    return ImageSet.join(sets)


def _images(
    task: "DenoisingTask", memory: Memory, size: int | None, other: int, forget_class: int
) -> ImageSet:
    """Images in place of those of forget_class, of the class `other` where of one."""
    g = randomness.generator_for(task.seed, "memory", memory, forget_class)
    if memory in ("generated", "noise"):
        n = size or 256
        shape = (n, *task.retain.images.shape[1:])
        if memory == "noise":
            images = torch.randint(256, shape, generator=g).to(torch.uint8)
        else:
            seed = int(torch.randint(2**31, (), generator=g))
            labels = torch.full((n,), other)
            options = {"schedule": task.schedule, "seed": seed, "fitting": task.fitting}
            images = sample(task.network, labels, **options)
        images = images.to(task.retain.labels.device)
        return ImageSet(images, torch.full((n,), other, device=images.device))
    every = memory in ("all_retain", "fixed_k")
    source = task.retain if every else task.retain.of_classes([other])
    limit = size or (10 if memory == "fixed_k" else len(source))
    chosen = torch.randperm(len(source), generator=g)[:limit]
    return source.take(chosen.to(source.labels.device))


def replacement(
    task: "DenoisingTask", memory: Memory, memory_class: int | None, forget_class: int
) -> int:
    """The retained class that stands in for forget_class where the memory is images of one class;
    else the next one.
    """
    if memory == "next_class":
        return Task.other_class(task, forget_class)
    if memory == "nearest_class":
        return nearest_class(task, forget_class)
    if memory == "counterpart":
        return task.counterparts[forget_class]
    return task.other_class(forget_class) if memory_class is None else memory_class


def nearest_class(task: "DenoisingTask", forget_class: int) -> int:
    """The retained class whose mean oracle feature is closest (Euclidean) to that of
    forget_class.
    """

    def mean_feature(data: ImageSet) -> Tensor:
        return task.oracle.look(data.images)[1].mean(0)

    wanted = mean_feature(task.forget.of_classes([forget_class]))
    distances = {
        c: (mean_feature(task.retain.of_classes([c])) - wanted).norm().item()
        for c in task.retain_classes
    }
    return min(distances, key=distances.__getitem__)
