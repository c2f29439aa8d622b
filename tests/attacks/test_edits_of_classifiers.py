"""Attacks that edit any model, on classifiers."""

from pathlib import Path

import pytest
import torch
from formulas import at
from hydra.utils import instantiate
from small_classifiers import classifying, learned, network, new_task
from tiny import moved, train, weights

from unrelearn.attacks.quantize import rounded
from unrelearn.classification.classifying import Classifying
from unrelearn.config import constructor_arguments

EDITS = ("interpolation", "prune", "quantize", "weight_noise")


def edit(compose, name: str, *, seed: int = 0) -> Classifying:
    """What the pipeline makes of a yaml."""
    given = compose("experiment=classification", f"attack={name}")["attack"]
    record = instantiate(constructor_arguments(given), _convert_="all")
    return classifying(record, new_task(network=learned(), original=network, seed=seed))


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_undone_after_each_level_and_repeats_to_the_bit(
    name: str, compose, tmp_path: Path
):
    module, again = (train(edit(compose, name), tmp_path / part) for part in ("first", "again"))
    before, levels = weights(module), module.method.levels
    assert not moved(before, learned().state_dict())
    found = [at(module, level) for level in levels]
    assert not moved(before, weights(module)) and [row["step"] for row in module.rows] == levels
    for level, edited in zip(reversed(levels), reversed(found), strict=True):
        assert not moved(edited, at(again, level))
    parameters = {key for key, _ in module.network.named_parameters()}
    matrices = {key for key, value in before.items() if value.ndim in (2, 4)}
    statistics = {key for key in before if key.endswith(("running_mean", "running_var"))}
    expected = {
        "interpolation": parameters | statistics,
        "prune": matrices,
        "quantize": matrices,
        "weight_noise": parameters,
    }[name]
    changed = [moved(before, edited) for edited in found]
    assert all(names <= expected for names in changed) and changed[-1] == expected


def test_quantised_weights_are_on_the_grid_of_their_row(compose):
    module = edit(compose, "quantize")
    before = weights(module)
    for name, value in at(module, 4).items():
        wanted = rounded(before[name], 4) if value.ndim in (2, 4) else before[name]
        assert torch.equal(value, wanted), name


def test_noise_is_in_standard_deviations_of_each_tensor_and_another_seed_draws_another(compose):
    module, other = edit(compose, "weight_noise"), edit(compose, "weight_noise", seed=1)
    before, small, large = weights(module), at(module, 0.1), at(module, 0.2)
    assert moved(small, at(other, 0.1)) == moved(before, small)
    for name, parameter in module.network.named_parameters():
        noise = small[name] - before[name]
        torch.testing.assert_close(large[name] - before[name], 2 * noise, rtol=1e-3, atol=1e-6)
        if parameter.numel() > 300:
            assert (noise.std() / parameter.std()).item() == pytest.approx(0.1, rel=0.15)
