"""MUNBa: the step of the released closed form."""

from pathlib import Path

import pytest
import torch
from formulas import flat_gradient
from makers import SMALL
from tiny import denoising, from_yaml, new_task, train
from torch import Tensor

from unrelearn.diffusion.denoising import Denoising
from unrelearn.methods.munba import MUNBa
from unrelearn.methods.restricted_gradient import RestrictedGradient


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


def test_munba_takes_the_step_of_the_released_closed_form(compose, tmp_path: Path):
    step, g_f, g_r = step_of(from_yaml(compose, "method", "munba", steps=1)(new_task()), tmp_path)
    rr, rf, ff = g_r @ g_r, g_r @ g_f, g_f @ g_f
    a_r = ((rr * ff - rf * (rr * ff).sqrt()) / (rr * rr * ff - rr * rf * rf)).sqrt()
    a_f = (1 - rr * a_r * a_r) / (rf * a_r)
    assert a_r > 0 and a_f > 0
    torch.testing.assert_close(step, a_r * g_r + a_f * g_f, rtol=1e-2, atol=1e-4)


def test_the_weights_of_munbas_losses_do_not_matter(tmp_path: Path):
    class Weighted(MUNBa):
        def losses(self, t: Denoising) -> dict[str, Tensor]:
            losses = super().losses(t)
            return {"forget": 0.01 * losses["forget"], "retain": 30 * losses["retain"]}

    plain, weighted = (
        train(denoising(kind(**SMALL), new_task()), tmp_path / kind.__name__)
        for kind in (MUNBa, Weighted)
    )
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(weighted.state_dict()[name], value, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [MUNBa, RestrictedGradient])
def test_how_gradients_are_combined_may_be_chosen(kind: type):
    constants = {} if kind is MUNBa else {"truncation": 0.4, "retain_weight": 5.0}
    by_default = {MUNBa: "bargaining", RestrictedGradient: "projection"}[kind]
    assert kind(**SMALL, **constants).combine == by_default
    assert kind(**SMALL, **constants, combine="sum").combiner is None
