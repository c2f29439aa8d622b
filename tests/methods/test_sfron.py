"""SFR-on: forget steps on the weights in the mask, retain steps on all."""

import math
from pathlib import Path

import pytest
import torch
from formulas import at_step, first_gradient, gradients, mean_squared_error, x_t
from makers import sfron
from test_gradients import _losses_of_step_zero
from tiny import moved, train, weights
from torch import Tensor

from unrelearn.diffusion.denoising import Denoising


@pytest.mark.parametrize("step", [0, 2, 4])
def test_sfron_climbs_less_where_the_loss_is_large_and_less_and_less(step: int):
    module = sfron(max_steps=5, loss_power=0.5, label_dropout=0.3)
    module.prepare()

    def losses_and_draws() -> tuple:
        return (
            module.method.losses(module),
            module.draw("forget", module.task.forget),
            module.draw("retain", module.task.retain),
        )

    losses, forget, retain = at_step(module, step, losses_and_draws)
    output = module.network(x_t(forget), forget.t, class_labels=forget.labels).sample
    each = ((output - forget.noise) ** 2).mean((1, 2, 3))
    share = each.detach() ** -0.5 / (each.detach() ** -0.5).sum()
    expected = -10.0 * (1 + math.cos(math.pi * step / 5)) / 2 * (share * each).sum()
    assert (
        losses["forget"].item() == pytest.approx(expected.item(), rel=1e-4)
        and share.max() > 1.2 * share.min()
    )
    assert losses["retain"].item() == pytest.approx(
        mean_squared_error(module, retain).item(), rel=1e-5
    )
    torch.testing.assert_close(
        gradients(module, losses["forget"]), gradients(module, expected), rtol=1e-3, atol=1e-5
    )


def steps_of(module: Denoising, folder: Path) -> list[dict[str, Tensor]]:
    """The weights before the first step and after each."""
    states = [weights(module)]
    train(module, folder, log_row=lambda step, row: states.append(weights(module)))
    return states


def test_a_forget_step_moves_the_weights_in_the_mask_and_a_retain_step_all(tmp_path: Path):
    module = sfron(max_steps=4, learning_rate=1e-2)
    states = steps_of(module, tmp_path)
    inside = outside = 0
    for name, mask in module.mask.items():
        for step in (0, 2):  # in the second one Adam has momentum from the retain step between
            difference = states[step + 1][name] != states[step][name]
            assert not difference[~mask].any(), (step, name)
            inside += int(difference[mask].sum())
        outside += int((states[2][name] != states[1][name])[~mask].sum())
    masked = sum(int(mask.sum()) for mask in module.mask.values())
    total = sum(mask.numel() for mask in module.mask.values())
    assert 0.02 < masked / total < 0.98
    assert inside > 0.9 * 2 * masked and outside > 0.9 * (total - masked)
    assert module.method.moving(module) is module.mask is not None


def test_each_step_takes_the_gradient_of_its_turn(tmp_path: Path):
    found = first_gradient(sfron(max_steps=2), tmp_path)
    module = sfron(max_steps=2)
    module.prepare()
    torch.testing.assert_close(
        found, gradients(module, _losses_of_step_zero(module)["forget"]), rtol=1e-3, atol=1e-5
    )


def test_the_gradient_is_masked_first_and_clipped_second(tmp_path: Path):
    module, norms = sfron(max_steps=3, grad_clip=1e-3), []
    module.on_before_zero_grad = lambda optimizer: norms.append(
        math.sqrt(sum(p.grad.square().sum() for _, p in module.trained if p.grad is not None))
    )
    train(module, tmp_path)
    assert norms[1:] == pytest.approx([1e-3] * (len(norms) - 1), rel=1e-3)


def test_without_turns_the_mask_holds_in_every_step(tmp_path: Path):
    module = sfron(combine="sum")
    states = steps_of(module, tmp_path)
    for name, mask in module.mask.items():
        assert torch.equal(states[0][name][~mask], states[-1][name][~mask])
    assert moved(states[0], states[-1])
