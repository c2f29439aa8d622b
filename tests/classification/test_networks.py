"""The classifiers: their sizes, their parts, and that the seed decides their weights."""

import pytest
import torch
from torch import nn

from unrelearn.classification.networks import NetworkConfig, build
from unrelearn.data.cifar10 import CIFAR10
from unrelearn.errors import UsageError

COLOUR = dict(mean=CIFAR10.colours[0], std=CIFAR10.colours[1])


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18_cifar", 11_173_962),  # torchvision's 11,689,512 less 9,408 - 1,728 and 507,870
        # 13 convolutions of 14,710,464 weights, BatchNorm 2 x 4,224, layers 524,544 + 65,792 +
        # 2,570
        ("vgg16_bn", 15_311_818),
        # stem 312, convolutions 3,456 + 2,304 + 9,216 + 3 x 36,864, BatchNorm 576, head 650
        ("fast", 127_106),
    ],
)
def test_the_published_networks_have_their_sizes(name: str, expected: int):
    network = build(NetworkConfig(name, 32, 10, **COLOUR), seed=0)
    assert parameters(network) == expected
    with torch.inference_mode():
        assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("size", [2, 8, 28, 33])
@pytest.mark.parametrize("widths", [(8, 8, 8), (4, 12, 20)])
def test_fast_takes_images_of_any_size_and_widths(size: int, widths: tuple):
    network = build(NetworkConfig("fast", size, 7, widths=widths), seed=0).eval()
    x = torch.rand(3, 1, size, size)
    assert network.features(x).shape == (3, widths[-1])
    assert torch.equal(network(x), network.head(network.features(x)))


@pytest.mark.parametrize("name", ["resnet18_cifar", "vgg16_bn"])
def test_logits_are_the_head_of_the_features_in_one_channel_too(name: str):
    network = build(NetworkConfig(name, 16, 5), seed=0).eval()
    x = torch.rand(2, 1, 16, 16)
    assert network.features(x).shape == (2, network.head.in_features)
    assert torch.equal(network(x), network.head(network.features(x)))


def test_normalisation_is_in_the_network_and_not_trained():
    config = NetworkConfig("fast", 8, 3, **COLOUR)
    network, plain = (
        build(config, 0).eval(),
        build(NetworkConfig("fast", 8, 3, (0,) * 3, (1,) * 3), 0),
    )
    x = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(COLOUR[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert torch.allclose(network(x), plain.eval()((x - mean) / std), atol=1e-6)
    assert {"mean", "std"} <= set(dict(network.named_buffers()))
    assert not {"mean", "std"} & set(dict(network.named_parameters()))


def test_weights_are_a_function_of_the_seed_alone():
    config = NetworkConfig("fast", 8, 10)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (build(config, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_what_does_not_exist_or_fit_is_refused():
    for config, why in (
        (NetworkConfig("resnet", 32, 10), "no such network; allowed: fast, resnet18_cifar"),
        (NetworkConfig("vgg16_bn", 8, 10), "8 pixels a side"),
    ):
        with pytest.raises(UsageError, match=why):
            build(config, seed=0)
