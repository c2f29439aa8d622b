"""Every attack: what it may move, what its attacker holds, when it is measured."""

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from runs import Cell
from tiny import (
    ATTACKS,
    NO_TRAINING,
    PRESETS,
    REDUCED,
    denoising,
    from_yaml,
    moved,
    new_task,
    train,
    weights,
)

from unrelearn.attacks.dimra import DiMRA
from unrelearn.config import constructor_arguments
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING

TRAINED = [name for name in ATTACKS if name not in NO_TRAINING]


SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (name, table)
        for name in TRAINED
        for table in ("true", "false")
        if (name, table) != ("embedding_inversion", "false")
    ],
)
def test_three_steps_move_what_they_may_and_nothing_else(
    name: str, table: str, compose, tmp_path: Path
):
    choice = [] if name == "embedding_inversion" else [f"attack.train_class_embedding={table}"]
    module = from_yaml(compose, "attack", name, *choice)(new_task())
    before, everything = weights(module), {n for n, _ in module.network.named_parameters()}
    train(module, tmp_path)
    assert [row["step"] for row in module.rows] == [1, 2, 3] and module.diverged_at is None
    assert all(math.isfinite(value) for row in module.rows for value in row.values())
    may = {
        "embedding_inversion": {CLASS_EMBEDDING},
        "lora": {CLASS_EMBEDDING} | {n for n in everything if n.endswith((".A", ".B"))},
    }.get(name, everything)
    assert moved(before, weights(module)) == may - (
        {CLASS_EMBEDDING} if table == "false" else set()
    )


def test_every_attack_has_a_file_of_its_name(compose):
    for name in ATTACKS:
        attack = compose(f"attack={name}", *REDUCED.get(name, ()))["attack"]
        assert attack["_target_"].startswith(f"unrelearn.attacks.{name}.") or (
            name in PRESETS and attack["preset"] == name
        )


def test_a_record_knows_which_attackers_hold_something_of_the_class_or_of_the_original_model(
    compose,
):
    def sees(*overrides: str) -> bool:
        attack = constructor_arguments(compose(*overrides)["attack"])
        return instantiate(attack, _convert_="all").sees_forgotten

    seeing = {name for name in ATTACKS if sees(f"attack={name}", *REDUCED.get(name, ()))}
    assert seeing == {
        "few_shot",
        "lora",
        "embedding_inversion",
        "context_probe",
        "row_transplant",
        "interpolation",
    }
    assert not sees("attack=interpolation", "attack.towards=attacked") and not sees(
        "attack=lora", "attack.num_images=null"
    )
    assert not sees("attack=dimra_aux", "attack.source=original")


def test_an_attack_draws_other_noise_than_the_method_before_it(compose):
    modules = (
        from_yaml(compose, "method", "finetune")(new_task()),
        from_yaml(compose, "attack", "dimra")(new_task()),
    )
    assert not torch.equal(*(module.draw("retain", module.task.retain).noise for module in modules))


def test_snapshots_are_the_weights_at_their_steps(tmp_path: Path):
    module = denoising(DiMRA(**SMALL | {"budgets": [0, 2, 5]}), new_task())
    assert module.method.max_steps == 5
    train(
        module,
        tmp_path,
        snapshots=[2, 5],
        on_snapshot=lambda step: module.save(tmp_path / f"at_{step}"),
    )
    for step in (2, 5):
        shorter = train(
            denoising(DiMRA(**SMALL | {"budgets": [step]}), new_task()), tmp_path / f"only_{step}"
        )
        assert not moved(
            weights(shorter), denoiser.load(tmp_path / f"at_{step}" / "raw").state_dict()
        )


def test_an_attack_stands_in_the_graph_once_for_each_budget_above_zero(compose):
    attacked = Cell(compose("attack.budgets=[0,2,5]"), "").attacked
    assert [model.step for model in attacked] == [2, 5] and attacked[0].stage is attacked[1].stage
    assert Cell(compose("attack=none"), "").attacked == []
