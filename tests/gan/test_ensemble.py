"""Replicas: each is the same alone and among others, and training goes on from what it kept."""

import runpy

import pytest
import torch
from command import ROOT
from small_federations import federation

from unrelearn.gan.designs.local_shared_z import LocalSharedZ
from unrelearn.gan.designs.vertigan import VertiGAN
from unrelearn.gan.designs.vflgan import VFLGAN
from unrelearn.gan.designs.wgan_gp import WGANGP
from unrelearn.gan.layers import Generator, Output
from unrelearn.gan.privacy.gs import GS

TAUGHT = GS(epsilon=None, delta=None, noise_multiplier=0.1, clip=1.0, critics=3)


@pytest.mark.parametrize(
    ("design", "privacy"),
    [
        (VFLGAN(), None),
        (LocalSharedZ(), None),
        (VertiGAN(averaging_interval=1), None),
        (VFLGAN(), TAUGHT),
    ],
)
def test_a_replica_is_the_same_alone_and_among_64(design: object, privacy: object):
    alone = federation(design, privacy, seeds=(5,))
    among = federation(design, privacy, seeds=(*range(1, 5), 5, *range(6, 65)))
    for trained in (alone, among):
        trained.train(10)
    for own, theirs in zip(alone.publish(20), among.publish(20), strict=True):
        torch.testing.assert_close(own[0], theirs[4], rtol=0, atol=1e-6)
    assert not among.publish(20)[0][3].equal(among.publish(20)[0][4])


def test_an_ensemble_of_one_is_the_plain_module():
    """Linear, LeakyReLU and BatchNorm of torch, with the same weights."""
    output = Output((1, 1, 1), True)
    generator = Generator([3], ("party", "party"), [4, 8, 6, 3], output, 1e-3)
    plain = torch.nn.Sequential(
        *[torch.nn.Linear(4, 8), torch.nn.LeakyReLU(0.2), torch.nn.Linear(8, 6)],
        *[torch.nn.BatchNorm1d(6, eps=1e-3), torch.nn.LeakyReLU(0.2), torch.nn.Linear(6, 3)],
        torch.nn.Tanh(),
    )
    layers = {"backbone.0": plain[0], "backbone.1": plain[2], "head.0": plain[5]}
    with torch.no_grad():
        generator.weights["norm.1.weight"].uniform_(0.5, 2, generator=torch.Generator())
        for name, layer in (layers | {"norm.1": plain[3]}).items():
            weight = generator.weights[f"{name}.weight"][0]
            layer.weight.copy_(weight[0] if len(weight) == 1 else weight.T)
            layer.bias.copy_(generator.weights[f"{name}.bias"].flatten())
    z = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(generator(z, torch.zeros)[0], plain(z[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("design", [VFLGAN(), LocalSharedZ()])
def test_steps_are_those_of_plain_adam(design: object):
    """Gradients come in other layouts than their weights, which a fused step takes for its own."""
    ours, plain = federation(design), federation(design)
    for name, weights in plain.weights.items():
        rate = plain.settings.learning_rate
        plain.optimizers[name] = torch.optim.Adam(weights.values(), rate, (0.5, 0.999))
    for trained in (ours, plain):
        trained.train(10)
    for owner, weights in ours.weights.items():
        for name, value in weights.items():
            torch.testing.assert_close(value, plain.weights[owner][name], rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    ("design", "privacy"), [(VFLGAN(), None), (WGANGP(), None), (VFLGAN(), TAUGHT)]
)
def test_training_goes_on_to_the_same_bits(design: object, privacy: object):
    whole, first, second = (federation(design, privacy) for _ in range(3))
    whole.train(20)
    first.train(7)
    second.load({name: value.clone() for name, value in first.state().items()})
    second.train(20)
    expected, got = whole.state(), second.state()
    assert expected.keys() == got.keys()
    assert [name for name, value in expected.items() if not value.equal(got[name])] == []


def test_vertigan_shares_hidden_layers_and_no_heads():
    trained = federation(VertiGAN(averaging_interval=2))
    first, second = (party.generator.weights for party in trained.parties.values())
    name = "backbone.0.weight"
    assert first[name].equal(second[name])  # they start alike
    trained.train(5)
    assert not first[name].equal(second[name])
    trained.train(10)
    assert first[name].equal(second[name])
    assert not first["head.0.weight"][..., :3].equal(second["head.0.weight"][..., :3])
    assert {kind for kind, *_ in trained.wire.sent} == {"seeds", "backbone"}


def test_what_a_stack_costs_is_measured():
    milliseconds = runpy.run_path(str(ROOT / "benchmarks" / "ensemble.py"))["milliseconds"]
    assert milliseconds(2, 3) > 0
