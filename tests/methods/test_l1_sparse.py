"""l1-sparse: the retain loss and a penalty on the size of every weight."""

from pathlib import Path

import pytest
import torch
from formulas import at_step
from small_classifiers import SMALL, assert_close, classifying, trained_by_hand
from tiny import denoising, train, weights
from tiny import new_task as denoising_task
from torch import Tensor
from torch.nn import functional as F

from unrelearn.classification.networks import Network
from unrelearn.methods.l1_sparse import L1Sparse

GAMMA = {"linear": [0.02, 0.015, 0.01, 0.005], "constant": [0.02] * 4}


@pytest.mark.parametrize("decay", GAMMA)
def test_training_is_that_of_pytorch_with_the_penalty_of_each_step(decay: str, tmp_path: Path):
    module = classifying(L1Sparse(penalty_weight=0.02, decay=decay, **SMALL))

    def loss(network: Network, step: int, share: float = 1.0) -> Tensor:
        batch = at_step(module, step, lambda: module.draw("retain", module.task.retain))
        size = sum(p.abs().sum() for p in network.parameters())
        return F.cross_entropy(network(batch.x_0), batch.labels) + share * GAMMA[decay][step] * size

    expected = trained_by_hand(module, loss)
    without = trained_by_hand(module, lambda network, step: loss(network, step, 0.0))
    assert_close(weights(train(module, tmp_path)), expected)
    assert (expected["head.weight"] - without["head.weight"]).abs().max() > 1e-3


def test_a_denoiser_is_penalised_for_the_weights_that_are_trained():
    task = denoising_task()
    module = denoising(L1Sparse(penalty_weight=0.02, **SMALL), task)
    trained = [p for name, p in module.network.named_parameters() if "class_embedding" not in name]
    size = sum(p.detach().double().abs().sum().item() for p in trained)
    penalty = at_step(module, 3, lambda: module.method.losses(module)["penalty"])
    assert penalty.item() == pytest.approx(0.005 * size, rel=1e-5)
    task.loss_reduction = "sum"
    in_sums = denoising(module.method, task)
    penalty = at_step(in_sums, 3, lambda: in_sums.method.losses(in_sums)["penalty"])
    assert penalty.item() == pytest.approx(64 * 0.005 * size, rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, module.network.conv_in.weight)
    assert torch.allclose(gradient, 64 * 0.005 * module.network.conv_in.weight.sign())
