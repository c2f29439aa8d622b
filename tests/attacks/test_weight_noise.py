"""Noise on every weight."""

import pytest
import torch
from formulas import at
from tiny import (
    denoising,
    moved,
    network,
    new_task,
)

from unrelearn.attacks.weight_noise import WeightNoise


def test_weight_noise_has_one_direction_in_standard_deviations_of_each_tensor():
    module, before = denoising(WeightNoise(levels=[0.1, 0.2]), new_task()), network().state_dict()
    small, large = at(module, 0.1), at(module, 0.2)
    assert moved(before, at(denoising(WeightNoise(levels=[0.1]), new_task(seed=1)), 0.1)) == moved(
        before, small
    )
    for name, value in before.items():
        torch.testing.assert_close(
            large[name] - value, 2 * (small[name] - value), rtol=1e-3, atol=1e-6
        )
        if value.numel() > 500:
            assert (small[name] - value).std() / value.std() == pytest.approx(0.1, rel=0.15)
