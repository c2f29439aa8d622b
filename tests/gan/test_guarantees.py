"""Whether audits of published tables ever prove more than a mode of privacy guarantees."""

import pytest
import torch

from unrelearn.audits import bounds, game
from unrelearn.audits.bounds import Counts
from unrelearn.gan.designs.vflgan import VFLGAN
from unrelearn.gan.federation import Federation
from unrelearn.gan.layers import Output
from unrelearn.gan.members import Settings
from unrelearn.gan.party import Shape
from unrelearn.gan.privacy.dpsgd import DPSGD
from unrelearn.gan.privacy.gs import GS
from unrelearn.gan.privacy.none import AccountedTraining, Privacy
from unrelearn.gan.wire import Wire

SETTINGS = Settings(Shape((8,), (8,), (), 2, True, "joint", 0.1, 1e-5), 50, 8, 0.02, 5)
EPSILON, DELTA = 1.0, 1e-2
# a clip that nothing reaches, so that noise alone hides a record
GUARANTEED = dict(epsilon=EPSILON, delta=DELTA, noise_multiplier=None, clip=1e3)
SILENT = dict(epsilon=None, delta=None, noise_multiplier=1e-9, clip=1e3)
REPLICAS = 64  # of each world


def published(mode: Privacy, rows: torch.Tensor, seeds: list[int]) -> torch.Tensor:
    """Mean of what each replica publishes, (R,); of two parties with a column each."""
    training = AccountedTraining(len(rows), SETTINGS.batch_size, SETTINGS.max_steps, 5, 2)
    columns = [(part.contiguous(), Output((1,), False)) for part in rows.split(1, 1)]
    trained = Federation(VFLGAN(), mode.prepared(training), SETTINGS, columns, seeds, Wire())
    trained.train(SETTINGS.max_steps)
    return torch.cat(trained.publish(16), -1).mean((1, 2))


def proven(kind: type[Privacy], repeats: int, **given: float | None) -> list[float]:
    """Lower bounds of epsilon at DELTA, of as many audits. The record in question lies far from all
    others, which are near 0, so that a mean tells whether it was trained on.
    """
    near = 0.1 * torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    count, far = repeats * REPLICAS, torch.full((1, 2), 20.0)
    inside = published(kind(**given), torch.cat([far, near]), [*range(count)])
    outside = published(kind(**given), near, [*range(count, 2 * count)])
    worlds = (part.view(repeats, -1).numpy() for part in (inside, outside))
    found = []
    for ours, theirs in zip(*worlds, strict=True):
        scores = game.scored(ours, theirs)
        counts = Counts.at(game.threshold(*scores.choosing), *scores.counted)
        found.append(bounds.epsilon(counts, DELTA))
    return found


MODES = [(DPSGD, {}), (GS, {"critics": 2})]


@pytest.mark.parametrize(("mode", "more"), MODES)
def test_an_audit_proves_no_more_than_is_guaranteed(mode: type, more: dict):
    """At 95 % one of twenty may; four or more have a chance of 1.6 %."""
    pytest.importorskip("dp_accounting")
    assert sum(epsilon > EPSILON for epsilon in proven(mode, 20, **GUARANTEED, **more)) <= 3


@pytest.mark.parametrize(("mode", "more"), MODES)
def test_without_its_noise_an_audit_proves_more(mode: type, more: dict):
    assert min(proven(mode, 2, **SILENT, **more)) > EPSILON
