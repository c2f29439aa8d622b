"""Pruning the smallest weights."""

import pytest
import torch
from formulas import at
from tiny import (
    denoising,
    network,
    new_task,
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
