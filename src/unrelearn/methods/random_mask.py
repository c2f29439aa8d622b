"""A control for SalUn: its loss and the density of its mask, but weights chosen by the seed.

What SalUn (`salun`) owes to saliency, and not to moving few weights, is its distance to this one.
The mask is SalUn's own with its entries in a random order over all weights that are trained, and so
has exactly as many of them.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.masks import Mask
from unrelearn.method import Method
from unrelearn.objectives import random_labels
from unrelearn.randomness import generator_for
from unrelearn.ranges import Share, Weight

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class RandomMask(Method):
    retain_weight: Weight  # of the retain loss, both terms being means over elements
    saliency_fraction: Share = field()  # of all trainable weights those that may move

    passes = (2, 1)

    def prepare(self, t: "Classifying") -> None:
        if t.mask is not None:  # there is none where no step is taken
            t.mask = shuffled(t.mask, generator_for(t.task.seed, self.stage, "random_mask"))

    def losses(self, t: "Classifying") -> dict[str, Tensor]:
        return random_labels(t, self.retain_weight)


def shuffled(mask: Mask, g: torch.Generator) -> Mask:
    """A mask with the entries of this one in a random order."""
    entries = torch.cat([part.flatten() for part in mask.values()])
    order = torch.randperm(len(entries), generator=g).to(entries.device)
    parts = entries[order].split([part.numel() for part in mask.values()])
    return {name: part.view_as(mask[name]) for name, part in zip(mask, parts, strict=True)}
