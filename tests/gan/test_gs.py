"""Gradient sanitisation: what generators learn of one of many critics, and what is said of it."""

from collections.abc import Callable

import pytest
import torch
from small_federations import federation
from torch import Tensor

from unrelearn.gan.designs.local import Local
from unrelearn.gan.designs.vflgan import VFLGAN, Design
from unrelearn.gan.draws import Draws
from unrelearn.gan.federation import Federation
from unrelearn.gan.privacy.gs import GS
from unrelearn.gan.privacy.none import AccountedTraining

KNOWN = dict(epsilon=None, delta=None, clip=1.0)
CRITICS, REPLICAS, SIZE = 3, 400, 16
READ = 0  # a row of the first critic


def silent(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(1, *shape)


@pytest.mark.parametrize("parties", [1, 2])
def test_noise_has_the_deviation_that_is_accounted_for(parties: int):
    mode = GS(**KNOWN, noise_multiplier=1.5, critics=CRITICS, parties=parties)
    draws = Draws(list(range(REPLICAS)))
    zeros = torch.zeros(REPLICAS, SIZE, 5)
    noise = mode.sanitised(zeros, lambda name, shape: draws.normal(name, 0, *shape))
    expected = 1.5 * 2 * (1 / SIZE) * (SIZE * parties) ** 0.5
    assert abs(noise.std() - expected) < 3 * expected / (2 * noise.numel()) ** 0.5
    each = noise.std(0)  # of every coordinate
    assert (each - expected).abs().max() < 4.5 * expected / (2 * REPLICAS) ** 0.5
    correlations = torch.corrcoef(noise.flatten(1).T) - torch.eye(SIZE * 5)
    assert correlations.abs().max() < 5 / REPLICAS**0.5  # between coordinates


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6, 1e18])
def test_no_generated_record_has_more_than_the_clip(scale: float):
    mode = GS(**KNOWN, noise_multiplier=1.0, critics=CRITICS)
    grad = scale * torch.randn(4, SIZE, 5, generator=torch.Generator().manual_seed(0))
    clipped = mode.sanitised(grad, silent)
    assert clipped.norm(dim=-1).max() <= 1 / SIZE * 1.00001
    small = grad.norm(dim=-1) < 1 / SIZE
    assert clipped[small].equal(grad[small]) and small.any() == (scale < 1e-3)


def learned(design: Design, data: list[Tensor] | None = None) -> tuple[list[Tensor], Federation]:
    """What each party's generator learns from in its first step, (R, B, d_i), without noise."""
    mode = GS(**KNOWN, noise_multiplier=1e-9, critics=CRITICS)
    trained = federation(design, mode, seeds=(*range(8),))
    for party, rows in zip(trained.parties.values(), data or [], strict=data is not None):
        party.data = rows
    seen: list[Tensor] = []
    sanitised = mode.sanitised
    mode.sanitised = lambda grad, noise: (seen.append(sanitised(grad, noise)), seen[-1])[1]
    trained.train(5)
    return seen, trained


@pytest.mark.parametrize("design", [VFLGAN(), Local()])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_one_record_moves_a_step_by_no_more_than_its_sensitivity(design: Design, scale: float):
    """Rows 0, 3, 6, ... are the first critic's: where another one was drawn nothing changes."""
    before, trained = learned(design)
    other = [party.data.clone() for party in trained.parties.values()]
    for rows in other:
        rows[READ] = -scale * rows[READ]
    after, _ = learned(design, other)
    moved = [(a - b).flatten(1) for a, b in zip(before, after, strict=True)]
    moved = torch.cat(moved, 1).norm(dim=1)
    first = trained.privacy.drawn(trained.draws, 4) % CRITICS == 0
    assert first.any() and not first.all()
    assert (moved[~first] == 0).all()
    assert moved[first].max() > 0 and moved.max() <= 2 / SIZE * (SIZE * 2) ** 0.5 * 1.0001


def test_every_row_has_one_critic_and_every_critic_is_trained_in_every_step():
    trained = federation(VFLGAN(), GS(**KNOWN, noise_multiplier=1.0, critics=CRITICS))
    rows = [trained.privacy.batch(trained.draws, step, SIZE).rows for step in range(4)]
    seen = torch.cat(rows, 1).view(2, CRITICS, -1)  # 4 batches of 16 of an epoch's 66 rows
    for critic in range(CRITICS):
        assert (seen[:, critic] % CRITICS == critic).all()
        assert all(len(set(part.tolist())) == 4 * SIZE for part in seen[:, critic])
    critics = {"server": trained.server.critic}
    critics |= {name: party.critic for name, party in trained.parties.items()}
    before = {
        name: {key: value.detach().clone() for key, value in weights.items()}
        for name, weights in critics.items()
    }
    trained.train(1)
    for name, weights in critics.items():
        for key, value in weights.items():
            if key not in ("P.0.bias", "S.1.bias"):  # a constant of a score
                moved = (value != before[name][key]).flatten(1).any(1)
                assert moved.shape == (2 * CRITICS,) and moved.all()
    starts = before["server"]["S.0.weight"]
    assert not starts[0].equal(starts[1])


def test_the_published_accounting_takes_a_batch_for_as_many_draws():
    """Constants of the released code: 1,000 critics, batches of 32, 20,000 steps, sigma 1.07 a
    record; its own accountant says 10.
    """
    pytest.importorskip("dp_accounting")
    mode = GS(**{**KNOWN, "delta": 1e-5}, noise_multiplier=1.07 / 32**0.5, critics=1000)
    account = mode.account(AccountedTraining(60000, 32, 100000, 5, 1))
    assert account["epsilon_claimed"] == pytest.approx(9.24, rel=0.01)
    assert account["epsilon_record"] > 1000  # a drawn critic is heard 32 times at once
    assert account["adjacency"] == "replace one record" and "one of 1000" in account["sampling"]


def test_noise_is_chosen_for_an_epsilon_of_a_record_in_all_parties():
    pytest.importorskip("dp_accounting")
    training = AccountedTraining(1279, 16, 1000, 5, 2)
    mode = GS(epsilon=10, delta=5e-4, noise_multiplier=None, clip=1.0, critics=20)
    account = mode.prepared(training).account(training)
    assert 9.9 < account["epsilon_record"] <= 10 and account["no_guarantee"] == ""
    assert mode.parties == 2
    nameless = GS(**KNOWN, noise_multiplier=1.0, critics=20).account(training)
    assert nameless["epsilon_record"] is None and nameless["no_guarantee"]


BAD = {
    "gan.privacy.gs.delta=null": ["gan.privacy.gs.delta=null: ", "1e-05"],
    "gan.privacy.gs.critics=1": ["gan.privacy.gs.critics=1: ", "at least 2"],
    "gan.privacy.gs.critics=30": ["critics=30: leaves 43 of 1297 rows", "critics=20"],
    "gan.select=best_fd": ["gan.select=best_fd: ", "gan.select=last"],
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line(words: str, complaint: Callable[..., list[str]]):
    (line,) = complaint("experiment=vflgan", "privacy=gs", *words.split())
    for part in BAD[words]:
        assert part in line
