"""What every method does: what it may move, and what a step of it costs."""

import math
from pathlib import Path

import pytest
import torch
from makers import (
    amnesia,
    concept_ablation,
    erasediff_paper,
    erasediff_released,
    esd,
    scissorhands,
    sfron,
    siss,
)
from runs import Cell
from test_fit import LIMIT, assert_close
from test_resume import assert_same, train_in_two_parts
from tiny import (
    METHODS,
    NO_TRAINING,
    from_yaml,
    moved,
    new_task,
    train,
    weights,
)

from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.denoising import Denoising
from unrelearn.errors import UsageError

TRAINED = [name for name in METHODS if name not in NO_TRAINING]


ALL = torch.tensor(True)


@pytest.mark.parametrize("name", TRAINED)
def test_three_steps_move_what_they_may_and_nothing_else(name: str, compose, tmp_path: Path):
    make = from_yaml(compose, "method", name)
    module = make(new_task())
    before, trainable = (
        weights(module),
        {n for n, p in module.network.named_parameters() if p.requires_grad},
    )
    train(module, tmp_path)
    assert [row["step"] for row in module.rows] == [1, 2, 3] and module.diverged_at is None
    assert all(math.isfinite(value) for row in module.rows for value in row.values())
    assert moved(before, weights(module)) == {
        n for n in trainable if bool((module.method.moving(module) or {}).get(n, ALL).any())
    }
    assert trainable == before.keys() - ({CLASS_EMBEDDING} if name != "retrain" else set())


def test_every_method_has_a_file_of_its_name(compose):
    for name in METHODS:
        assert compose(f"method={name}")["method"]["_target_"].startswith(
            f"unrelearn.methods.{name}."
        )


def test_original_and_no_attack_pass_the_model_through(compose):
    pipeline = Cell(compose("method=original", "attack=none"), "")
    assert pipeline.unlearned is pipeline.original and pipeline.attacked == []
    assert Cell(compose(), "").unlearned != pipeline.original


NAMES = [
    "esd",
    "concept_ablation",
    "erasediff_paper",
    "erasediff_released",
    "restricted_gradient",
    "munba",
]


@pytest.mark.parametrize("name", NAMES)
def test_only_the_blocks_that_may_move_do_and_the_rest_stays_to_the_bit(
    name: str, compose, tmp_path: Path
):
    module = from_yaml(compose, "method", name, "+method.blocks=[up_blocks,conv_out]", steps=2)(
        new_task()
    )
    before = weights(module)
    train(module, tmp_path)
    assert moved(before, weights(module)) == {
        n for n in before if n.startswith(("up_blocks", "conv_out"))
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_layout_changes_no_step(name: str, compose, tmp_path: Path):
    make = from_yaml(compose, "method", name, "method.learning_rate=1e-4")
    rows, other = (
        train(make(new_task()), tmp_path / str(last), channels_last=last).rows
        for last in (False, True)
    )
    for row, expected in zip(rows, other, strict=True):
        assert row == pytest.approx(expected, rel=1e-3)


def test_several_classes_are_forgotten_at_once(compose, tmp_path: Path):
    for name in NAMES:
        module = train(
            from_yaml(compose, "method", name, steps=2)(new_task((3, 7))), tmp_path / name
        )
        assert len(module.rows) == 2 and module.diverged_at is None


@pytest.mark.parametrize("make", [esd, concept_ablation, erasediff_paper, erasediff_released])
def test_a_step_in_several_passes_is_the_step_in_one(make, tmp_path: Path):
    whole = train(make(), tmp_path / "whole")
    for passes in (2, 3):
        parts = train(make(), tmp_path / str(passes), batch_size_per_device=LIMIT[passes])
        assert_close(parts, whole, tolerance=3e-4)


MAKE = [amnesia, siss, sfron, scissorhands]


@pytest.mark.parametrize("make", MAKE)
def test_frozen_blocks_stay_as_they_were_to_the_bit(make, tmp_path: Path):
    module = make(blocks=["up_blocks"])
    before = weights(module)
    assert {name.split(".")[0] for name in moved(before, weights(train(module, tmp_path)))} == {
        "up_blocks"
    }


@pytest.mark.parametrize("make", [amnesia, siss, scissorhands])
def test_weights_outside_a_mask_stay_as_they_were_to_the_bit(make, tmp_path: Path):
    module = make(saliency_fraction=0.3)
    before = weights(module)
    train(module, tmp_path)
    for name, value in weights(module).items():
        assert not (before[name] != value)[
            ~module.mask.get(name, torch.zeros_like(value, dtype=torch.bool))
        ].any(), name


@pytest.mark.parametrize("make", MAKE)
def test_a_stopped_run_ends_with_the_same_bits(make, tmp_path: Path):
    def new() -> Denoising:
        return make(new_task(dropout=0.1), max_steps=7, learning_rate=1e-2)

    whole, parts = train(new(), tmp_path / "whole"), train_in_two_parts(new, tmp_path / "parts", 5)
    assert_same(whole, parts)
    if make is amnesia:  # what is held on to and replayed is that of the original model
        assert torch.equal(whole.method.replay.images, parts.method.replay.images)
        for (_, *of_whole), (_, *of_parts) in zip(
            whole.method.anchors, parts.method.anchors, strict=True
        ):
            assert all(map(torch.equal, of_whole, of_parts))
    if make is sfron:
        assert not moved(whole.mask, parts.mask)


@pytest.mark.parametrize("make", MAKE)
def test_losses_that_are_sums_weigh_each_other_as_means_do(make):
    task, module = new_task(), make()
    task.loss_reduction = "sum"
    in_sums = make(task)
    for m in (module, in_sums):
        m.prepare()
        with torch.no_grad():
            for p in m.network.parameters():
                p += 1e-3  # away from where nothing pulls back
    means, sums = module.method.losses(module), in_sums.method.losses(in_sums)
    assert {name: value.item() for name, value in sums.items()} == pytest.approx(
        {name: 64 * value.item() for name, value in means.items()}, rel=1e-4
    )


@pytest.mark.parametrize("make", [siss, sfron])
def test_what_needs_the_whole_step_refuses_parts_of_it(make, tmp_path: Path):
    with pytest.raises(
        UsageError,
        match=r"^(SISS|SFRon), method.combine=\w+: .*Type trainer.batch_size_per_device=null",
    ):
        train(make(), tmp_path, batch_size_per_device=4)
