"""How a classifier is trained from scratch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How each member is trained: by SGD.

    Args:
        max_steps: optimiser steps. batch_size: images of a member in each.
        learning_rate: the highest. lr_schedule: see optimizers.schedule.
        grad_clip: largest norm of a member's gradient.
        augmentation: one of augmentation.POLICIES. flip: whether images may be mirrored.
    """

    max_steps: int
    batch_size: int
    learning_rate: float
    lr_schedule: str = "one_cycle"
    grad_clip: float = 5.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: str = "none"
    flip: bool = False
