"""The same run of a classifier, whoever makes it: the command, tracked; two workers of a grid; two
processes of one run.
"""

import json
import sys
from pathlib import Path

import forked
import pytest
import torch
import twice
from command import ROOT, environment, numbers, weights_of
from safetensors.torch import load_file
from test_ddp import close
from test_tracking import columns, read

from unrelearn.report.records import ONLY

WORDS = [
    "experiment=classification",
    "method=random_label",
    "model.network.widths=[4,6,8]",
    "model.pretrain.max_steps=20",
    "references.count=2",
    "unlearning.max_steps=4",
    "relearning.budgets=[0,4]",
    "eval=[forget_accuracy,gap]",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
]


def finished(outputs: Path, *command: str) -> str:
    done = forked.finish(
        [sys.executable, *command, *WORDS, f"paths.outputs={outputs}"],
        cwd=ROOT,
        env=environment(CUDA_VISIBLE_DEVICES=""),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of the command, in one process, with the files of W&B."""
    outputs = tmp_path_factory.mktemp("tracked")
    finished(outputs, "run.py", "tracking=wandb")
    return outputs


def record(outputs: Path) -> dict:
    (path,) = outputs.glob("runs/*/result.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("stage", "curve"), [("pretrain", "data"), ("unlearn", "forget"), ("attack", "held")]
)
def test_the_losses_of_each_stage_are_tracked(tracked: Path, stage: str, curve: str):
    (path,) = tracked.glob(f"artifacts/{stage}/*/losses.json")
    losses = json.loads(path.read_text())
    header, rows, _, axes = read(tracked, f"-{stage}-")
    (axis,) = axes.values()
    assert header["job_type"] == stage and losses[0]["step"] == 2
    assert columns(rows, axis, f"{stage}/{curve}") == [(row["step"], row[curve]) for row in losses]


def test_what_comes_back_is_tracked(tracked: Path):
    header, rows, summary, axes = read(tracked, "-result-")
    found = record(tracked)
    original, *after = [row["metrics"]["forget_accuracy"][ONLY]["value"] for row in found["rows"]]
    assert header["display_name"] == found["name"] and axes == {"recovery/*": "recovery/budget"}
    line = columns(rows, "recovery/budget", "recovery/forget_accuracy@1")
    assert line == list(zip([0, 4], after, strict=True))
    assert summary["original/forget_accuracy@1"] == original
    assert summary["attacked/forget_accuracy@1"] == after[-1]


def test_two_workers_of_a_grid_make_the_same(tracked: Path, tmp_path: Path):
    script = [twice.__file__, "False", "scripts/grid.py", "run", "--no-report"]
    said = finished(tmp_path, *script, "tracking=none", "attack=none,relearn")
    made, alone = numbers(tmp_path), numbers(tracked)
    assert len(made) == 2 and len(alone) == 1 and alone.items() <= made.items()
    assert weights_of(tmp_path) == weights_of(tracked)
    made = [line.split("] ")[1] for line in said.splitlines() if line.startswith("[")]
    assert len(made) == len(set(made)) == 9 and "9 distinct parts, 0 of them there" in said


def test_two_processes_make_the_same(tracked: Path, tmp_path: Path):
    words = ["tracking=none", "trainer=ddp", "trainer.devices=2"]
    finished(tmp_path, twice.__file__, "True", "run.py", *words)
    two, one = record(tmp_path), record(tracked)
    assert two["name"] == one["name"] and two["config"]["trainer"]["devices"] == 2
    assert [stage["key"] for stage in two["stages"]] == [stage["key"] for stage in one["stages"]]
    for row, expected in zip(two["rows"], one["rows"], strict=True):
        assert row["evaluate"] == expected["evaluate"] and row["status"] == "finished"
        assert close(row["metrics"], expected["metrics"])
    files = weights_of(tracked).keys()
    assert files == weights_of(tmp_path).keys()
    for file in files:
        a, b = (load_file(outputs / "artifacts" / file) for outputs in (tracked, tmp_path))
        for name, value in a.items():
            torch.testing.assert_close(b[name], value, rtol=0, atol=1e-5, msg=f"{file} {name}")
    manifests = [json.loads(path.read_text()) for path in tmp_path.rglob("manifest.json")]
    assert {manifest["meta"]["processes"] for manifest in manifests} == {2}
