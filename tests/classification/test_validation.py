"""A share of the training images that is held out, and the epoch that does best on it."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import Cell, execute
from small_classifiers import CONFIG, data, new_task
from test_resume import assert_same, train_in_two_parts
from test_run import TINY
from tiny import train

from unrelearn.classification.bank import Bank, Member
from unrelearn.classification.best import Best, ends_epoch
from unrelearn.classification.classifying import Classifying, unit
from unrelearn.classification.networks import build, load
from unrelearn.classification.recipe import Recipe
from unrelearn.data.splits import validation_indexes
from unrelearn.methods.retrain import Retrain
from unrelearn.optimizers import schedule
from unrelearn.stages.images import images

SALUN = [*TINY, "protocol=salun", "model.pretrain.max_steps=60", "method=random_label"]
HELD = torch.arange(300, 400)  # of the data, which `new_task` does not have


def task(**changes):
    return new_task(validation=data().train.take(HELD), seed=100_000, **changes)


def retrain(**changes) -> Classifying:
    recipe = dict(max_steps=60, batch_size=32, learning_rate=0.05, lr_schedule="one_cycle")
    return Classifying(Retrain(**recipe), task(**changes))


def accuracy(network) -> float:
    held = data().train.take(HELD)
    with torch.no_grad():
        right = network.eval()(unit(held.images)).argmax(1) == held.labels
    return right.double().mean().item()


def test_every_class_gives_its_share_and_a_seed_its_own_images():
    labels = data().train.labels
    held = validation_indexes(labels, 0.1, 1)
    assert torch.equal(held, held.unique())
    for c in range(10):
        assert (labels[held] == c).sum() == int(0.1 * (labels == c).sum())
    assert torch.equal(held, validation_indexes(labels, 0.1, 1))
    other = validation_indexes(labels, 0.1, 2)
    assert 0 < torch.isin(held, other).sum() < len(held) / 2


def test_an_epoch_ends_where_its_last_image_is_drawn():
    ended = [step for step in range(1, 21) if ends_epoch(step, 30, 100, 20)]
    assert ended == [4, 7, 10, 14, 17, 20]


def test_the_first_of_equally_good_epochs_is_kept():
    best, networks = Best(data().train.take(HELD)), [build(CONFIG, seed) for seed in range(4)]
    networks.append(copy.deepcopy(networks[2]))
    for step, network in enumerate(networks):
        best.look(network, step)
    found = [accuracy(network) for network in networks]
    assert (best.accuracy, best.step) == (max(found), found.index(max(found)))
    kept = networks[best.step].state_dict()
    assert all(torch.equal(best.weights[name], kept[name]) for name in kept)


def test_what_is_saved_is_the_best_epoch_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found, look = {}, Best.look

    def watched(self: Best, network, step: int) -> None:
        look(self, network, step)
        found[step] = accuracy(copy.deepcopy(network))

    monkeypatch.setattr(Best, "look", watched)
    module = train(retrain(), tmp_path)
    assert list(found) == [s for s in range(1, 61) if ends_epoch(s, 32, 260, 60)]
    assert module.best.accuracy == max(found.values()) > min(found.values())
    module.save(tmp_path)
    assert accuracy(load(tmp_path / "raw")) == max(found.values())


def test_an_interrupted_training_keeps_the_same_epoch(tmp_path: Path):
    def small():
        module = retrain()
        module.method.max_steps = 20
        return module

    whole = train(small(), tmp_path / "whole")
    parts = train_in_two_parts(small, tmp_path / "parts", 17)
    assert_same(whole, parts)
    assert whole.best.step == parts.best.step
    for name, value in whole.best.weights.items():
        assert torch.equal(value, parts.best.weights[name])


def test_a_bank_keeps_the_epoch_that_each_member_would(tmp_path: Path):
    module = train(retrain(), tmp_path)
    recipe = Recipe(max_steps=60, batch_size=32, learning_rate=0.05, grad_clip=5.0)
    members = [Member(100_000, torch.arange(40, 300)), Member(7, torch.arange(40, 90))]
    bank = Bank(CONFIG, members)
    bank.train(data().train, recipe, validation=data().train.take(HELD))
    kept = build(CONFIG, 0)
    kept.load_state_dict(bank.state_dict(0))
    assert accuracy(kept) == pytest.approx(module.best.accuracy, abs=0.02)
    for name, value in module.best.weights.items():
        ours = bank.state_dict(0)[name]
        assert torch.allclose(ours.double(), value.double(), rtol=1e-3, atol=1e-3), name


def test_the_published_protocol_forgets_what_was_trained_on_unless_its_defect_is_asked_for(
    compose: Callable[..., dict], tmp_path: Path
):
    words = [*SALUN, f"paths.outputs={tmp_path}", "stages=[pretrain,unlearn]"]
    assert execute(compose(*words), "test") is None
    cell = Cell(compose(*words))
    loaded = cell.dataset.load()
    split = images(cell)
    held = validation_indexes(loaded.train.labels, 0.1, 1)
    assert len(split.train) == len(loaded.train) - len(held)
    assert torch.equal(split.validation.images, loaded.train.take(held).images)
    assert torch.equal(split.original[0].images, split.train.images)
    assert cell.kind.mask(split).sum() == round(0.1 * len(split.train))
    words_of_defect = [*words, "validation.forget_split_seed=2"]
    assert execute(compose(*words_of_defect), "test") is None
    defect = Cell(compose(*words_of_defect))
    other = images(defect)
    assert torch.equal(other.original[0].images, split.train.images)
    assert not torch.equal(other.train.images, split.train.images)
    assert defect.original.stage.task().retain.images.equal(split.train.images)
    assert defect.original.stage.task().validation.images.equal(split.validation.images)
    assert defect.unlearned.stage.task().validation.images.equal(other.validation.images)
    plain = Cell(compose(*words, "protocol=clean"))
    # what the files are does not depend on it: nothing is decoded again
    assert cell.data_slice == plain.data_slice
    keys = {one.original.stage.key for one in (cell, defect, plain)}
    assert len(keys) == 3 and images(plain).validation is None


@pytest.mark.parametrize("forget", ["random:0.1", "class:3"])
def test_what_is_forgotten_was_trained_on_or_the_defect_was_asked_for(
    compose: Callable[..., dict], forget: str
):
    words = [*SALUN, f"forget={forget}"]
    whole = Cell(compose(*words, "protocol=clean"))
    assert images(whole).seen is None and whole.kind.mask(images(whole)).any()
    same, defect = (Cell(compose(*words, *w)) for w in ((), ("validation.forget_split_seed=2",)))
    for cell, every in ((same, True), (defect, False)):
        data = images(cell)
        forgotten = cell.kind.mask(data)
        trained = set(map(bytes, cell.original.stage.task().retain.images.numpy()))
        ours = torch.tensor([bytes(image) in trained for image in data.train.images.numpy()])
        assert torch.equal(data.seen, ours)  # no two of these digits are the same
        assert data.seen[forgotten].all() == every
    with pytest.raises(AssertionError, match="never saw an image that is to be forgotten"):
        same.kind.mask(images(defect))


def test_the_published_schedule_falls_to_a_tenth_twice():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    (steps,) = schedule("multistep", optimizer, 182)
    rates = []
    for _ in range(182):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    assert rates[90] == 0.1 and rates[91] == pytest.approx(0.01)
    assert rates[135] == pytest.approx(0.01) and rates[136] == pytest.approx(0.001)
