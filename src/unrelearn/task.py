"""What a method or an attack is given: the network, the data, and what is dear to compute."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unrelearn.data import ImageSet
from unrelearn.errors import UsageError
from unrelearn.randomness import generator_for

Cached = Callable[[str, dict[str, Any], Callable[[], dict[str, Tensor]]], dict[str, Tensor]]
T = TypeVar("T", bound="Task")


def _no_original() -> nn.Module:
    raise UsageError(
        "Task.original: this attack compares with the original model, which nobody has given it. "
        "Type Task(..., original=lambda: NETWORK)"
    )


@dataclass
class Batch:
    """This process's part of a global batch: x_0 (B, C, H, W) in [-1, 1], labels (B,)."""

    x_0: Tensor
    labels: Tensor


@dataclass(kw_only=True)
class Task:
    """What is trained, and on what. A kind of model adds what it needs."""

    network: Any  # nn.Module, changed in place
    forget: ImageSet  # D_f and D_r, on the training device, or where they were if they do not
    retain: ImageSet  # fit there
    forget_classes: list[int]  # labels in D_f
    class_names: tuple[str, ...]  # one per label
    before: list[int] = field(default_factory=list)  # labels in neither: they were forgotten before
    forgotten: Any = None  # what names D_f among others of the same model; None: its classes
    seed: int | str  # of the run; of an attack with a seed of its own both, "0/1"
    horizontal_flip: bool = False  # whether training images are flipped, as in pretraining
    oracle: Any = None  # the classifier for methods that ask for it; never the held-out one
    # forgotten label -> the label of its counterpart, for data sets that have one (CelebA)
    counterparts: dict[int, int] = field(default_factory=dict)
    # (name, settings, compute) -> compute(), named tensors that are computed once for this starting
    # model and these settings and then kept; for what is dear and the same in many runs
    cached: Cached = lambda name, settings, compute: compute()
    original: Callable[[], nn.Module] = _no_original  # the original model's network, a new copy
    fitting: dict[tuple, int] = field(default_factory=dict)  # of diffusion.sampling, as the run's

    @property
    def name_of_forgotten(self) -> Any:
        """Of D_f, for what is kept of it."""
        return self.forget_classes if self.forgotten is None else self.forgotten

    @property
    def run_seed(self) -> int:
        """Of the run: without an attack's own."""
        return int(str(self.seed).partition("/")[0])

    @property
    def retain_classes(self) -> list[int]:
        gone = {*self.forget_classes, *self.before}
        return [c for c in range(len(self.class_names)) if c not in gone]

    def other_class(self, forget_class: int) -> int:
        """The next retained label after forget_class, cyclically: SalUn's pseudo label, (c_f + 1)
        mod K.
        """
        k, retained = len(self.class_names), self.retain_classes
        return next(c % k for c in range(forget_class + 1, forget_class + k) if c % k in retained)

    def stand_ins(self, labels: Tensor) -> Tensor:
        """The labels (B,) with the next retained class in place of each forgotten one; where images
        are forgotten one by one, the next class in place of each.
        """
        if not self.forget_classes:
            return (labels + 1) % len(self.class_names)
        table = torch.arange(len(self.class_names), device=labels.device)
        for c in self.forget_classes:
            table[c] = self.other_class(c)
        return table[labels]

    def part_of_retain(self, fraction: float) -> ImageSet:
        """The share of D_r that an attacker holds, in (0, 1]: at least one image; a smaller share
        is part of a larger one.
        """
        order = torch.randperm(
            len(self.retain), generator=generator_for(self.seed, "attacker's data")
        )
        held = order[: max(1, round(fraction * len(order)))]
        return self.retain.take(held.to(self.retain.labels.device))

    def shots(self, num_images: int) -> ImageSet:
        """The real images of each forgotten class that an attacker holds, class after class:
        num_images, or all there are. Where images are forgotten one by one: so many of these.
        """
        if not self.forget_classes:
            return self.held(self.forget, num_images, "forget")
        by_class = [self.forget.of_classes([c]) for c in self.forget_classes]
        pairs = zip(by_class, self.forget_classes, strict=True)
        return ImageSet.join([self.held(images, num_images, c) for images, c in pairs])

    def held(self, images: ImageSet, count: int, *name: object) -> ImageSet:
        """Those of some images that an attacker holds: count, or all there are. Fewer are part of
        more; name: another choice for each.
        """
        g = generator_for(self.seed, "attacker's data", *name)
        order = torch.randperm(len(images), generator=g)
        return images.take(order[:count].to(images.labels.device))

    def with_seed(self: T, own: int) -> T:
        """The task of an attack with a seed of its own; 0: as it is."""
        if not own:
            return self
        cached = self.cached
        return replace(
            self,
            seed=f"{self.seed}/{own}",
            cached=lambda name, settings, compute: cached(
                name, {**settings, "attack_seed": own}, compute
            ),
        )
