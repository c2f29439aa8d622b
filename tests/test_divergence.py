"""A diverged run is a result: it stops, is recorded as such, and nothing broken is passed on."""

import math
from pathlib import Path

import pytest
import torch
from runs import Cell
from tiny import SMALL, denoising, new_task, options, pretraining, train, weights

from unrelearn.diffusion.denoising import Denoising
from unrelearn.fit import fit
from unrelearn.methods.finetune import Finetune


def finite(module) -> bool:
    return all(bool(value.isfinite().all()) for value in weights(module).values())


class Breaking(Finetune):
    """Its loss is not a number at step 5, counted from 1."""

    def losses(self, t: Denoising) -> dict[str, torch.Tensor]:
        return {
            name: value * (math.nan if t.step == 4 else 1.0)
            for name, value in super().losses(t).items()
        }


def breaking(steps: int = 30) -> Denoising:
    return denoising(Breaking(max_steps=steps, batch_size=4, learning_rate=1e-3), new_task())


@pytest.mark.parametrize(("every", "stops"), [(1, 5), (2, 6), (10, 10)])
def test_a_loss_that_is_not_finite_stops_the_run_at_the_next_row(
    every: int, stops: int, tmp_path: Path
):
    module, kept = breaking(), []
    result = fit(
        module,
        tmp_path,
        "test",
        options(log_every_n_steps=every, snapshots=[4, 20], on_snapshot=kept.append),
    )
    assert result["diverged_at"] == module.diverged_at == module.rows[-1][
        "step"
    ] == stops and kept == [4]
    assert math.isnan(module.rows[-1]["retain"])


def test_broken_weights_between_two_rows_are_never_a_snapshot(tmp_path: Path):
    module, kept = breaking(), []
    train(module, tmp_path, log_every_n_steps=10, snapshots=[4, 7], on_snapshot=kept.append)
    assert kept == [4] and module.diverged_at == 7


def test_broken_weights_after_a_last_finite_loss_are_a_divergence(tmp_path: Path):
    class Overflowing(Denoising):
        def on_before_optimizer_step(self, optimizer) -> None:
            next(p for p in self.network.parameters() if p.grad is not None).grad.fill_(math.inf)

    module = train(
        Overflowing(Finetune(max_steps=1, batch_size=4, learning_rate=1e-3), new_task()), tmp_path
    )
    assert (
        math.isfinite(module.rows[-1]["retain"]) and not finite(module) and module.diverged_at == 1
    )


def test_no_checkpoint_is_written_of_a_diverged_run(tmp_path: Path):
    train(breaking(), tmp_path, checkpoint_every_n_steps=5)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_healthy_run_is_not_called_diverged(tmp_path: Path):
    module = train(pretraining(), tmp_path)
    assert module.diverged_at is None and finite(module)


TINY = [
    *SMALL,
    "oracle.max_steps=1",
    "model.pretrain.max_steps=2",
    "method.max_steps=2",
    "attack.budgets=[2]",
    "model.pretrain.batch_size=4",
    "method.batch_size=4",
    "attack.batch_size=4",
    "sampler.num_images=2",
    "sampler.images_per_retained_class=1",
    "sampler.num_inference_steps=1",
    "sampler.guidance_scales=[1.0]",
    "trainer.log_every_n_steps=1",
]


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("pretrain", ["diverged", "diverged", "diverged"]),
        ("method", ["finished", "diverged", "diverged"]),
        ("attack", ["finished", "finished", "diverged"]),
    ],
)
def test_a_diverged_stage_is_a_row_and_what_would_follow_is_left_out(
    where: str, status: list[str], compose
):
    cfg = compose(*TINY)
    part = cfg["model"]["pretrain"] if where == "pretrain" else cfg[where]
    part["learning_rate"] = 1e30  # which would not pass validation
    record = Cell(cfg, "test").complete()
    assert [row["status"] for row in record["rows"]] == status and record["status"] == "diverged"
    assert [bool(row["metrics"]) for row in record["rows"]] == [s == "finished" for s in status]
