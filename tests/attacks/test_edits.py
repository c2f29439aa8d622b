"""Attacks that edit the unlearned model: what they all do, and the way through a whole run."""

import json
from pathlib import Path

import pytest
import torch
from formulas import at
from runs import Cell
from safetensors.torch import load_file
from tiny import (
    EDITS,
    SMALL,
    denoising,
    from_yaml,
    moved,
    network,
    new_task,
    train,
    weights,
)

from unrelearn import cost
from unrelearn.attacks.quantize import rounded
from unrelearn.attacks.row_transplant import RowTransplant
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.canonical import canonical
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.denoising import DenoisingTask
from unrelearn.errors import UsageError
from unrelearn.record import recovery
from unrelearn.stages.train import snapshot

MATRICES = {name for name, p in network().named_parameters() if p.ndim >= 2}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_takes_no_step_is_undone_after_each_level_and_repeats_to_the_bit(
    name: str, compose, tmp_path: Path
):
    make = from_yaml(compose, "attack", name)
    module, again = (train(make(new_task((3, 7))), tmp_path / part) for part in ("first", "again"))
    before = weights(module)
    assert module.method.max_steps == 0 and not moved(network().state_dict(), before)
    levels = module.method.levels
    edited = [at(module, level) for level in levels]
    assert [row["step"] for row in module.rows] == levels and not moved(before, weights(module))
    for level, found in zip(
        reversed(levels), reversed(edited), strict=True
    ):  # whatever levels came before
        assert not moved(found, at(again, level))
    may = {
        "context_probe": set(),
        "row_transplant": {CLASS_EMBEDDING},
        "quantize": MATRICES,
        "prune": MATRICES - {CLASS_EMBEDDING},
    }.get(name, set(before))
    assert all(moved(before, found) <= may for found in edited)
    assert all(moved(before, found) for found in edited) or name == "context_probe"


@pytest.mark.parametrize(
    "overrides",
    [
        "attack=quantize attack.levels=[]",
        "attack=quantize attack.levels=[1]",
        "attack=quantize attack.levels=[8,8]",
        "attack=prune attack.levels=[0.5,1.5]",
        "attack=context_probe attack.levels=[0]",
        "attack=interpolation attack.levels=[-0.1]",
    ],
)
def test_levels_are_different_numbers_that_the_attack_allows(overrides: str, compose):
    with pytest.raises(UsageError) as error:
        compose(*overrides.split(" "))
    (problem,) = error.value.problems
    assert (
        problem.startswith("attack.levels=[")
        and "different numbers" in problem
        and "Type 'attack.levels=[" in problem
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("attack=quantize attack.levels=[4.5]", "a whole number"),
        ("attack=prune attack.levels=few", "a list"),
        ("attack=prune +attack.batch_size=4", "no such key; allowed: levels"),
        ("attack=embedding_inversion +attack.label_dropout=0.1", "no such key; allowed: budgets"),
    ],
)
def test_what_an_attack_can_not_read_is_refused(overrides: str, said: str, compose):
    with pytest.raises(UsageError) as error:
        compose(*overrides.split(" "))
    assert len(error.value.problems) == 1 and said in error.value.problems[0], error.value.problems


def test_the_original_model_has_to_be_given():
    task = new_task()
    bare = DenoisingTask(
        **{
            name: getattr(task, name)
            for name in (
                "network",
                "schedule",
                "forget",
                "retain",
                "forget_classes",
                "class_names",
                "seed",
            )
        }
    )
    with pytest.raises(UsageError, match="original model"):
        at(denoising(RowTransplant(levels=[1.0]), bare), 1.0)


def test_snapshots_are_named_by_step_or_level():
    assert [snapshot(n) for n in (25, 8, 0.25, 1.0)] == [
        "step_000025",
        "step_000008",
        "level_0.25",
        "level_1",
    ]


def test_edits_run_through_the_whole_pipeline(compose):
    sizes = [
        *SMALL,
        "method=row_swap",
        "model.pretrain.max_steps=4",
        "model.pretrain.batch_size=12",
        "oracle.max_steps=2",
        "oracle.main.width=8",
        "oracle.held_out.width=8",
        "sampler.num_images=6",
        "sampler.images_per_retained_class=1",
        "sampler.num_inference_steps=4",
        "relearning.budgets=[0,2]",
        "relearning.batch_size=6",
    ]

    def result(*overrides: str) -> tuple[dict, Cell, list[dict]]:
        pipeline = Cell(compose(*sizes, *overrides), "")
        record = pipeline.complete()
        artifact = pipeline.store.find(pipeline.attacked[0].stage.spec)
        return record, pipeline, json.loads((artifact.path / "losses.json").read_text())

    def samples(row: dict, pipeline: Cell) -> dict:
        return load_file(pipeline.outputs / row["samples"] / "samples.safetensors")

    record, pipeline, losses = result("attack=quantize")
    attacked = record["rows"][2:]
    assert [(row["model"], row["step"]) for row in attacked] == [
        ("attacked", 8),
        ("attacked", 4),
    ] and losses == [{"step": 8}, {"step": 4}]
    assert record["attack_unit"] == "bits" and record["attack_sees_forgotten"] is False
    for scale in ("1.0", "2.0"):
        curve = record["recovery"][scale]
        assert (
            curve["budgets"] == [0, 8, 4]
            and curve["area"] is None
            and curve["steps_to_half"] is None
        )
    kept = denoisers.load(pipeline.attacked[1].weights).state_dict()
    start = canonical(pipeline.unlearned.stage.network()).state_dict()
    assert not moved(kept, {name: rounded(v, 4) if v.ndim >= 2 else v for name, v in start.items()})
    json.dumps(record, allow_nan=False)

    record, pipeline, _ = result("attack=row_transplant")  # the cure for a row that was swapped
    back = denoisers.load(pipeline.attacked[0].weights).state_dict()
    assert not moved(back, canonical(pipeline.original.stage.network()).state_dict())
    ours, theirs = samples(record["rows"][0], pipeline), samples(record["rows"][2], pipeline)
    # the same function written in another way: but for rounding the same images
    assert all((ours[name].int() - theirs[name].int()).abs().max() <= 2 for name in ours)
    assert record["attack_sees_forgotten"] is True

    record, pipeline, losses = result(
        "attack=interpolation",
        "attack.towards=attacked",
        "attack.levels=[0.5,1.0]",
        "trainer.log_every_n_steps=1",
    )
    assert [row["step"] for row in losses] == [1, 2, 0.5, 1.0] and losses[-1].keys() == {
        "step",
        "forget",
        "retain",
    }
    assert pipeline.store.find(pipeline.attacked[0].stage.spec).meta["steps"] == 2

    record, pipeline, _ = result(
        "attack=context_probe", "attack.levels=[0.25,1.0]", "attack.num_images=2"
    )
    without, near, far = (samples(row, pipeline) for row in record["rows"][1:])
    assert all(
        (without[name].int() - near[name].int()).abs().max() <= 2
        for name in without
        if name.startswith("retain")
    )
    assert not torch.equal(without["forget/1.0"], near["forget/1.0"]) and not torch.equal(
        near["forget/1.0"], far["forget/1.0"]
    )
    assert (
        not torch.equal(without["other_sampler/1.0"], near["other_sampler/1.0"])
        and "other_starts/1.0" not in without
    )
    # the control: the same noise, condition and times from other images; of pure noise nothing of
    # the start is left
    assert not torch.equal(near["other_starts/1.0"], near["forget/1.0"])
    assert (
        near["forget/2.0/start"].tolist() == near["other_starts/2.0/start"].tolist() == [0, 1] * 3
    )
    assert near["other_starts/1.0/labels"].tolist() == [7] * 6
    for row in record["rows"]:
        measured = row["metrics"]["forget_accuracy"]["1.0"]
        assert measured["off_grid"]["n"] == 3 and row["metrics"]["other_sampler"]["1.0"]["n"] == 4
        assert (
            ("difference" in measured)
            == ("other_starts" in measured)
            == (row["model"] == "attacked")
        )
    assert (
        measured["starts"] == measured["difference"]["n_starts"] == 2
        and measured["other_starts"]["n"] == 6
    )


@pytest.mark.parametrize(
    ("overrides", "steps", "snapshots"),
    [
        ("attack=quantize", 0, 2),
        ("attack=interpolation", 0, 4),
        ("attack=interpolation attack.towards=attacked", 800, 4),
        ("attack=lora", 800, 5),
        ("attack=embedding_inversion", 800, 5),
        ("attack=context_probe", 0, 4),
    ],
)
def test_a_dry_run_knows_what_an_attack_costs(overrides: str, steps: int, snapshots: int, compose):
    pipeline = Cell(compose(*SMALL, *overrides.split(" ")), "")
    rows = {row["stage"]: row for row in cost.estimate(pipeline, pipeline.stages())}
    unlearn, attack = rows["unlearn"], rows["attack"]
    assert (
        attack["steps"] == steps
        and attack["bytes"] == snapshots * unlearn["bytes"]
        and bool(attack["flops"]) == bool(steps)
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("attack=dimra +attack.levels=[0.1]", "attack.levels=[0.1]: no such key"),
        ("attack=prune attack.levels=[0.5,0.50000001]", "must be one or more different numbers"),
        (
            "method=random_weights method.max_steps=25",
            "method.max_steps=25: this method takes no step. Type method.max_steps=0",
        ),
        (
            "attack=dimra_proxy attack.proxy._target_=unrelearn.data.mnist.MNISTT",
            "Type attack.proxy._target_=unrelearn.data.mnist",
        ),
        (
            (
                "attack=dimra_proxy ~attack.proxy"
                " +attack.proxy={_target_:unrelearn.data.celeba.CelebA,root:x,condition:[Male]}"
            ),
            "attack.proxy",
        ),
    ],
)
def test_what_can_not_work_is_said_in_one_line_before_anything_is_computed(
    overrides: str, said: str, compose
):
    with pytest.raises(UsageError) as error:
        compose(*overrides.split(" "))
    assert any(said in problem for problem in error.value.problems), error.value.problems


def row(model: str, step: float | None, value: float) -> dict:
    return {"model": model, "step": step, "metrics": {"forget_accuracy": {"1.0": {"value": value}}}}


def test_a_curve_over_levels_has_neither_area_nor_steps_to_half():
    rows = [
        row("original", None, 0.9),
        row("unlearned", None, 0.8),
        row("attacked", 0.5, 0.2),
        row("attacked", 1.0, 0.4),
        {"model": "attacked", "step": 2.0, "metrics": {}},
        row("attacked", 3.0, 0.4),
    ]
    found = recovery(rows, "share")["1.0"]
    assert (
        found["budgets"] == [0, 0.5, 1.0, 3.0]
        and found["area"] is None
        and found["steps_to_half"] is None
    )
