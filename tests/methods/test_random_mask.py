"""The control with as many weights as SalUn, and what masks of a classifier hold still."""

from pathlib import Path

import pytest
import torch
from small_classifiers import SMALL, classifying, new_task
from tiny import denoising, moved, train, weights
from tiny import new_task as denoising_task

from unrelearn.classification.classifying import Classifying
from unrelearn.methods.random_label import RandomLabel
from unrelearn.methods.random_mask import RandomMask
from unrelearn.methods.salun import SalUn

LABELS = SMALL | {"retain_weight": 0.7}


def masked(kind: type, fraction: float, *, seed: int = 0, **changes) -> Classifying:
    record = kind(saliency_fraction=fraction, **LABELS | changes)
    return classifying(record, new_task(seed=seed, weight_decay=0.1))


def entries(kind: type, fraction: float, *, seed: int = 0) -> torch.Tensor:
    module = masked(kind, fraction, seed=seed)
    module.prepare()
    assert list(module.mask) == [name for name, _ in module.network.named_parameters()]
    assert all(p.shape == module.mask[n].shape for n, p in module.network.named_parameters())
    return torch.cat([part.flatten() for part in module.mask.values()])


@pytest.mark.parametrize("fraction", [0.5, 0.123])
def test_it_has_as_many_weights_as_salun_and_others(fraction: float):
    salient, ours, again, other = (
        entries(kind, fraction, seed=seed)
        for kind, seed in ((SalUn, 0), (RandomMask, 0), (RandomMask, 0), (RandomMask, 1))
    )
    count = len(ours)
    assert ours.sum() == salient.sum() == other.sum() == round(fraction * count)
    assert torch.equal(ours, again)
    for mask in (salient, other):  # chosen independently: in both is the square of the fraction
        both = (ours & mask).float().mean().item()
        assert both == pytest.approx(fraction**2, abs=4 * fraction / count**0.5)


@pytest.mark.parametrize("kind", [SalUn, RandomMask])
def test_weights_outside_the_mask_stay_to_the_bit_under_decay_and_momentum(
    kind: type, tmp_path: Path
):
    module = masked(kind, 0.3, max_steps=8)
    before = weights(module)
    train(module, tmp_path)
    (optimizer,) = module.trainer.optimizers
    assert optimizer.defaults["momentum"] == 0.9 and optimizer.defaults["weight_decay"] == 0.1
    held = changed = 0
    for name, part in module.mask.items():
        difference = before[name] != module.network.state_dict()[name]
        assert not difference[~part].any(), name
        held, changed = held + int((~part).sum()), changed + int(difference[part].sum())
    assert held == 1987 and changed > 0.95 * (2838 - 1987)
    free = train(masked(RandomLabel, None, max_steps=8), tmp_path / "free")
    drifted = [
        (before[name] != free.network.state_dict()[name])[~part].float().mean()
        for name, part in module.mask.items()
        if (~part).any()
    ]
    assert min(drifted) > 0.9  # which is no matter of course


@pytest.mark.parametrize("kind", [SalUn, RandomMask])
def test_with_all_weights_it_is_random_labels_to_the_bit(kind: type, tmp_path: Path):
    ours = train(masked(kind, 1.0), tmp_path / "ours")
    expected = train(masked(RandomLabel, None), tmp_path / "expected")
    assert ours.mask and expected.mask is None
    assert not moved(weights(ours), weights(expected)) and ours.rows == expected.rows
    fewer = train(masked(kind, 0.9), tmp_path / "fewer")
    assert moved(weights(fewer), weights(expected))


def test_the_mask_of_a_denoiser_is_over_what_is_trained():
    module = denoising(RandomMask(saliency_fraction=0.3, **LABELS), denoising_task())
    module.prepare()
    assert "class_embedding.weight" not in module.mask
    share = sum(int(p.sum()) for p in module.mask.values()) / sum(
        p.numel() for p in module.mask.values()
    )
    assert share == pytest.approx(0.3, abs=1e-4)
