"""A step done in several passes, because the batch does not fit the device, is the step done in
one.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from several_processes import dimra, salun
from test_resume import Stopped, train_in_two_parts
from tiny import denoising, moved, new_task, options, pretraining, tensors, train, weights

from unrelearn import distributed
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.denoising import Denoising
from unrelearn.fit import fit
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.finetune import Finetune

LIMIT = {1: None, 2: 6, 3: 4, 4: 3}  # passes -> trainer.batch_size_per_device for a batch of 12


def averaged() -> Denoising:
    return pretraining(max_steps=9)


def dimum() -> Denoising:
    return denoising(
        DiMUM(memory="fixed_k", max_steps=6, batch_size=12, learning_rate=1e-3), new_task()
    )


TRAININGS = [averaged, dimum, salun, dimra]


def assert_close(a: Denoising, b: Denoising, tolerance: float = 1e-5) -> None:
    assert [row["step"] for row in a.rows] == [row["step"] for row in b.rows]
    for row, expected in zip(a.rows, b.rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], rtol=0, atol=tolerance)
    assert (a.ema is None) == (b.ema is None)
    if a.ema is not None:
        assert a.ema.optimization_step == b.ema.optimization_step == a.method.max_steps
        for p, q in zip(a.ema.shadow_params, b.ema.shadow_params, strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=tolerance)


def watch(module: Denoising) -> list[tuple[int, int]]:
    """Grows by (step, images) with each forward pass that has a gradient."""
    seen = []
    module.network.register_forward_pre_hook(
        lambda network, given: (
            seen.append((module.global_step, len(given[0]))) if torch.is_grad_enabled() else None
        )
    )
    return seen


@pytest.mark.parametrize("make", TRAININGS)
def test_a_step_in_several_passes_is_the_step_in_one(make: Callable, tmp_path: Path):
    whole, before = train(make(), tmp_path / "1"), weights(make())
    assert moved(before, weights(whole))
    for passes in (2, 3, 4):
        module = make()
        seen = watch(module)
        train(module, tmp_path / str(passes), batch_size_per_device=LIMIT[passes])
        assert_close(
            module, whole, tolerance=1e-4 if make is salun else 1e-5
        )  # as in test_ddp: small first gradients
        terms = 1 if make in (averaged, dimra) else 2
        taken = [(step, images) for step, images in seen if images <= terms * 12 // passes]
        assert taken == [
            (step, terms * 12 // passes)
            for step in range(module.method.max_steps)
            for _ in range(passes)
        ]


@pytest.mark.parametrize(
    ("batch_size", "limit", "sizes"),
    [
        (12, None, [12]),
        (12, 12, [12]),
        (12, 500, [12]),
        (12, 11, [6] * 2),
        (12, 6, [6] * 2),
        (12, 5, [4] * 3),
        (12, 3, [3] * 4),
        (12, 1, [1] * 12),
        (7, 6, [1] * 7),
    ],
)
def test_there_are_as_few_passes_as_equal_parts_allow(
    batch_size: int, limit, sizes: list[int], tmp_path: Path
):
    module = denoising(Finetune(max_steps=2, batch_size=batch_size, learning_rate=1e-3), new_task())
    seen = watch(module)
    train(module, tmp_path, batch_size_per_device=limit)
    assert seen == [(step, size) for step in (0, 1) for size in sizes]
    assert [row["step"] for row in module.rows] == [1, 2]


def test_the_passes_together_draw_the_batch_and_nothing_twice():
    module = dimum()
    whole = tensors(module.draw("retain", module.task.retain))
    module.accumulate, parts = 3, []
    for module.micro in range(3):
        parts.append(tensors(module.draw("retain", module.task.retain)))
    for name, value in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), value), name
    assert whole["noise"].flatten(1).unique(dim=0).shape[0] == 12


def test_dropout_is_new_in_each_pass_and_depends_on_the_part_of_the_batch_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    def masks(world: int, passes: int) -> list[list[float]]:
        """Numbers that dropout would use, of each part of the batch in its order."""
        drawn = []
        module = denoising(Finetune(max_steps=1, batch_size=12, learning_rate=1e-3), new_task())
        module.accumulate = passes
        weight = next(module.network.parameters())
        module.method.losses = lambda t: (
            drawn.append(torch.rand(3).tolist()) or {"none": weight.sum()}
        )
        monkeypatch.setattr(distributed, "world_size", lambda: world)
        for rank in range(world):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            for number in range(passes):
                module.training_step(None, number)
        return drawn

    assert masks(1, 4) == masks(2, 2) == masks(4, 1)
    assert len(set(map(tuple, masks(1, 4)))) == 4


@pytest.mark.parametrize(("first", "second"), [(1, 3), (2, 1), (3, 4)])
@pytest.mark.parametrize("make", [averaged, dimra])
def test_a_stopped_run_may_go_on_with_another_number_of_passes(
    make: Callable, first: int, second: int, tmp_path: Path
):
    whole = train(make(), tmp_path / "whole")
    modules = []

    def new() -> Denoising:
        modules.append((module := make(), watch(module)))
        return module

    parts = train_in_two_parts(
        new,
        tmp_path / "parts",
        8,
        batch_size_per_device=LIMIT[first],
        second={"batch_size_per_device": LIMIT[second]},
    )
    assert_close(parts, whole)
    seen = modules[1][
        1
    ]  # it goes on after the checkpoint of step 6, with whole steps of so many passes
    assert seen == [
        (step, 12 // second) for step in range(6, whole.method.max_steps) for _ in range(second)
    ]
    assert parts.trainer.global_step == whole.trainer.global_step == whole.method.max_steps


def test_a_run_killed_between_two_passes_does_the_step_again(tmp_path: Path):
    class Breaks(Finetune):
        def losses(self, t: Denoising) -> dict:
            if (t.step, t.micro) == (7, 1):
                raise Stopped
            return super().losses(t)

    def make(kind: type = Finetune) -> Denoising:
        return denoising(kind(max_steps=9, batch_size=12, learning_rate=1e-3), new_task())

    whole = train(make(), tmp_path / "whole", batch_size_per_device=4)
    with pytest.raises(Stopped):
        train(
            make(Breaks),
            tmp_path / "parts",
            batch_size_per_device=4,
            checkpoint_every_n_steps=5,
            log_every_n_steps=2,
        )
    parts = train(
        make(),
        tmp_path / "parts",
        batch_size_per_device=4,
        checkpoint_every_n_steps=5,
        log_every_n_steps=2,
    )
    assert not moved(weights(whole), weights(parts))
    losses = [row["retain"] for row in whole.rows]
    for row in parts.rows:
        steps = losses[(row["step"] - 1) // 2 * 2 : row["step"]]
        assert row["retain"] == pytest.approx(sum(steps) / len(steps), rel=1e-5)


def test_snapshots_are_taken_after_whole_steps(tmp_path: Path):
    module, taken = dimra(), []

    def keep(step: int) -> None:
        taken.append((step, module.trainer.global_step))
        module.save(tmp_path / f"at_{step}")

    fit(
        module,
        tmp_path,
        "test",
        options(snapshots=[2, 5], on_snapshot=keep, batch_size_per_device=4),
    )
    assert taken == [(2, 2), (5, 5)]
    for step in (2, 5):
        shorter = train(dimra(step), tmp_path / str(step))
        kept = denoiser.load(tmp_path / f"at_{step}" / "raw").state_dict()
        for name, value in weights(shorter).items():
            torch.testing.assert_close(kept[name], value, rtol=0, atol=1e-5)


def test_dimum_stops_at_its_plateau_after_the_same_step(tmp_path: Path):
    def end(limit: int | None) -> int:
        module = denoising(
            DiMUM(
                memory="another_class",
                plateau_tolerance=1.0,
                plateau_steps=3,
                max_steps=9,
                batch_size=8,
                learning_rate=1e-3,
            ),
            new_task(),
        )
        return train(module, tmp_path / str(limit), batch_size_per_device=limit).rows[-1]["step"]

    assert end(None) == end(2) == 6
