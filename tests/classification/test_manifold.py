"""Neighbours, centres and margins, and the networks that margins are taken from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_classifiers import CONFIG, data, learned, network
from tiny import moved
from torch.nn import functional as F

from unrelearn.classification import manifold
from unrelearn.classification.bank import Bank, Member
from unrelearn.classification.classifying import unit
from unrelearn.classification.manifold import FeatureLayout, FeatureSpace, Tuning
from unrelearn.classification.recipe import Recipe


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights_of(net) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in net.named_parameters()}


@pytest.fixture(scope="module")
def space() -> FeatureSpace:
    """30 forgotten and 90 retained images where a trained network puts them."""
    net, train = learned(), data().train
    forget, retain = train.take(torch.arange(30)), train.take(torch.arange(30, 120))
    features = [manifold.features(net, part) for part in (forget, retain)]
    return FeatureSpace(manifold.layout(net, *features, 5, generator()), *features)


def test_features_are_those_of_evaluation_mode_in_any_number_of_parts(
    monkeypatch: pytest.MonkeyPatch,
):
    net, some = learned().train(), data().train.take(torch.arange(50))
    monkeypatch.setattr(manifold, "AT_ONCE", 20)
    assert [len(x) for x in manifold.pictures(some, torch.device("cpu"))] == [17, 17, 16]
    statistics = {name: value.clone() for name, value in net.named_buffers()}
    found = manifold.features(net, some)
    assert net.training and not moved(statistics, dict(net.named_buffers()))
    with torch.no_grad():
        expected = net.eval().features(unit(some.images))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_neighbours_are_those_of_largest_cosine(space: FeatureSpace):
    forget, retain = space.forget.double().numpy(), space.retain.double().numpy()
    for u, z in enumerate(forget):
        cosines = [z @ w / np.linalg.norm(z) / np.linalg.norm(w) for w in retain]
        assert space.layout.neighbours[u].tolist() == np.argsort(cosines)[::-1][:5].tolist()
    few = manifold.nearest(space.forget, space.retain[:3], 5)
    assert few.shape == (30, 3)  # no more than there are


def test_a_layout_holds_predictions_and_pairs_of_different_images(space: FeatureSpace):
    net = learned().eval()
    with torch.no_grad():
        answers = net(unit(data().train.images[:120])).argmax(1)
    assert torch.equal(torch.cat([space.layout.forget, space.layout.retain]), answers)
    assert not torch.equal(answers, data().train.labels[:120])
    a, b = space.layout.pairs
    assert (a != b).all() and set(a.tolist()) == set(b.tolist()) == set(range(90))


def brute_margins(space: FeatureSpace, direction: str) -> list[float]:
    """One image after the other."""
    forget, retain = space.forget.double().numpy(), space.retain.double().numpy()
    pairs = space.layout.pairs.T.tolist()
    scale = np.mean([((retain[a] - retain[b]) ** 2).sum() for a, b in pairs])
    margins = []
    for u, z in enumerate(forget):
        near = [retain[j] for j in space.layout.neighbours[u].tolist()]
        centre, mine = np.mean(near, axis=0), space.layout.forget[u]
        own = [w for w, c in zip(forget, space.layout.forget, strict=True) if c == mine]
        own += [w for w, c in zip(retain, space.layout.retain, strict=True) if c == mine]
        here = ((z - centre) ** 2).sum()
        if direction == "towards":
            margin = ((z - np.mean(own, axis=0)) ** 2).sum() - here
        else:
            margin = here - np.mean([((w - centre) ** 2).sum() for w in near])
        margins.append(max(0, margin) / scale)
    return margins


@pytest.mark.parametrize("direction", ["towards", "away"])
def test_margins_are_those_of_a_loop_over_images(space: FeatureSpace, direction):
    expected = brute_margins(space, direction)
    assert 0 < np.mean(np.array(expected) == 0) < 1
    np.testing.assert_allclose(space.margins(direction), expected, rtol=1e-4, atol=1e-6)


def test_margins_have_no_unit_of_the_features(space: FeatureSpace):
    """Nor does where the space has its origin or its axes."""
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator()))[0]
    moved = [7 * part @ turn + 3 for part in (space.forget, space.retain)]
    other = FeatureSpace(space.layout, *moved)
    for direction in ("towards", "away"):
        torch.testing.assert_close(
            other.margins(direction), space.margins(direction), rtol=1e-3, atol=1e-4
        )


def test_an_image_whose_class_no_other_has_is_its_own_centre():
    forget, retain = torch.randn(2, 3, generator=generator()), torch.randn(4, 3)
    near, pairs = torch.tensor([[0], [1]]), torch.tensor([[0], [1]])
    layout = FeatureLayout(near, torch.tensor([7, 0]), torch.tensor([0, 0, 1, 1]), pairs)
    torch.testing.assert_close(FeatureSpace(layout, forget, retain).own[0], forget[0])


def test_a_curve_begins_and_ends_at_its_ends_and_its_weights_sum_to_one():
    start, control, end = (weights_of(network(seed)) for seed in (1, 2, 3))
    for t in torch.linspace(0, 1, 11).tolist():
        assert sum(manifold.bezier(t)) == pytest.approx(1, abs=1e-12)
        assert min(manifold.bezier(t)) >= 0
    assert manifold.bezier(0.5) == (0.25, 0.5, 0.25)
    assert not moved(manifold.on_curve(start, control, end, 0.0), start)
    assert not moved(manifold.on_curve(start, control, end, 1.0), end)
    middle = manifold.on_curve(start, control, end, 0.5)["head.weight"]
    expected = (start["head.weight"] + 2 * control["head.weight"] + end["head.weight"]) / 4
    torch.testing.assert_close(middle, expected)


def test_the_first_step_of_a_control_point_is_the_chain_rule():
    """All points of the first curve are the network, and w has the share 2 t (1 - t) in them."""
    net, some = learned(), data().train.take(torch.arange(80))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = manifold.tuned_control(net, some, Tuning(1, 0.3, 40), generator(5))
    assert not moved(before, net.state_dict())
    g = generator(5)
    t = torch.rand((), generator=g).item()
    rows = torch.randint(80, (40,), generator=g)
    parameters = dict(net.train().named_parameters())
    loss = F.cross_entropy(net(unit(some.images[rows])), some.labels[rows])
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    for (name, p), gradient in zip(parameters.items(), gradients, strict=True):
        expected = p - 0.3 * 2 * t * (1 - t) * gradient
        torch.testing.assert_close(found[name], expected.detach(), rtol=1e-4, atol=1e-6)
    still = manifold.tuned_control(net, some, Tuning(0, 0.3, 40), generator(5))
    assert not moved(still, weights_of(net))


def test_training_the_control_point_lowers_the_loss_in_the_middle():
    net, some = learned(), data().train.take(torch.arange(300, 500))
    losses = []
    for steps in (0, 20):
        control = manifold.tuned_control(net, some, Tuning(steps, 0.05, 64), generator())
        middle = manifold.halfway(net, control, some)
        assert not middle.training
        with torch.no_grad():
            losses.append(F.cross_entropy(middle(unit(some.images)), some.labels).item())
    assert losses[1] < losses[0] - 0.05


def test_halfway_is_the_mean_of_both_with_statistics_of_the_images(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(manifold, "AT_ONCE", 20)
    net, some = learned(), data().train.take(torch.arange(45))
    control = manifold.untrained(net, 9)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = manifold.halfway(net, control, some)
    assert not moved(before, net.state_dict())
    for name, p in found.named_parameters():
        torch.testing.assert_close(p, (before[name] + control[name]) / 2)
    with torch.no_grad():
        seen = found.body[:4]((unit(some.images) - found.mean) / found.std)  # by the first norm
    mean = found.body[4].running_mean
    torch.testing.assert_close(mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_retrained_networks_are_members_of_a_bank_with_their_seeds():
    recipe = Recipe(max_steps=6, batch_size=20, learning_rate=0.05)
    train = data().train.take(torch.arange(40, 200))
    states = manifold.retrained(network(), train, recipe, [11, 12])
    bank = Bank(CONFIG, [Member(seed, torch.arange(160)) for seed in (11, 12)])
    bank.train(train, recipe)
    expected = bank.predict(data().test.images[:50])
    first, second = manifold.loaded(network(), states)
    with torch.no_grad():
        found = torch.stack([net(unit(data().test.images[:50])) for net in (first, second)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    longer = manifold.retrained(network(), train, replace(recipe, max_steps=7), [11])
    assert not torch.equal(longer["0.head.weight"], states["0.head.weight"])
