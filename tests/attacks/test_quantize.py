"""Rounding weights to a few bits."""

import pytest
import torch

from unrelearn.attacks.quantize import rounded


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_errs_by_half_a_step_and_has_so_many_levels(bits: int):
    weight = torch.randn(5, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    weight[1], weight[2] = 100 * weight[1], 0.0
    found, m = rounded(weight, bits), 2 ** (bits - 1) - 1
    scale = weight.flatten(1).abs().amax(1) / m
    assert ((found - weight).flatten(1).abs().amax(1) <= scale / 2 * (1 + 1e-5)).all()
    for channel in (0, 1, 3, 4):
        steps = found[channel].flatten() / scale[channel]
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert steps.abs().max().round() == m and len(steps.round().unique()) <= 2 * m + 1
    assert (found[2] == 0).all()


def test_what_is_on_the_grid_is_not_rounded():
    grid = torch.randint(-7, 8, (4, 9), generator=torch.Generator().manual_seed(0)).float()
    grid[:, 0] = 7.0
    grid *= torch.tensor([[1.0], [0.25], [2.0**-20], [0.0]])
    assert torch.equal(rounded(grid, 4), grid) and not torch.equal(rounded(grid, 3), grid)
