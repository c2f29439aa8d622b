"""SISS: importance weights of a common image, and a short forget gradient."""

from pathlib import Path

import pytest
import torch
from formulas import abar, first_gradient, gradients, mean_squared_error, x_t
from makers import siss
from test_gradients import _losses_of_step_zero
from torch import Tensor

from unrelearn.diffusion.denoising import Denoising
from unrelearn.gradients import projection
from unrelearn.methods.siss import difference
from unrelearn.randomness import generator_for


def importance(module: Denoising) -> tuple[dict, Tensor, Tensor]:
    """This step's pair, and the weights (2, B) of x and of a from the densities of the Gaussians,
    in float64.
    """
    kept = module.draw("retain", module.task.retain)
    lost = module.draw("forget", module.task.forget, label_dropout=0.0)
    lost.t, lost.noise = kept.t, kept.noise
    n = len(kept.t)
    chosen = (
        torch.rand(n, generator=generator_for(0, "unlearn", "mixture", 0)) < module.method.mixture
    )
    m = torch.where(chosen.view(-1, 1, 1, 1), x_t(lost), x_t(kept)).double()
    density = [
        torch.distributions.Normal(abar(b.t).sqrt() * b.x_0.double(), (1 - abar(b.t)).sqrt())
        .log_prob(m)
        .sum((1, 2, 3))
        for b in (kept, lost)
    ]
    shares = (
        torch.tensor([1 - module.method.mixture, module.method.mixture], dtype=torch.float64)
        .log()
        .view(2, 1)
    )
    density = torch.stack(density)
    return (
        {"kept": kept, "lost": lost, "m": m.float()},
        density.sub((density + shares).logsumexp(0)).exp(),
        chosen,
    )


@pytest.mark.parametrize("mixture", [0.5, 0.2])
def test_siss_weighs_the_errors_of_a_common_image_by_its_densities(mixture: float):
    module = siss(mixture=mixture, batch_size=64)
    losses = module.method.losses(module)
    pair, importances, chosen = importance(module)
    assert chosen.float().mean().item() == pytest.approx(mixture, abs=0.15)
    balance = (1 - mixture) * importances[0] + mixture * importances[1]
    torch.testing.assert_close(balance, torch.ones(64, dtype=torch.float64))
    assert ((importances[0] > 0.1) & (importances[1] > 0.1)).any() and (
        importances < 1e-3
    ).any()  # mixed ones and clear ones
    expected = []
    for weight, batch in zip(importances, (pair["kept"], pair["lost"]), strict=True):
        noise = (pair["m"] - abar(batch.t).sqrt() * batch.x_0) / (1 - abar(batch.t)).sqrt()
        answer = module.network(pair["m"], batch.t, class_labels=batch.labels).sample
        expected.append((weight * (answer - noise).square().mean((1, 2, 3))).mean())
    assert losses["retain"].item() == pytest.approx(expected[0].item(), rel=1e-3)
    assert losses["forget"].item() == pytest.approx(-expected[1].item(), rel=1e-3)


def test_the_weighted_loss_is_on_average_that_of_plain_denoising():
    module = siss(batch_size=2000, label_dropout=0.0)
    with torch.no_grad():
        losses = module.method.losses(module)
        for name, data in (("retain", module.task.retain), ("forget", module.task.forget)):
            plain = mean_squared_error(module, module.draw(f"plain {name}", data)).item()
            assert abs(losses[name].item()) == pytest.approx(plain, rel=0.1)


def test_the_forget_gradient_is_a_tenth_of_the_retain_gradient_and_subtracted(tmp_path: Path):
    found, plain = (
        first_gradient(siss(), tmp_path / "1"),
        first_gradient(siss(forget_share=None), tmp_path / "2"),
    )
    module = siss()
    losses = _losses_of_step_zero(module)
    g_a, g_x = (gradients(module, losses[name]) for name in ("forget", "retain"))
    torch.testing.assert_close(
        found, g_x + 0.1 * g_x.norm() / g_a.norm() * g_a, rtol=1e-3, atol=1e-5
    )
    torch.testing.assert_close(plain, g_x + g_a, rtol=1e-3, atol=1e-5)
    assert (found - g_x).norm().item() == pytest.approx(0.1 * g_x.norm().item(), rel=1e-3)


def test_without_a_forget_gradient_the_retain_gradient_is_left():
    g = torch.tensor([3.0, 4.0])
    assert torch.equal(difference(torch.zeros(2), g, 0.1), g)
    assert torch.allclose(difference(torch.tensor([0.0, -7.0]), g, 0.1), torch.tensor([3.0, 3.5]))


def test_another_way_to_combine_takes_the_place_of_the_difference():
    assert (
        siss(combine="projection").combiner is projection
        and siss(combine="alternation").combiner is None
    )
