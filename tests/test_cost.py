"""dry_run=true: FLOPs are those that torch counts in real passes, and the sums are those one does
by hand.
"""

import json
import re
import sys
from pathlib import Path

import forked
import pytest
import torch
from command import ROOT, environment
from runs import Cell, execute
from tiny import SCHEDULE, SMALL, UNET, network
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unrelearn import cost
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.kind import Denoisers, forward_cost
from unrelearn.errors import UsageError
from unrelearn.record import share_of_pretraining

SIZES = [
    *SMALL,
    "model.pretrain.max_steps=4",
    "model.pretrain.batch_size=12",
    "unlearning.max_steps=3",
    "unlearning.batch_size=8",
    "relearning.budgets=[0,1,2]",
    "relearning.batch_size=6",
    "sampler.num_images=5",
    "sampler.images_per_retained_class=2",
    "sampler.num_inference_steps=3",
    "sampler.guidance_scales=[1.0,2.0]",
    "sampler.retain_guidance_scales=[1.0]",
    "sampler.second={name:ddpm,num_inference_steps:7,num_images:4}",
]
FORWARD, WEIGHTS = 1_000_000, 1000


# -------------------------------------------------------------------------------------------- FLOPs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_levels": [1], "attention_head_dim": 8},
        {"attention_levels": [0, 1], "dropout": 0.3},
        {
            "architecture": "salun",
            "block_out_channels": [32, 64],
            "norm_num_groups": 8,
            "attention_levels": [1],
        },
    ],
    ids=str,
)
def test_a_forward_pass_costs_what_torch_counts_in_a_real_one(changes: dict):
    shape = dict(image_size=8, channels=3, num_classes=10)
    flops, weights = forward_cost(**shape, **{**UNET, **changes})
    network = denoiser.build(**shape, **{**UNET, **changes})
    x_t, t = torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
    # torch does not count the CPU's own attention kernel
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        denoiser.predict(network, x_t, t, t)
    assert counter.get_total_flops() == 4 * flops
    assert weights == sum(p.numel() for p in network.parameters())


# ------------------------------------------------------------------------------------ steps x batch


def estimate(cell: Cell) -> list[dict]:
    return cost.estimate(cell, cell.stages())


def by_hand(monkeypatch: pytest.MonkeyPatch, cfg: dict) -> list[tuple]:
    """(stage, of, steps, forward passes of one image, bytes) with a network that costs a round
    number.
    """
    monkeypatch.setattr(Denoisers, "cost", lambda kind: (FORWARD, WEIGHTS))
    return [
        (r["stage"], r["what"], r["steps"], r["flops"] / FORWARD, r["bytes"])
        for r in estimate(Cell(cfg, ""))
    ]


# guidance is two passes; two of five images have three steps more; four by another sampler; 9
# retained classes; 8x8 grey images
FORGET = (5 * 3 + 2 * 3) * (1 + 2)
SAMPLES = FORGET + 4 * 7 * (1 + 2) + 9 * 2 * 3, (5 * 2 + 4 * 2 + 9 * 2) * 64


def test_the_costs_are_steps_times_batch_times_passes(compose, monkeypatch: pytest.MonkeyPatch):
    assert by_hand(monkeypatch, compose(*SIZES)) == [
        ("pretrain", "", 4, 4 * 12 * 3, 2 * 4 * WEIGHTS),  # raw and averaged weights, of four bytes
        ("unlearn", "dimum", 3, 3 * 8 * 6, 4 * WEIGHTS),  # two batches a step
        ("attack", "dimra", 2, 2 * 6 * 3, 2 * 4 * WEIGHTS),  # two snapshots
        ("samples", "pretrain", 0, *SAMPLES),
        ("samples", "unlearn", 0, *SAMPLES),
        ("samples", "attack at 1", 0, *SAMPLES),
        ("samples", "attack at 2", 0, *SAMPLES),
    ]


def test_an_attack_that_starts_from_images_draws_its_control_too(
    compose, monkeypatch: pytest.MonkeyPatch
):
    rows = by_hand(monkeypatch, compose(*SIZES, "attack=context_probe", "attack.levels=[0.5]"))
    assert rows[-2] == ("samples", "unlearn", 0, *SAMPLES)
    assert rows[-1] == ("samples", "attack at 0.5", 0, SAMPLES[0] + FORGET, SAMPLES[1] + 5 * 2 * 64)


def test_a_method_with_a_pass_without_gradients_and_no_average(
    compose, monkeypatch: pytest.MonkeyPatch
):
    cfg = compose(
        *SIZES, "method=salun", "attack=none", "model.pretrain.ema_decay=null", "model.weights=raw"
    )
    assert by_hand(monkeypatch, cfg)[:2] == [
        ("pretrain", "", 4, 4 * 12 * 3, 4 * WEIGHTS),
        ("unlearn", "salun", 3, 3 * 8 * 7, 4 * WEIGHTS),
    ]


def test_retraining_is_a_pretraining(compose, monkeypatch: pytest.MonkeyPatch):
    rows = by_hand(monkeypatch, compose(*SIZES, "method=retrain", "attack=none"))
    assert rows[1] == ("unlearn", "retrain", *rows[0][2:])


def test_controls_cost_nothing(compose, monkeypatch: pytest.MonkeyPatch):
    assert [
        row[0] for row in by_hand(monkeypatch, compose(*SIZES, "method=original", "attack=none"))
    ] == ["pretrain", "samples"]
    rows = by_hand(monkeypatch, compose(*SIZES, "method=row_swap", "attack=none"))
    assert rows[1] == ("unlearn", "row_swap", 0, 0, 4 * WEIGHTS)


def test_only_the_stages_asked_for_are_counted(compose, monkeypatch: pytest.MonkeyPatch):
    assert [
        row[0] for row in by_hand(monkeypatch, compose(*SIZES, "stages=[pretrain,unlearn]"))
    ] == ["pretrain", "unlearn"]


def test_an_imported_model_is_not_trained(compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    denoiser.save(network(), tmp_path / "ema", SCHEDULE)
    rows = by_hand(monkeypatch, compose(*SIZES, f"model.checkpoint={tmp_path}"))
    assert [row[0] for row in rows][:2] == ["unlearn", "attack"]


def test_what_an_attack_costs_is_a_share_of_pretraining(compose, tmp_path: Path):
    def share(*overrides: str) -> float | None:
        return share_of_pretraining(Cell(compose(*overrides), ""))

    assert share() == 800 * 64 / (2000 * 64) == 0.4
    assert share(
        "attack=few_shot", "attack.budgets=[0,100]", "attack.batch_size=32"
    ) == pytest.approx(100 * 32 * 2 / (2000 * 64))
    assert share("attack=interpolation", "attack.towards=attacked") == 0.4
    weights = denoiser.build(image_size=8, channels=1, num_classes=10, **compose()["model"]["unet"])
    denoiser.save(weights, tmp_path / "ema", compose()["model"]["schedule"])
    for nothing in (
        "attack=none",
        "attack=interpolation",
        "attack=quantize",
        f"model.checkpoint={tmp_path}",
    ):
        assert share(nothing) is None, nothing


# ------------------------------------------------------------------------------------ what there is


def shown(text: str) -> tuple[list[str], str]:
    """The column that says what is there, and the sum."""
    text = " ".join(text.split())
    return (
        re.findall(r"there|to do(?!:)", text.partition("to do:")[0]),
        text[text.index("to do:") :],
    )


def test_what_is_there_is_not_counted_and_has_the_size_that_was_said(compose, capsys):
    chosen = [
        *SIZES,
        "method=retrain",
        "oracle.max_steps=2",
        "oracle.main.width=8",
        "oracle.held_out.width=8",
    ]
    before = estimate(Cell(compose(*chosen), ""))
    Cell(compose(*chosen, "stages=[pretrain,unlearn]"), "").complete()
    capsys.readouterr()
    assert execute(compose(*chosen, "dry_run=true"), "") is None
    column, total = shown(capsys.readouterr().out)
    assert column == ["there"] * 2 + ["to do"] * 5
    missing = [row for row in before if row["stage"] not in ("pretrain", "unlearn")]
    assert total.startswith("to do: 2 optimiser steps, ")
    assert f"{sum(row['flops'] for row in missing) / 1e15:,.3g} PFLOP" in total
    pipeline = Cell(compose(*chosen), "")
    pipeline.complete()
    assert [row["there"] for row in estimate(pipeline)] == [True] * 7
    for row in before:
        folder = pipeline.store.root / row["stage"] / row["key"]
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        assert (
            row["bytes"] < size < 1.1 * row["bytes"] + 1500
        )  # labels, and names, of which so few weights have many
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["meta"].get("steps", 0) == row["steps"]


def test_a_dry_run_says_the_hours_of_the_device_it_is_told_and_writes_nothing(
    compose, capsys, tmp_path: Path
):
    cfg = compose(*SIZES, "dry_run=true", "cost.device_tflops=0.001", "cost.utilisation=0.5")
    execute(cfg, "")
    flops = sum(row["flops"] for row in estimate(Cell(cfg, "")))
    _, total = shown(capsys.readouterr().out)
    assert (
        f"= {flops / 0.5e9 / 3600:,.3g} GPU-hours at 50% of 0.001 TFLOP/s" in total
        and "Nothing was computed." in total
    )
    assert list((tmp_path / "outputs").iterdir()) == []


def test_what_nobody_counts_is_no_nought(compose, capsys):
    execute(compose("experiment=vflgan", "design=vflgan", "dry_run=true"), "")
    printed = capsys.readouterr().out
    assert printed.count("not counted") == 4  # FLOPs, hours, bytes; and of the sum
    assert "of federation what is not counted; classifiers and distances come" in " ".join(
        printed.split()
    )


# -------------------------------------------------------------------------------------- experiments


def test_experiments_say_their_cost_without_data_and_without_a_gpu(tmp_path: Path):
    """The real command, asked for more processes than this machine could start."""
    given = [
        "-m",
        "experiment=cifar10,cifar10_35k",
        "dry_run=true",
        f"paths.outputs={tmp_path / 'outputs'}",
        f"paths.data={tmp_path / 'nothing'}",
        "++dataset.download=false",
        "trainer.devices=64",
        "trainer.strategy=ddp",
    ]
    words = [sys.executable, str(ROOT / "run.py"), *given]
    done = forked.finish(words, cwd=ROOT, env=environment(CUDA_VISIBLE_DEVICES=""))
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.strip().splitlines()  # once, though two runs need it
    assert line.startswith(f"not yet: dataset.root={tmp_path / 'nothing'}: ")
    for table, pflop in zip(done.stdout.split("dry run: ")[1:], ("3.82e+03", "167"), strict=True):
        column, total = shown(table)
        assert (
            column == ["to do"] * 11
            and f" {pflop} " in table
            and f"in {tmp_path / 'outputs'}" in total
        )
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {
        "multirun.yaml"
    }  # Hydra's own


def test_celeba_says_its_cost_while_its_files_are_still_to_be_had(compose, capsys, tmp_path: Path):
    execute(
        compose(
            "experiment=celeba", "dry_run=true", "trainer=gpu", f"paths.data={tmp_path / 'nothing'}"
        ),
        "",
    )
    said = capsys.readouterr()
    assert said.err.startswith(
        f"not yet: dataset.root={tmp_path / 'nothing'}: missing img_align_celeba/"
    )
    assert len(said.err.splitlines()) == 1
    column, _ = shown(said.out)
    assert (
        column == ["to do"] * 11 and " 8.97e+03 " in said.out
    )  # 500,000 steps of 128 images, 3 x 46.74 GFLOP each
    assert list((tmp_path / "outputs").iterdir()) == []
    with pytest.raises(UsageError) as error:
        compose("experiment=celeba", f"paths.data={tmp_path / 'nothing'}")
    assert [f"not yet: {problem}" for problem in error.value.problems] == said.err.splitlines()


def test_references_of_a_classifier_count(compose):
    words = ["references.count=3", "model.pretrain.max_steps=7", "attack=none"]
    rows = estimate(Cell(compose("experiment=classification", *words), ""))
    (references,) = (row for row in rows if row["stage"] == "references")
    (pretrain,) = (row for row in rows if row["stage"] == "pretrain")
    assert references["steps"] == 21 and references["flops"] == 3 * pretrain["flops"]
