"""The central model: what parties' networks can do together, its own can."""

import pytest
import torch
from small_federations import SHAPE, WIDTHS, federation
from torch import Tensor

from unrelearn.gan.designs.vflgan import VFLGAN
from unrelearn.gan.designs.wgan_gp import WGANGP
from unrelearn.gan.federation import Federation
from unrelearn.gan.layers import Weights


def beside(name: str, first: Tensor, second: Tensor) -> Tensor:
    """A layer of both: block by block, but for the first, which sees all of z, and for P, whose
    scores are added.
    """
    if name == "P.0.weight":
        return torch.cat([first, second], 1)
    if name == "P.0.bias":
        return first + second
    if first.shape[1] == 1 or name == "backbone.0.weight":  # biases, norms
        return torch.cat([first, second], 2)
    return torch.stack([torch.block_diag(a, b) for a, b in zip(first, second, strict=True)])


def fill(central: Weights, first: Weights, second: Weights) -> None:
    with torch.no_grad():
        for name, value in central.items():
            value.copy_(beside(name, first[name], second[name]))


def scores(trained: Federation, records: list[Tensor]) -> Tensor:
    """S + sum of P_i, of records of each holder."""
    shown = zip(trained.parties.values(), records, strict=True)
    h = [party.features(party.critic, x.repeat(1, 3, 1)) for party, x in shown]
    own = sum(party.pending["score"] for party in trained.parties.values())
    trained.server.score(trained.server.critic, [x.detach() for x in h])
    s = trained.server.pending["v"]
    return torch.cat([own, torch.cat(s, -1).flatten(1)], 1)


@torch.random.fork_rng()
def test_networks_of_parties_side_by_side_are_a_special_case_of_its_own():
    torch.manual_seed(0)
    parties, whole = federation(VFLGAN()), federation(WGANGP())
    parties.train(5)
    first, second = parties.parties.values()
    (central,) = whole.parties.values()
    for own, one, other in (
        (central.generator.weights, first.generator.weights, second.generator.weights),
        (central.generator.running, first.generator.running, second.generator.running),
        (central.critic, first.critic, second.critic),
    ):
        fill(own, one, other)
    with torch.no_grad():
        for name, value in whole.server.critic.items():
            value.copy_(parties.server.critic[name])
    z = torch.randn(2, 16, SHAPE.latent)

    def noise(width: int) -> Tensor:
        return torch.full((2, 16, width), 0.5)

    parts = [party.generator(z, noise, mode="running") for party in (first, second)]
    joined = central.generator(z, noise, mode="running")
    torch.testing.assert_close(joined, torch.cat(parts, -1), rtol=1e-4, atol=1e-5)
    records = [torch.randn(2, 16, sum(widths)) for widths in WIDTHS]
    got, expected = scores(whole, [torch.cat(records, -1)]), scores(parties, records)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("widths", "times"), [("sum", 2), ("one", 1)])
def test_it_has_the_widths_of_all_parties_or_of_one(widths: str, times: int):
    trained = federation(WGANGP(widths=widths))
    (central,) = trained.parties.values()
    assert central.critic["E.0.weight"].shape == (2, 8, times * SHAPE.extractor[0])
    assert trained.server.critic["S.0.weight"].shape[2] == SHAPE.server[0]
    hidden = central.generator.weights["backbone.1.weight"].shape
    assert hidden == (2, times * SHAPE.generator[0], times * SHAPE.generator[1])
