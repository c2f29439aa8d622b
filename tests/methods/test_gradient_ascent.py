"""Climbing the loss of the forget set."""

import torch
from formulas import gradients, mean_squared_error
from tiny import (
    denoising,
    new_task,
)

from unrelearn.methods.gradient_ascent import GradientAscent

SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


def test_gradient_ascent_climbs_the_forget_loss_and_descends_the_retain_loss():
    module = denoising(GradientAscent(forget_weight=0.6, **SMALL), new_task())
    losses = module.method.losses(module)
    forget = module.draw("forget", module.task.forget, label_dropout=0.0)
    retain = module.draw("retain", module.task.retain)
    assert forget.labels.tolist() == [7] * 8
    found = gradients(module, sum(losses.values()))
    expected = gradients(module, mean_squared_error(module, retain))
    expected = expected - 0.6 * gradients(module, mean_squared_error(module, forget))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
