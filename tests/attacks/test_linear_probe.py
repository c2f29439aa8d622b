"""A new head on a body that stays."""

import copy
from pathlib import Path

import pytest
import torch
from small_classifiers import classifying, data, learned, linear, new_task
from tiny import moved, train, weights
from torch.nn import functional as F

from unrelearn.attacks.linear_probe import LinearProbe
from unrelearn.classification.classifying import Classifying, unit
from unrelearn.classification.epochs import epoch_indexes
from unrelearn.classification.networks import Network
from unrelearn.data import ImageSet

ATTACK = dict(budgets=[0, 4], batch_size=16, learning_rate=0.1)


def public() -> ImageSet:
    return data().test.take(torch.arange(0, 400, 2))


def probe(network: Network, classes: tuple[int, ...] = (), **changes) -> Classifying:
    given = {**ATTACK, "data": "public", **changes}
    return classifying(LinearProbe(**given), new_task(classes, network=network, public=public()))


@torch.no_grad()
def answers(module: Classifying, x: torch.Tensor) -> torch.Tensor:
    return module.method.exported(module.network).eval()(x)


@pytest.mark.parametrize("source", ["public", "retain"])
def test_it_is_softmax_regression_on_standardised_features(source: str, tmp_path: Path):
    network = learned()
    module = probe(network, data=source)
    held = public() if source == "public" else module.task.retain
    with torch.no_grad():
        known = copy.deepcopy(network).eval().features(unit(held.images)).double()
    z = (known - known.mean(0)) / known.std(0, correction=0)
    weight = torch.zeros(10, 8, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], 0.1, momentum=0.9, weight_decay=5e-4)
    for step in range(4):
        some = epoch_indexes((0, "attack", "probe"), len(held), 16 * step, 16)
        optimizer.zero_grad()
        F.cross_entropy(z[some] @ weight.T + bias, held.labels[some]).backward()
        optimizer.step()
    train(module, tmp_path)
    expected = (z @ weight.T + bias).detach().float()
    torch.testing.assert_close(answers(module, unit(held.images)), expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.1


def test_the_body_stays_to_the_bit_and_the_old_head_counts_nothing(tmp_path: Path):
    network, other = learned(), learned()
    torch.nn.init.normal_(other.head.weight)
    before = weights(probe(learned()))
    ours, theirs = (
        train(probe(start), tmp_path / name) for name, start in (("a", network), ("b", other))
    )
    heads = {"head.weight", "head.bias"}
    assert moved(before, weights(ours)) == heads and not moved(weights(ours), weights(theirs))
    assert not ours.network.body.training


def test_it_does_not_depend_on_the_units_of_the_features(tmp_path: Path):
    expected = train(probe(learned()), tmp_path / "plain")
    scaled = learned()
    scaled.body[-1].factor *= 1000
    ours, x = train(probe(scaled), tmp_path / "scaled"), unit(public().images)
    with torch.no_grad():
        apart = ours.network.eval().features(x) / expected.network.eval().features(x)
    assert apart.median().item() == pytest.approx(1000, rel=1e-4)
    torch.testing.assert_close(answers(ours, x), answers(expected, x), rtol=1e-3, atol=1e-4)


def test_a_feature_that_is_always_the_same_does_no_harm(tmp_path: Path):
    module = probe(linear())  # some pixels of the border are black in every digit
    assert (unit(public().images).flatten(1).std(0) == 0).any()
    train(module, tmp_path)
    assert answers(module, unit(public().images)).isfinite().all()


def test_a_class_without_a_row_is_answered_again_where_its_features_are_apart(tmp_path: Path):
    network = learned()
    with torch.no_grad():
        network.head.bias[7] = -1e4
    module = train(probe(network, (7,), budgets=[30]), tmp_path)
    seen = answers(module, unit(module.task.forget.images)).argmax(1)
    assert (seen == 7).float().mean() > 0.6


def test_only_public_images_show_what_was_forgotten():
    for source, sees in (("public", True), ("retain", False)):
        attack = LinearProbe(**ATTACK, data=source)
        assert attack.holds_public == attack.sees_forgotten == sees
