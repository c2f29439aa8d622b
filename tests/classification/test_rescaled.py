"""One way of writing a classifier, and that attacks do not depend on another one."""

import copy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from small_classifiers import classifying, learned, new_task
from tiny import moved, train
from torch import nn
from torch.nn import functional as F

from unrelearn.attacks.relearn import Relearn
from unrelearn.classification.canonical import canonical, pairs, rescale
from unrelearn.classification.networks import Network, NetworkConfig, build

CONFIGS = [
    NetworkConfig("fast", 8, 10, widths=(4, 6, 8)),
    NetworkConfig("resnet18_cifar", 8, 10),
    NetworkConfig("vgg16_bn", 16, 10),
]
NORMS = {"fast": 6, "resnet18_cifar": 20, "vgg16_bn": 13}


def images(config: NetworkConfig, count: int = 4) -> torch.Tensor:
    g = torch.Generator().manual_seed(5)
    return torch.rand((count, config.channels, config.image_size, config.image_size), generator=g)


@lru_cache
def trained(config: NetworkConfig) -> Network:
    """With statistics, and weights and biases of its norms, that are not those of a new network; no
    test changes it.
    """
    network, x = build(config, 1).train(), images(config)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(network(x), torch.arange(len(x))).backward()
        optimizer.step()
    return network.eval()


def in_other_units(network: Network, factor: float) -> Network:
    """The same function; every channel has a factor of its own, `factor` and more."""
    other = copy.deepcopy(network)
    for convolution, norm in pairs(other):
        rescale(convolution, norm, factor * (1 + torch.arange(norm.num_features) % 3))
    return other


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_canonical_form_is_the_same_function_with_rows_of_norm_one(config: NetworkConfig):
    network = trained(config)
    before = copy.deepcopy(network.state_dict())
    statistics = [norm.running_var for _, norm in pairs(network)]
    assert len(statistics) == NORMS[config.name] and not any((v == 1).any() for v in statistics)
    written, x = canonical(network), images(config, 5)
    with torch.no_grad():
        torch.testing.assert_close(written(x), network(x), rtol=1e-5, atol=1e-5)
    for convolution, _ in pairs(written):
        rows = convolution.weight.flatten(1).norm(dim=1)
        torch.testing.assert_close(rows, torch.ones_like(rows))
    assert not moved(before, network.state_dict())
    changed = moved(before, written.state_dict())
    assert len(changed) == 4 * NORMS[config.name] and not any(n.startswith("head") for n in changed)


@pytest.mark.parametrize("factor", [100.0, 0.03])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_other_units_are_the_same_function_and_have_the_same_canonical_form(
    config: NetworkConfig, factor: float
):
    network, x = trained(config), images(config, 5)
    other = in_other_units(network, factor)
    with torch.no_grad():
        torch.testing.assert_close(other(x), network(x), rtol=1e-4, atol=1e-5)
    (first, _), (theirs, _) = pairs(network)[0], pairs(other)[0]
    assert torch.allclose(theirs.weight[1], 2 * factor * first.weight[1])
    ours, expected = (canonical(each).state_dict() for each in (other, network))
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_row_of_zeros_stays_and_every_norm_has_its_convolution():
    network = copy.deepcopy(trained(CONFIGS[0]))
    with torch.no_grad():
        pairs(network)[2][0].weight[1] = 0
    written = canonical(network)
    assert not pairs(written)[2][0].weight[1].any()
    assert all(value.isfinite().all() for value in written.state_dict().values())
    for config in CONFIGS:
        built = build(config, 0)
        norms = [module for module in built.modules() if isinstance(module, nn.BatchNorm2d)]
        assert [norm for _, norm in pairs(built)] == norms
        assert all(len(a.weight) == b.num_features for a, b in pairs(built))


def relearned(network: Network, folder: Path) -> torch.Tensor:
    """Logits on the forget set after relearning."""
    attack = Relearn(budgets=[6], batch_size=32, learning_rate=0.05)
    module = train(classifying(attack, new_task(network=network)), folder)
    with torch.no_grad():
        return module.network.eval()(module.task.forget.images.float() / 255)


def test_relearning_does_not_depend_on_the_units_of_the_model(tmp_path: Path):
    network = learned().eval()
    expected = relearned(canonical(network), tmp_path / "canonical")
    for factor in (100.0, 0.03):
        other, name = in_other_units(network, factor), f"{factor}"
        ours = relearned(canonical(other), tmp_path / name)
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
        plain = relearned(other, tmp_path / f"{name} as it is")
        assert (plain - expected).abs().max() > 0.3  # which is what the canonical form is for
