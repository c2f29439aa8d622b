"""Messages between parties: closed kinds, of no graph, counted; gradients as of one graph."""

from collections.abc import Iterator

import pytest
import torch
from small_federations import SHAPE, blocks, federation
from torch import Tensor
from torch.nn import functional as F

from unrelearn.gan.designs.local import Local
from unrelearn.gan.designs.vflgan import VFLGAN
from unrelearn.gan.designs.vflgan_base import VFLGANBase
from unrelearn.gan.federation import Federation
from unrelearn.gan.wire import SERVER, Wire


def test_a_message_is_a_copy_without_a_graph():
    x = torch.ones(2, 3, requires_grad=True)
    sent = x * 2
    arrived = Wire().send("features", "party 1", SERVER, sent)
    assert arrived.equal(sent) and not arrived.requires_grad
    arrived.zero_()
    assert sent.equal(torch.full((2, 3), 2.0))


@pytest.mark.parametrize(
    ("kind", "tensor"), [("records", torch.ones(1)), ("features", "rows"), ("features", None)]
)
def test_what_is_no_message_is_refused(kind: str, tensor: object):
    wire = Wire()
    with pytest.raises((ValueError, AttributeError), match=r"wire|dtype"):
        wire.send(kind, "party 1", SERVER, tensor)
    assert not wire.sent


def dense(weights: dict[str, Tensor], layer: str, x: Tensor) -> Tensor:
    y = torch.einsum("rbi,rio->rbo", x, weights[f"{layer}.weight"])
    return y + weights[f"{layer}.bias"] if f"{layer}.bias" in weights else y


def tower(weights: dict[str, Tensor], name: str, layers: int, x: Tensor, last: bool) -> Tensor:
    for layer in range(layers):
        x = dense(weights, f"{name}.{layer}", x)
        if last or layer + 1 < layers:
            x = F.leaky_relu(x, 0.2)
    return x


class Monolith:
    """The loss of all parties and the server as one graph, written down from its formula."""

    def __init__(self, trained: Federation, penalty: str):
        self.trained, self.penalty = trained, penalty
        self.critics = [party.critic for party in trained.parties.values()]
        self.server = trained.server.critic if trained.server else None
        self.heads = trained.settings.shape.heads

    def scores(self, parts: list[Tensor]) -> tuple[list[Tensor], Tensor | None, list[Tensor]]:
        """h_i, S and P_i of records (R, B, d_i)."""
        both = zip(self.critics, parts, strict=True)
        h = [tower(critic, "E", 2, x, True) for critic, x in both]
        s = tower(self.server, "S", 2, torch.cat(h, -1), False) if self.server else None
        heads = zip(self.critics, h if self.heads else [], strict=self.heads)
        return h, s, [dense(critic, "P.0", x) for critic, x in heads]

    def value(self, parts: list[Tensor]) -> Tensor:
        """(R, B): S + sum of P_i."""
        _, s, p = self.scores(parts)
        return sum([*([s] if s is not None else []), *p])[..., 0]

    def critic_loss(self, real: list[Tensor], generated: list[Tensor], alpha: Tensor) -> Tensor:
        loss = self.value(generated).mean(1) - self.value(real).mean(1)
        pairs = zip(real, generated, strict=True)
        between = [(alpha * x + (1 - alpha) * g).requires_grad_() for x, g in pairs]
        return (loss + SHAPE.penalty_weight * self.penalties(between).mean(1)).sum()

    def penalties(self, between: list[Tensor]) -> Tensor:
        """(R, B)."""

        def slope(output: Tensor, inputs: list[Tensor]) -> Tensor:
            grads = torch.autograd.grad(output.sum(), inputs, create_graph=True)
            return (torch.cat(grads, -1).square().sum(-1).sqrt() - 1).square()

        if self.penalty == "joint" and self.server:
            return slope(self.value(between), between)
        h, s, p = self.scores(between)
        if self.penalty == "joint":
            return sum(slope(score, [x]) for score, x in zip(p, between, strict=True))
        total = slope(s, h) if s is not None else 0
        for x, feature in zip(between, h, strict=True):
            total = total + slope(feature, [x])
        for feature, score in zip(h, p, strict=False):
            total = total + slope(score, [feature])
        return total


@pytest.fixture
def double(monkeypatch) -> Iterator[None]:
    """All in float64."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr("small_federations.blocks", lambda: [x.double() for x in blocks()])
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("penalty", ["joint", "factorised"])
@pytest.mark.parametrize("design", [VFLGAN, VFLGANBase, Local])
def test_gradients_over_the_wire_are_those_of_one_graph(design: type, penalty: str, double: None):
    trained = federation(design(), penalty=penalty)
    moved: dict[str, dict[str, Tensor]] = {}
    trained._move = lambda owner, grads: moved.update({owner: grads})
    batch = trained.privacy.batch(trained.draws, 0, 16)
    parties = list(trained.parties.values())
    parts = [trained._read(party, batch).chunk(3, dim=1) for party in parties]
    alpha = trained.draws.uniform("alpha", 0, 16, 1)
    one = Monolith(trained, penalty)
    loss = one.critic_loss([p[0] for p in parts], [p[1] for p in parts], alpha)
    owned = {f"{p.name} critic": p.critic for p in parties}
    owned |= {"server critic": trained.server.critic} if trained.server else {}
    trained._critics()
    for owner, weights in owned.items():
        expected = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        for (name, got), right in zip(moved[owner].items(), expected, strict=True):
            torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-9, msg=f"{owner} {name}")
            assert right.abs().max() > 0 or name in ("S.1.bias", "P.0.bias")


@pytest.mark.parametrize("design", [VFLGAN, VFLGANBase, Local])
def test_gradients_of_generators_are_those_of_one_graph(design: type, double: None):
    trained = federation(design())
    moved: dict[str, dict[str, Tensor]] = {}
    trained._move = lambda owner, grads: moved.update({owner: grads})
    parts = []
    for party in trained.parties.values():
        for weight in party.generator.weights.values():
            weight.requires_grad_()
        z, uniform = trained.latent(party, 16), party.uniform("generator", 0, 16)
        parts.append(party.generator(z, uniform))
    loss = -Monolith(trained, "joint").value(parts).mean(1).sum()
    owned = {f"{p.name} generator": p.generator.weights for p in trained.parties.values()}
    expected = {
        owner: torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        for owner, weights in owned.items()
    }
    trained._generators()
    for owner, grads in expected.items():
        for (name, got), right in zip(moved[owner].items(), grads, strict=True):
            torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-9, msg=f"{owner} {name}")
        assert grads[0].abs().max() > 0


@pytest.mark.parametrize("design", [VFLGAN, Local])
def test_a_generator_learns_through_the_server_what_the_other_party_holds(design: type):
    gradients = []
    for other in (0.0, 1.0):  # added to what the other party's generator gives
        trained = federation(design())
        second = trained.parties["party 2"].generator
        second.weights["head.0.bias"] += other
        moved = {}
        trained._move = lambda owner, grads, moved=moved: moved.update({owner: grads})
        trained._generators()
        gradients.append(moved["party 1 generator"]["head.0.weight"])
    assert gradients[0].equal(gradients[1]) == (design is Local)


@pytest.mark.parametrize("penalty", ["factorised", "joint"])
def test_bytes_are_those_of_the_formula(penalty: str):
    """Of each party: 3 B width up and down a critic step, B width a generator step (float32); of
    the joint penalty B (width + 1) more either way a critic step.
    """
    trained = federation(VFLGAN(), seeds=(0,), penalty=penalty)
    trained.train(10)  # of them 2 with a step of the generators
    size, width = 16, SHAPE.extractor[-1]
    features = size * width * (10 * 3 + 2)
    joint = 10 * size * (width + 1) if penalty == "joint" else 0
    for party in ("party 1", "party 2"):
        sent = {"up": 0, "down": 0}
        for (kind, source, destination), count in trained.wire.sent.items():
            if party in (source, destination) and kind != "seeds":
                sent["down" if source == SERVER else "up"] += count
        assert sent == {"up": 4 * (features + joint), "down": 4 * (features + joint)}
    assert trained.wire.sent["features", "party 1", SERVER] == 4 * features
    kinds = {"seeds", "features", "feature_grads"}
    kinds |= {"penalty_seed", "penalty_norms", "penalty_grads"} if joint else set()
    assert {kind for kind, *_ in trained.wire.sent} == kinds
