"""Relearning on images that nobody was trained on."""

from pathlib import Path

import pytest
import torch
from formulas import images
from small_classifiers import assert_close, classifying, data, new_task, trained_by_hand
from tiny import train
from torch.nn import functional as F

from unrelearn.attacks.relearn_public import RelearnPublic
from unrelearn.classification.classifying import unit
from unrelearn.classification.epochs import epoch_indexes
from unrelearn.data import ImageSet

ATTACK = dict(budgets=[0, 2, 4], batch_size=16, learning_rate=0.05)


def public() -> ImageSet:
    return data().test.take(torch.arange(0, 120, 2))


@pytest.mark.parametrize("classes", [(), (3, 7)])
def test_it_holds_what_neither_set_does_and_nothing_of_a_forgotten_class(classes: tuple[int, ...]):
    task = new_task(classes, public=public())
    held = classifying(RelearnPublic(**ATTACK), task).method.auxiliary
    kept = [n for n, label in enumerate(public().labels.tolist()) if label not in classes]
    assert len(kept) < 60 if classes else len(kept) == 60
    assert torch.equal(held.images, public().images[kept])
    assert torch.equal(held.labels, public().labels[kept])
    assert not images(held) & (images(task.forget) | images(task.retain))
    assert RelearnPublic.holds_public and not RelearnPublic(**ATTACK).sees_forgotten


def test_it_is_ordinary_training_on_them(tmp_path: Path):
    module = classifying(RelearnPublic(**ATTACK), new_task(public=public()))

    def loss(network: torch.nn.Module, step: int) -> torch.Tensor:
        some = epoch_indexes((0, "attack", "auxiliary"), 60, 16 * step, 16)
        return F.cross_entropy(network(unit(public().images[some])), public().labels[some])

    expected = trained_by_hand(module, loss)
    train(module, tmp_path)
    assert_close(module.network.state_dict(), expected)
    assert module.method.measured_at == [2, 4] and len(module.rows) == 4
