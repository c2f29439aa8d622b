"""NegGrad+: descent on the retain set, ascent on the forget set."""

from pathlib import Path

import pytest
import torch
from formulas import at_step, gradients, mean_squared_error
from small_classifiers import SMALL, assert_close, classifying, trained_by_hand
from tiny import denoising, train, weights
from tiny import new_task as denoising_task
from torch import Tensor
from torch.nn import functional as F

from unrelearn.classification.networks import Network
from unrelearn.methods.neggrad_plus import NegGradPlus


def test_training_is_that_of_pytorch(tmp_path: Path):
    module = classifying(NegGradPlus(retain_share=0.8, **SMALL))

    def loss(network: Network, step: int) -> Tensor:
        forget, retain = (
            at_step(module, step, lambda name=name, data=data: module.draw(name, data))
            for name, data in (("forget", module.task.forget), ("retain", module.task.retain))
        )
        z = network(torch.cat([forget.x_0, retain.x_0]))
        lost, kept = F.cross_entropy(z[:16], forget.labels), F.cross_entropy(z[16:], retain.labels)
        return 0.8 * kept - 0.2 * lost

    expected = trained_by_hand(module, loss)
    assert_close(weights(train(module, tmp_path)), expected)
    recorded = module.rows[0]
    assert recorded["forget"] < 0 < recorded["retain"]


def test_a_denoiser_descends_and_climbs_in_the_same_shares():
    module = denoising(NegGradPlus(retain_share=0.8, **SMALL), denoising_task())
    losses = module.method.losses(module)
    forget = module.draw("forget", module.task.forget, label_dropout=0.0)
    retain = module.draw("retain", module.task.retain)
    assert set(forget.labels.tolist()) == {7}
    lost, kept = (mean_squared_error(module, batch) for batch in (forget, retain))
    assert losses["forget"].item() == pytest.approx(-0.2 * lost.item(), rel=1e-5)
    found, wanted = sum(losses.values()), 0.8 * kept - 0.2 * lost
    torch.testing.assert_close(
        gradients(module, found), gradients(module, wanted), rtol=1e-3, atol=1e-5
    )
