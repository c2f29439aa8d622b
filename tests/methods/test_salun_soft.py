"""SalUn-soft: random labels, and a soft threshold towards the original after every step."""

from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import at_step
from small_classifiers import SMALL, classifying, learned, new_task
from test_resume import assert_same, train_in_two_parts
from tiny import moved, train, weights

from unrelearn.classification.classifying import Classifying
from unrelearn.methods.random_label import RandomLabel
from unrelearn.methods.salun_soft import SalUnSoft


def salun_soft(**changes) -> Classifying:
    settings = {**SMALL, "retain_weight": 1.0, "mask_ratio": 0.6, **changes}
    return classifying(SalUnSoft(**settings), new_task(network=learned()))


@pytest.mark.parametrize("step", [0, 2])
def test_the_threshold_is_the_quantile_of_all_changes_and_shrinks_them(step: int):
    module = salun_soft()
    module.prepare()
    parameters = list(module.network.parameters())
    before = [p.detach().numpy().astype(np.float64) for p in parameters]
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in parameters:
            p += 0.1 * torch.randn(p.shape, generator=g)
        changes = [p.numpy() - old for p, old in zip(parameters, before, strict=True)]
        at_step(module, step, lambda: module.method.after_step(module))
    sizes = np.sort(np.abs(np.concatenate([change.ravel() for change in changes])))
    count = int(0.6 * (1 - step / 4) * len(sizes))
    back = 0
    for p, old, change in zip(parameters, before, changes, strict=True):
        expected = old + np.sign(change) * np.maximum(np.abs(change) - sizes[count - 1], 0)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
        back += int((p.detach().numpy() == old).sum())
    assert count <= back <= count + 3  # to the bit; some may round to it


def test_after_each_step_the_share_is_back_at_the_original_and_not_at_an_earlier_state(
    tmp_path: Path,
):
    module, shares = salun_soft(max_steps=6, batch_size=100), []  # two epochs of D_f in one step
    start = {name: p.detach().clone() for name, p in module.network.named_parameters()}
    total = sum(p.numel() for p in start.values())

    def log_row(step: int, row: dict) -> None:
        equal = sum(int((p == start[name]).sum()) for name, p in module.network.named_parameters())
        shares.append(equal / total)

    train(module, tmp_path, log_row=log_row)
    expected = [int(0.6 * (1 - step / 6) * total) / total for step in range(6)]
    assert all(e <= share <= e + 0.01 for e, share in zip(expected, shares, strict=True))


def test_without_a_threshold_it_is_random_label(tmp_path: Path):
    soft = train(salun_soft(mask_ratio=0.0), tmp_path / "soft")
    plain = classifying(RandomLabel(**SMALL, retain_weight=1.0), new_task(network=learned()))
    expected = weights(train(plain, tmp_path / "plain"))
    for name, value in weights(soft).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


def test_weights_outside_a_mask_stay_as_they_were_to_the_bit(tmp_path: Path):
    module = salun_soft(saliency_fraction=0.5, mask_ratio=0.2)
    before = weights(module)
    train(module, tmp_path)
    for name, mask in module.mask.items():
        difference = before[name] != module.network.state_dict()[name]
        assert not difference[~mask].any() and difference[mask].any(), name


def test_the_hook_runs_once_in_each_step_without_gradients(tmp_path: Path):
    module, seen = salun_soft(), []
    before = weights(module)

    def after_step(t: Classifying) -> None:
        assert t is module and not torch.is_grad_enabled()
        seen.append((t.step, bool(moved(before, weights(module)))))

    module.method.after_step = after_step
    train(module, tmp_path)
    assert seen == [(step, True) for step in range(4)]


def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path):
    def new() -> Classifying:
        return salun_soft(max_steps=7)

    assert_same(train(new(), tmp_path / "whole"), train_in_two_parts(new, tmp_path / "parts", 5))
