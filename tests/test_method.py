"""A method is a record of its settings, and exists before any network does."""

import dataclasses

import pytest
import torch
from command import TINY
from runs import Cell
from tiny import ATTACKS, METHODS, record_from_yaml

from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.interpolation import Interpolation
from unrelearn.attacks.prune import Prune
from unrelearn.method import Edit, Method, Relearning
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.original import Original

SMALL = dict(batch_size=8, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("group", "name"), [("method", n) for n in METHODS] + [("attack", n) for n in ATTACKS]
)
def test_every_yaml_makes_a_record_that_answers_without_a_network(group: str, name: str, compose):
    record = record_from_yaml(compose, group, name)
    assert isinstance(record, Method) and dataclasses.is_dataclass(record)
    assert dataclasses.replace(record) == record
    assert record.max_steps >= 0 and len(record.passes) == 2
    assert record.stage == ("unlearn" if group == "method" or record.identity else "attack")
    edits, trains = isinstance(record, Edit), isinstance(record, Relearning)
    assert group == "method" or record.identity or edits != trains
    assert bool(record.measured_at) is (group == "attack" and not record.identity)


def test_the_steps_of_an_attack_are_its_last_budget_and_no_key():
    record = DiMRA(budgets=[0, 5, 9], **SMALL)
    assert record.max_steps == 9 and record.measured_at == [5, 9]
    assert "max_steps" not in DiMRA.settings() and "max_steps" in DiMUM.settings()


def test_an_edit_takes_no_key_but_its_own_and_no_step():
    assert Prune.settings() == ["levels"]
    record = Prune(levels=[0.5])
    assert (record.max_steps, record.measured_at, record.own_seed) == (0, [0.5], 0)
    assert {"levels", "budgets", "seed"} <= set(Interpolation.settings())
    assert "grad_clip" not in Interpolation.settings()


@pytest.mark.parametrize(("towards", "steps", "seed"), [("original", 0, 0), ("attacked", 9, 3)])
def test_a_setting_that_another_one_rules_out_counts_for_nothing(towards, steps, seed):
    record = Interpolation(levels=[1.0], towards=towards, budgets=[2, 9], seed=3, **SMALL)
    assert (record.max_steps, record.own_seed) == (steps, seed)


def test_own_keys_stand_before_those_that_every_method_has():
    names = DiMUM.settings()
    assert names[0] == "memory" and names.index("plateau_steps") < names.index("max_steps")
    assert {"saliency_fraction", "combine", "blocks"} <= set(names)
    assert not {"passes", "stage", "identity", "unit"} & set(names)


def test_what_is_required_is_asked_for_by_name():
    with pytest.raises(TypeError, match="memory"):
        DiMUM(max_steps=1, **SMALL)
    assert Original().identity


def test_who_holds_the_first_images_of_the_forget_set_alone(compose):
    small = ["stages=[pretrain,unlearn]", "model.pretrain.max_steps=2", "method.max_steps=1"]
    held, whole = (
        Cell(compose("method=salun", *TINY, *small, *more), "test")
        for more in (["+method.forget_images=5"], [])
    )
    held.complete()
    task, all_of_it = (run.unlearned.stage.training().task for run in (held, whole))
    assert torch.equal(task.forget.images, all_of_it.forget.images[:5])
    assert len(all_of_it.forget) > 5 and len(task.retain) == len(all_of_it.retain)
    assert held.unlearned.stage.key != whole.unlearned.stage.key
    assert held.original.stage.key == whole.original.stage.key
