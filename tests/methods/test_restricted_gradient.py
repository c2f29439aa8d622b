"""Restricted gradient: truncated ascent, and two projections."""

from pathlib import Path

import pytest
import torch
from formulas import answer, flat_gradient, mean_squared_error, wanted, x_t
from makers import SMALL
from tiny import denoising, from_yaml, new_task, train
from torch import Tensor

from unrelearn.diffusion.denoising import Denoising
from unrelearn.methods.restricted_gradient import RestrictedGradient

KINDS = ["epsilon", "v_prediction"]


@pytest.mark.parametrize("kind", KINDS)
def test_restricted_gradient_ascends_only_where_the_error_is_below_the_truncation(kind: str):
    module = denoising(
        RestrictedGradient(truncation=0.2, retain_weight=5.0, **SMALL),
        new_task(prediction_type=kind),
    )
    forget = module.draw("forget", module.task.forget, label_dropout=0.0)
    squared = (answer(module.network, x_t(forget), forget.t, 7) - wanted(forget, kind)) ** 2
    assert 0.1 < (squared < 0.2).float().mean() < 0.9
    ascent = -torch.where(squared < 0.2, squared, torch.tensor(0.2)).mean()
    kept = 5.0 * mean_squared_error(module, module.draw("retain", module.task.retain), kind)
    losses = module.method.losses(module)
    for name, expected in (("forget", ascent), ("retain", kept)):
        assert losses[name].item() == pytest.approx(expected.item(), rel=1e-4)
        torch.testing.assert_close(
            flat_gradient(module.network, losses[name]),
            flat_gradient(module.network, expected),
            rtol=1e-3,
            atol=1e-5,
        )


def step_of(module: Denoising, folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of the first step, and those of the forget and the retain loss at the same
    weights and batch.
    """
    parts = [
        flat_gradient(module.network, loss)
        for loss in (module.method.losses(module)[name] for name in ("forget", "retain"))
    ]
    seen = []
    module.configure_gradient_clipping = lambda *a, **k: seen.append(
        torch.cat([p.grad.flatten() for _, p in module.trained])
    )
    train(module, folder)
    return seen[0].double(), *parts


def test_restricted_gradient_takes_the_step_of_two_projections(compose, tmp_path: Path):
    step, g_f, g_r = step_of(
        from_yaml(compose, "method", "restricted_gradient", steps=1)(new_task()), tmp_path
    )
    expected = g_f - (g_f @ g_r) / (g_r @ g_r) * g_r + g_r - (g_f @ g_r) / (g_f @ g_f) * g_f
    torch.testing.assert_close(step, expected, rtol=1e-2, atol=1e-4)
    assert step @ g_f >= 0 and step @ g_r >= 0
