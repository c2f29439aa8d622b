"""What modes of privacy do to gradients, and what they say of it."""

from collections.abc import Callable

import pytest
import torch
from small_federations import federation

from unrelearn.gan.designs.local import Local
from unrelearn.gan.designs.vflgan import VFLGAN, Design
from unrelearn.gan.draws import Draws
from unrelearn.gan.federation import Federation
from unrelearn.gan.privacy.dpsgd import DPSGD
from unrelearn.gan.privacy.first_layer import FirstLayer
from unrelearn.gan.privacy.first_layer_frozen import FirstLayerFrozen
from unrelearn.gan.privacy.first_layer_scalar import FirstLayerScalar
from unrelearn.gan.privacy.none import AccountedTraining, Privacy

KNOWN = dict(epsilon=None, delta=None, noise_multiplier=2.0)
REPLICAS = 400


def noise_of(mode: FirstLayer) -> torch.Tensor:
    """What is added to a gradient of zeros, (R, 20, 30)."""
    draws = Draws(list(range(REPLICAS)))
    zeros = torch.zeros(REPLICAS, 20, 30)
    return mode.first_layer(zeros, 10, lambda name, shape: draws.normal(name, 0, *shape))


@pytest.mark.parametrize("mode", [FirstLayer, FirstLayerScalar])
def test_noise_of_the_first_layer_has_the_published_deviation(mode: type):
    noise = noise_of(mode(**KNOWN))
    expected = 2 * (1.5 / 10) * 2.0
    each = noise.std(0)  # of every coordinate
    assert abs(each[0, 0] - expected) < 3 * expected / (2 * REPLICAS) ** 0.5
    assert (each - expected).abs().max() < 5 * expected / (2 * REPLICAS) ** 0.5
    independent = noise.flatten(1).std(1) > 0.5 * expected  # between coordinates
    assert independent.all() == (mode is FirstLayer) and independent.any() == (mode is FirstLayer)


def test_a_batch_gradient_of_any_size_is_clipped():
    mode = FirstLayer(**{**KNOWN, "noise_multiplier": 1e-9})
    grad = 1e6 * torch.randn(3, 5, 4)
    clipped = mode.first_layer(grad, 10, lambda name, shape: torch.zeros(3, *shape))
    torch.testing.assert_close(clipped.flatten(1).norm(dim=1), torch.full((3,), 0.15))


def test_a_frozen_layer_stays_as_it_was_and_others_move():
    trained = federation(privacy=FirstLayerFrozen())
    critic = trained.parties["party 1"].critic
    before = {name: weight.detach().clone() for name, weight in critic.items()}
    trained.train(5)
    moved = {name for name, weight in critic.items() if not weight.equal(before[name])}
    assert moved == critic.keys() - {"E.0.weight", "P.0.bias"}  # a constant of a score


def gradients(trained: Federation) -> dict[str, torch.Tensor]:
    """Of one step of the critics, (R, weights) of all, over the expected batch."""
    moved: list[torch.Tensor] = []
    trained._move = lambda owner, grads: moved.extend(g.flatten(1) for g in grads.values())
    trained._critics()
    return torch.cat(moved, 1)


def private(design: Design | None = None, scale: float = 1.0, **changes: float) -> Federation:
    given = {**KNOWN, "clip": 1.0, **changes}
    trained = federation(design, DPSGD(**given))
    for party in trained.parties.values():
        party.data = party.data * scale
    return trained


@pytest.mark.parametrize("design", [VFLGAN(), Local()])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_one_record_moves_a_sum_by_no_more_than_the_clip(design: Design, scale: float):
    """Replaced by zeros, which is twice; whatever its size."""
    one, other = (private(design, scale, noise_multiplier=1e-12, clip=0.5) for _ in range(2))
    drawn = one.privacy.batch(one.draws, 0, 16).rows[0, 0]
    for party in other.parties.values():
        party.data = party.data.clone()
        party.data[drawn] = 0
    difference = 16 * (gradients(one) - gradients(other))[0].norm()
    parts = 1 if design.server else 2
    assert 0 < difference <= 2 * 0.5 * parts**0.5 * 1.0001


def test_clipped_gradients_are_those_of_records_one_by_one():
    """With a clip that nothing reaches, the mean of a batch as without privacy."""
    trained = private(noise_multiplier=1e-12, clip=1e6)
    plain = federation(privacy=Privacy())
    batch = trained.privacy.batch(trained.draws, 0, 16)
    count = batch.present[0].sum()
    plain.privacy.batch = lambda draws, step, size: type(batch)(
        batch.rows[:, : int(count)], None, batch.drawn
    )
    # an expected batch of 16; latents of as many records in both
    ours, theirs = gradients(trained)[0], gradients(plain)[0]
    torch.testing.assert_close(ours * 16 / count, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("design", [VFLGAN(), Local()])
def test_noise_of_dpsgd_has_the_deviation_that_is_accounted_for(design: Design):
    given = {**KNOWN, "clip": 0.5}
    noised, still = (
        federation(design, DPSGD(**{**given, "noise_multiplier": m}), seeds=tuple(range(60)))
        for m in (2.0, 1e-12)
    )
    noise = 16 * (gradients(noised) - gradients(still))
    expected = 2.0 * 0.5 * (1 if design.server else 2**0.5)
    assert abs(noise.std() - expected) < 3 * expected / (2 * noise.numel()) ** 0.5
    each = noise.std(0)  # of every coordinate
    assert (each - expected).abs().max() < 6 * expected / (2 * 60) ** 0.5
    assert noise[0].std() > 0.9 * expected  # between coordinates


def test_records_are_drawn_by_themselves():
    mode = DPSGD(**KNOWN, clip=1.0)
    mode.records = 200
    draws = Draws([0, 1, 2])
    counts = torch.stack([mode.batch(draws, s, 16).present.sum(1) for s in range(300)])
    assert abs(counts.mean() - 16) < 3 * (16 * (1 - 16 / 200) / 900) ** 0.5
    assert 3.3 < counts.std() < 4.4  # binomial: 3.84
    batch = mode.batch(draws, 0, 16)
    for rows, present in zip(batch.rows, batch.present.bool(), strict=True):
        assert len(set(rows[present].tolist())) == present.sum()


TRAINING = AccountedTraining(1599, 16, 100, 5, 2)


def test_what_has_no_guarantee_says_so_and_why():
    noised = {**KNOWN, "delta": 5e-4}
    for mode in (FirstLayer(**noised), FirstLayerScalar(**noised), FirstLayerFrozen(), Privacy()):
        account = mode.account(TRAINING)
        assert account["epsilon_record"] is None and account["no_guarantee"]
        assert {"mechanism", "sampling", "adjacency"} <= account.keys()
    assert "raw records" in FirstLayer(**noised).account(TRAINING)["no_guarantee"]
    assert "no Gaussian mechanism" in FirstLayerScalar(**noised).account(TRAINING)["no_guarantee"]
    assert FirstLayerFrozen().account(TRAINING)["epsilon_claimed"] == 0


def test_dpsgd_has_a_guarantee_of_a_record():
    account = DPSGD(**{**KNOWN, "delta": 5e-4}, clip=1.0).account(TRAINING)
    assert account["no_guarantee"] == "" and 0 < account["epsilon_record"] < 1
    assert account["sampling"] == "Poisson sampling" and "add or remove" in account["adjacency"]


BAD = {
    "privacy=dpsgd gan.privacy.dpsgd.delta=null": ["gan.privacy.dpsgd.delta=null: ", "1e-05"],
    "privacy=dpsgd gan.privacy.dpsgd.delta=2": ["gan.privacy.dpsgd.delta=2: ", "0 and 0.1"],
    "privacy=dpsgd gan.privacy.dpsgd.delta=0.01": [
        "gan.privacy.dpsgd.delta=0.01: must be below one over the 1297 training rows",
        "Type gan.privacy.dpsgd.delta=0.0004",
    ],
    "privacy=dpsgd gan.select=best_fd": ["gan.select=best_fd: ", "gan.select=last"],
    "privacy=[none,dpsgd] gan.privacy.dpsgd.epsilon=50000": [
        "gan.privacy.dpsgd.epsilon=50000: the least noise multiplier that is accounted for, 0.3",
        "over 2500 steps. Type a smaller epsilon",
    ],
    "privacy=first_layer gan.privacy.first_layer.epsilon=-1": [
        "gan.privacy.first_layer.epsilon=-1: ",
        "above 0",
    ],
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line(words: str, complaint: Callable[..., list[str]]):
    (line,) = complaint("experiment=vflgan", *words.split())
    for part in BAD[words]:
        assert part in line
