"""How a run is executed: precision changes numbers a little and is part of a key; memory layout and
such are not.
"""

import copy
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from runs import Cell
from tiny import TRAINED, from_yaml, new_task, pretraining, train

from unrelearn.diffusion import denoiser
from unrelearn.diffusion.denoising import DenoiserPretraining, Denoising


def losses(module: Denoising) -> list[float]:
    return [value for row in module.rows for name, value in row.items() if name != "step"]


@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_bfloat16_stays_close_to_float32_and_keeps_float32_weights(
    group: str, name: str, compose, tmp_path: Path
):
    make = from_yaml(compose, group, name, steps=5)
    full, half = (
        train(make(new_task()), tmp_path / precision, precision=precision)
        for precision in ("32-true", "bf16-mixed")
    )
    assert all(value.dtype == torch.float32 for value in half.network.state_dict().values())
    drawn = (
        name == "esd"
    )  # it learns from images that the network itself draws, so differences grow
    assert losses(half) == pytest.approx(losses(full), rel=0.1 if drawn else 0.03)
    assert losses(half) != losses(full)
    assert (half.mask is None) == (full.mask is None)
    assert all(torch.equal(mask, half.mask[key]) for key, mask in (full.mask or {}).items())


def test_bfloat16_trains_every_weight(compose, tmp_path: Path):
    make = from_yaml(
        compose, "method", "random_label"
    )  # whose target is computed without gradients in the same step
    module = make(new_task())
    before = {
        key: p.detach().clone() for key, p in module.network.named_parameters() if p.requires_grad
    }
    train(module, tmp_path, precision="bf16-mixed")
    assert not [
        key
        for key, p in module.network.named_parameters()
        if key in before and torch.equal(p, before[key])
    ]


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_float16_gradients_are_clipped_at_their_true_size():
    norms = {}

    class Watched(Denoising):
        def configure_gradient_clipping(self, *arguments, **keywords) -> None:
            gradients = [p.grad.flatten() for p in self.network.parameters() if p.grad is not None]
            norms[self.trainer.precision] = torch.cat(gradients).norm().item()
            super().configure_gradient_clipping(*arguments, **keywords)

    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for how in (
        dict(precision="32-true"),
        dict(plugins=MixedPrecision("16-mixed", "cpu", scaler=scaler)),
    ):
        module = Watched(
            DenoiserPretraining(max_steps=1, batch_size=8, learning_rate=1e-3), new_task(forget=())
        )
        trainer = L.Trainer(
            max_steps=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **how,
        )
        module.network.train()
        trainer.fit(module, [0])
    assert norms["16-mixed"] == pytest.approx(norms["32-true"], rel=0.05)


@pytest.mark.parametrize(
    ("group", "name"), [("method", "salun"), ("method", "dimum"), ("attack", "few_shot")]
)
def test_channels_last_gives_results_close_to_the_default(
    group: str, name: str, compose, tmp_path: Path
):
    make = from_yaml(compose, group, name, steps=8)
    default, last = (
        train(make(new_task()), tmp_path / str(flag), channels_last=flag) for flag in (False, True)
    )
    assert last.network.conv_in.weight.shape == default.network.conv_in.weight.shape
    assert losses(last) == pytest.approx(losses(default), rel=1e-3)
    for key, mask in (default.mask or {}).items():
        assert (mask == last.mask[key]).float().mean() > 0.99


def test_writing_a_snapshot_does_not_disturb_a_channels_last_run(tmp_path: Path):
    def run(folder: str, **changes) -> list[float]:
        module = pretraining(learning_rate=1e-2)

        def keep(step: int) -> None:
            module.save(tmp_path / folder / str(step))

        return losses(train(module, tmp_path / folder, on_snapshot=keep, **changes))

    expected = run("default")
    assert run("without", channels_last=True) == pytest.approx(expected, rel=1e-3)
    assert run("with", channels_last=True, snapshots=[4, 8]) == pytest.approx(expected, rel=1e-3)
    assert all(
        p.is_contiguous() for p in denoiser.load(tmp_path / "with" / "4" / "ema").parameters()
    )


def keys(cfg: dict) -> dict[str, str]:
    pipeline = Cell(cfg, "")
    attacked = pipeline.attacked[-1]
    specs = [
        pipeline.original.stage.spec,
        pipeline.unlearned.stage.spec,
        attacked.stage.spec,
        pipeline.samples(attacked).spec,
        pipeline.evaluation(attacked).spec,
        pipeline.classifiers("main").spec,
        pipeline.classifiers("held_out").spec,
    ]
    names = ("pretrain", "unlearn", "attack", "samples", "evaluate", "oracle", "held_out")
    return {name: spec.key for name, spec in zip(names, specs, strict=True)}


def changed(cfg: dict, where: str, value: object) -> set[str]:
    other = copy.deepcopy(cfg)
    *path, last = where.split(".")
    node = other
    for name in path:
        node = node[name]
    assert node[last] != value
    node[last] = value
    before, after = keys(cfg), keys(other)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("trainer.devices", 2),
        ("trainer.strategy", "ddp"),
        ("trainer.accelerator", "gpu"),
        ("trainer.channels_last", True),
        ("trainer.compile", True),
        ("trainer.threads", 3),
        ("trainer.checkpoint_every_n_steps", 50),
        ("trainer.log_every_n_steps", 5),
        ("trainer.sampling_batch_size", 7),
        ("paths.outputs", "elsewhere"),
        ("paths.data", "elsewhere"),
        ("tracking.backend", "wandb"),
        ("tracking.tags", ["a"]),
        ("stages", ["oracle"]),
        ("rebuild", True),
    ],
)
def test_how_a_run_is_executed_is_no_part_of_any_key(where: str, value: object, compose):
    assert changed(compose(), where, value) == set()


AFTER = {
    "pretrain": {"pretrain", "unlearn", "attack", "samples", "evaluate"},
    "unlearn": {"unlearn", "attack", "samples", "evaluate"},
    "attack": {"attack", "samples", "evaluate"},
    "samples": {"samples", "evaluate"},
    "evaluate": {"evaluate"},
    "oracle": {"oracle", "evaluate"},
}


@pytest.mark.parametrize(
    ("where", "value", "first"),
    [
        ("precision", "bf16-mixed", "pretrain"),
        ("seed", 1, "pretrain"),
        ("model.unet.dropout", 0.1, "pretrain"),
        ("model.pretrain.batch_size", 32, "pretrain"),
        ("model.schedule.beta_end", 0.01, "pretrain"),
        ("forget", [3], "unlearn"),
        ("model.weights", "raw", "unlearn"),
        ("method.memory_weight", 2.0, "unlearn"),
        ("method.memory", "generated", "unlearn"),
        ("attack.retain_fraction", 0.1, "attack"),
        ("attack.budgets", [0, 9], "attack"),
        ("sampler.seed", 1, "samples"),
        ("eval", {}, "evaluate"),
        ("oracle.main.width", 16, "oracle"),
    ],
)
def test_what_changes_a_number_changes_the_keys_from_there_on(
    where: str, value: object, first: str, compose
):
    assert changed(compose(), where, value) == AFTER[first]
