"""Pruning the smallest weights."""

import pytest
import torch
from formulas import at
from small_classifiers import classifying, learned
from small_classifiers import new_task as classifier_task
from tiny import (
    denoising,
    moved,
    network,
    new_task,
    weights,
)

from unrelearn.attacks.prune import Prune
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING

MATRICES = {name for name, p in network().named_parameters() if p.ndim >= 2}


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_pruning_sets_the_smallest_weights_of_all_to_zero(level: float):
    module = denoising(Prune(levels=[level]), new_task())
    ranked = MATRICES - {CLASS_EMBEDDING}
    before = torch.cat(
        [p.flatten() for name, p in module.network.named_parameters() if name in ranked]
    ).detach()
    found = at(module, level)
    after = torch.cat(
        [found[name].flatten() for name, _ in module.network.named_parameters() if name in ranked]
    )
    assert (after == 0).sum() == round(level * len(after)) and torch.equal(
        after[after != 0], before[after != 0]
    )
    assert before[after == 0].abs().max() <= before[after != 0].abs().min()


@pytest.mark.parametrize("level", [0.2, 0.6])
def test_of_a_classifier_convolutions_and_the_head_are_ranked_together(level: float):
    module = classifying(Prune(levels=[level]), classifier_task(network=learned()))
    before, found = weights(module), at(module, level)
    ranked = [name for name, value in before.items() if value.ndim in (2, 4)]
    assert "head.weight" in ranked and not module.spared
    start, end = (torch.cat([part[name].flatten() for name in ranked]) for part in (before, found))
    size = start.abs().sort().values[round(level * len(start)) - 1]
    assert torch.equal(end, torch.where(start.abs() > size, start, 0.0))
    below = {name for name in ranked if (before[name].abs() <= size).any()}
    assert moved(before, found) == below and len(below) > 5
