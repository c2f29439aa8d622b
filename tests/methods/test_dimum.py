"""DiMUM: its loss, its memory data and where it stops."""

from pathlib import Path

import pytest
import torch
from formulas import gradients, mean_squared_error
from runs import Cell
from tiny import (
    denoising,
    from_yaml,
    new_task,
    train,
    weights,
)

from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.denoising import Denoising
from unrelearn.methods.dimum import DiMUM

SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


def test_a_method_may_train_the_row_when_asked_to(compose, tmp_path: Path):
    module = from_yaml(compose, "method", "dimum", "train_class_embedding=true")(new_task())
    before = weights(module)[CLASS_EMBEDDING]
    train(module, tmp_path)
    assert not torch.equal(before[7], module.network.class_embedding.weight[7])


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_dimum_is_the_retain_loss_plus_lambda_times_the_memory_loss(kind: str):
    task = new_task(prediction_type=kind)
    module = denoising(
        DiMUM(memory="another_class", memory_weight=2.5, label_dropout=0.4, **SMALL), task
    )
    module.prepare()
    losses = module.method.losses(module)
    retain = module.draw("retain", module.task.retain)
    memory = module.draw("memory", module.method.memory_data, label_dropout=0.0)
    assert (
        memory.labels.tolist() == [7] * 8
        and 10 in retain.labels
        and losses.keys() == {"retain", "memory"}
    )
    expected = mean_squared_error(module, retain, kind) + 2.5 * mean_squared_error(
        module, memory, kind
    )
    assert losses["memory"].item() == pytest.approx(
        2.5 * mean_squared_error(module, memory, kind).item(), rel=1e-5
    )
    found = gradients(module, sum(losses.values()))
    torch.testing.assert_close(found, gradients(module, expected), rtol=1e-3, atol=1e-5)


def test_memory_labels_are_dropped_only_on_request():
    module = denoising(
        DiMUM(
            memory="another_class",
            memory_label_dropout=0.5,
            label_dropout=0.0,
            **SMALL | {"batch_size": 400},
        ),
        new_task(),
    )
    module.prepare()
    seen = []
    module.losses = lambda **batches: (
        seen.append(batches) or {name: torch.zeros(()) for name in batches}
    )
    module.method.losses(module)
    assert (seen[0]["memory"].labels == 10).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert not (seen[0]["retain"].labels == 10).any()


def test_only_the_nearest_class_needs_the_oracle(compose):
    for memory, parents in (("nearest_class", 2), ("another_class", 1), ("generated", 1)):
        assert (
            len(Cell(compose(f"method.memory={memory}"), "").unlearned.stage.spec.parents)
            == parents
        )


def dimum(**arguments) -> Denoising:
    return denoising(
        DiMUM(memory="another_class", **SMALL | {"max_steps": 12} | arguments), new_task()
    )


@pytest.mark.parametrize(("tolerance", "steps"), [(None, 12), (-10.0, 12), (1.0, 8)])
def test_dimum_stops_at_the_second_window_only_if_the_memory_loss_has_stopped_falling(
    tolerance, steps, tmp_path: Path
):
    module = train(dimum(plateau_tolerance=tolerance, plateau_steps=4), tmp_path)
    assert module.rows[-1]["step"] == steps and len(module.rows) == steps


@pytest.mark.parametrize(
    ("memory", "stops"),
    [
        ([1.0, 1.0, 0.9, 0.9], False),
        ([1.0, 1.0, 0.96, 0.96], True),
        ([1.0, 1.0, 1.0, 0.7], False),
        ([1.0, 1.0, 1.0, 1.0, 1.0], False),  # in the middle of a window
        ([1.0, 1.0], False),
        ([5.0, 1.0, 1.0, 1.0, 1.0, 1.0], True),
    ],
)
def test_the_plateau_is_the_fall_from_one_window_to_the_next(memory, stops: bool):
    module = dimum(plateau_tolerance=0.05, plateau_steps=20)
    module.rows = [{"step": 10 * (k + 1), "memory": value} for k, value in enumerate(memory)]
    assert module.method.converged(module) is stops


def test_how_often_rows_are_recorded_does_not_change_where_dimum_stops(tmp_path: Path):
    ends = [
        train(
            dimum(max_steps=40, plateau_tolerance=0.3, plateau_steps=8),
            tmp_path / str(every),
            log_every_n_steps=every,
        ).rows[-1]["step"]
        for every in (1, 2, 8)
    ]
    assert len(set(ends)) == 1 and 16 <= ends[0] < 40
