"""Building blocks that several unlearning methods share: pseudo labels, memory data, teachers,
gradients of a whole step.
"""

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from unrelearn import distributed, randomness
from unrelearn.data import ImageSet
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.sampling import sample
from unrelearn.module import DiffusionModule, Task


class Teacher:
    """A network as it is now, in evaluation mode. No submodule of whoever holds it: neither trained
    nor moved nor saved.

    Called like `denoiser.predict`, without a gradient.
    """

    def __init__(self, network: denoisers.Denoiser):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return denoisers.predict(self.network, x_t, t, labels)


def value_and_gradient(
    module: DiffusionModule, network: denoisers.Denoiser, loss: Callable[[], Tensor]
) -> tuple[Tensor, Tensor]:
    """A loss () of this step's whole batch and its gradient (P,) by the weights of `network` that
    may move.

    loss: its value for the part of the batch that is drawn now; it is called for each pass of the
    step, and the mean over passes and processes is what every process returns.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    now, total = module.micro, 0.0
    for number in range(module.accumulate):
        module.micro = number
        value = loss()
        gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
        total = total + torch.cat([value.detach()[None], *(g.flatten() for g in gradients)])
    module.micro = now
    mean = distributed.mean(total / module.accumulate)
    return mean[0], mean[1:]


def random_label_losses(
    module: DiffusionModule, retain_weight: float, pseudo_label: int | None = None
) -> dict[str, Tensor]:
    """Answer under c_f what the network itself answers under the pseudo label; keep denoising the
    retain set.

    L = | eps(x_f, t; c_f) - stopgrad eps(x_f, t; c') |^2 + retain_weight |eps(x_r, t; c_r) -
    eps|^2, c' = (c_f+1) mod K, or pseudo_label

    Fan et al. 2024, "SalUn" (arXiv 2310.12508), as released for class-conditional DDPMs. There the
    first term is a mean and the second a sum over 3*32*32 elements times 1e-3, which is
    retain_weight = 3.072 in the mean units used here. The target comes from the current network, as
    there; label dropout is applied to neither side of the first term (there it is drawn
    independently for both, which only adds variance).
    """
    task = module.task
    forget = module.draw("forget", task.forget, label_dropout=0.0)
    retain = module.draw("retain", task.retain)
    x_t = module.noised(forget)
    pseudo = (
        pseudo_labels(task, forget.labels)
        if pseudo_label is None
        else torch.full_like(forget.labels, pseudo_label)
    )
    with torch.no_grad():
        wanted = denoisers.predict(module.denoiser, x_t, forget.t, pseudo)
    both = denoisers.predict(
        module.denoiser,
        torch.cat([x_t, module.noised(retain)]),
        torch.cat([forget.t, retain.t]),
        torch.cat([forget.labels, retain.labels]),
    ).float()
    answered, kept = both.split([len(forget.t), len(retain.t)])
    kind = task.schedule["prediction_type"]
    target = maths.target(retain.x_0, retain.noise, retain.t, module.alphas_cumprod, kind)
    return {
        "forget": module.matching_loss(answered, wanted),
        "retain": retain_weight * (kept - target).square().mean(),
    }


def pseudo_labels(task: Task, labels: Tensor) -> Tensor:
    """The retained class (B,) that stands in for each forgotten label."""
    table = torch.arange(len(task.class_names), device=labels.device)
    for c in task.forget_classes:
        table[c] = task.other_class(c)
    return table[labels]


Memory = Literal[
    "another_class", "nearest_class", "counterpart", "all_retain", "fixed_k", "generated", "noise"
]


def memory_set(task: Task, memory: Memory, size: int | None, memory_class: int | None) -> ImageSet:
    """The alternative data to be memorised under each forgotten condition, labelled with that
    condition.

    Args:
        memory: which images.
            another_class   real images of memory_class, or of the next retained class
            nearest_class   real images of the retained class whose mean is nearest in the oracle's
                            feature space
            counterpart     real images with the forgotten attribute flipped and the others kept
                            (CelebA)
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
        g = randomness.generator_for(task.seed, "memory", memory, c)
        other = replacement(task, memory, memory_class, c)
        if memory in ("generated", "noise"):
            n = size or 256
            shape = (n, *task.retain.images.shape[1:])
            if memory == "noise":
                images = torch.randint(256, shape, generator=g).to(torch.uint8)
            else:
                images = sample(
                    task.denoiser,
                    torch.full((n,), other),
                    schedule=task.schedule,
                    seed=int(torch.randint(2**31, (), generator=g)),
                )
            images = images.to(task.retain.labels.device)
        else:
            source = (
                task.retain
                if memory in ("all_retain", "fixed_k")
                else task.retain.of_classes([other])
            )
            limit = size or (10 if memory == "fixed_k" else len(source))
            images = source.take(
                torch.randperm(len(source), generator=g)[:limit].to(source.labels.device)
            ).images
        sets.append(ImageSet(images, torch.full((len(images),), c, device=images.device)))
    return ImageSet.join(sets)


def replacement(task: Task, memory: Memory, memory_class: int | None, forget_class: int) -> int:
    """The retained class that stands in for forget_class where the memory is images of one class;
    else the next one.
    """
    if memory == "nearest_class":
        return nearest_class(task, forget_class)
    if memory == "counterpart":
        return task.counterparts[forget_class]
    return task.other_class(forget_class) if memory_class is None else memory_class


def nearest_class(task: Task, forget_class: int) -> int:
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
    return min(distances, key=distances.get)


def batch_mean(values: Tensor) -> Tensor:
    """The mean over a step's whole batch of a number for each image (B,), of which each process has
    its own; no gradient.
    """
    return distributed.mean(values.detach().mean())
