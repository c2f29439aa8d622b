"""Boundary expanding: one class more in training, and none in what is written."""

from pathlib import Path

import torch
from formulas import at_step
from small_classifiers import (
    SMALL,
    assert_close,
    classifying,
    data,
    network,
    new_task,
    trained_by_hand,
)
from tiny import train, weights
from torch import Tensor
from torch.nn import functional as F

from unrelearn.classification import networks
from unrelearn.classification.classifying import Classifying, unit
from unrelearn.classification.networks import Network
from unrelearn.methods.boundary_expand import BoundaryExpand


def expand(*, seed: int = 0, **changes) -> Classifying:
    return classifying(BoundaryExpand(**SMALL | changes), new_task(seed=seed))


def test_training_is_that_of_pytorch_towards_the_eleventh_class(tmp_path: Path):
    module = expand()

    def loss(network: Network, step: int) -> Tensor:
        batch = at_step(module, step, lambda: module.draw("forget", module.task.forget))
        return F.cross_entropy(network(batch.x_0), torch.full((16,), 10))

    expected = trained_by_hand(module, loss)
    assert_close(weights(train(module, tmp_path)), expected)
    assert expected["head.weight"].shape == (11, 8) and expected["head.bias"].shape == (11,)


def test_the_head_is_widened_by_a_row_that_is_a_function_of_the_seed():
    before = network().head
    (ours, bias), (again, _), (other, _) = (
        expand(seed=seed).network.head.parameters() for seed in (0, 0, 1)
    )
    assert torch.equal(ours[:10], before.weight) and torch.equal(bias[:10], before.bias)
    assert torch.equal(ours, again) and not torch.equal(ours[10], other[10])
    assert 0 < ours[10].abs().max() <= 8**-0.5
    frozen = expand(blocks=["body"]).network.head
    assert not any(p.requires_grad for p in frozen.parameters()) and ours.requires_grad


def test_what_is_written_answers_among_ten_classes_again(tmp_path: Path):
    module = train(expand(ema_decay=0.5, learning_rate=0.3), tmp_path / "fit")
    wide = module.network.eval()
    assert module.save(tmp_path) == "ema"
    read = {label: networks.load(tmp_path / label).eval() for label in ("raw", "ema")}
    x = unit(data().test.images[:50])
    with torch.no_grad():
        torch.testing.assert_close(read["raw"](x), wide(x)[:, :10])
        assert (wide(x).argmax(1) == 10).any()  # which would have counted as forgotten
        assert not torch.allclose(read["ema"](x), read["raw"](x), atol=1e-3)
    assert read["raw"].head.out_features == 10 and wide.head.weight.shape == (11, 8)
