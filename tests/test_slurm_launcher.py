"""hydra/launcher=slurm on a real Slurm of one node, and what is refused before anything is
queued.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import ROOT, TINY, command, environment, run, weights_of
from filelock import FileLock
from hydra.core.global_hydra import GlobalHydra
from runs import Cell, execute
from safetensors.torch import load_file
from slurm_cluster import Cluster

from unrelearn.config import composed

SHORT = [
    "unlearning.max_steps=10",
    "unlearning.batch_size=16",
    "relearning.budgets=[0,5,10]",
    "relearning.batch_size=16",
]
SMALL = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]


def start(cluster: Cluster, *overrides: str) -> subprocess.Popen:
    return subprocess.Popen(
        command("hydra/launcher=slurm", *SMALL, *overrides),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(), **cluster.env, "OMP_NUM_THREADS": "1"},
    )


def ended(launcher: subprocess.Popen, expect: int) -> tuple[str, str]:
    try:
        out, err = launcher.communicate(timeout=900)
    finally:
        launcher.kill()
    assert launcher.returncode == expect, out + err
    return out, err


def metrics_of(outputs: Path) -> dict[str, bytes]:
    store = outputs / "artifacts"
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("metrics.json")
    }


def test_a_grid_equals_a_local_one_and_a_killed_job_is_named_and_made_up_for(
    slurm_cluster: Cluster, compose: Callable[..., dict], tmp_path: Path
):
    here, there = tmp_path / "here", tmp_path / "there"
    grid = ["-m", *SHORT, "method=dimum,salun", "attack=dimra", f"paths.outputs={there}"]
    cells = [
        compose(*TINY, *SHORT, f"method={method}", "attack=dimra", f"paths.outputs={here}")
        for method in ("dimum", "salun")
    ]
    key = Cell(cells[0], "").attacked[0].stage.spec.key
    (there / "artifacts" / "attack").mkdir(parents=True)
    with FileLock(
        there / "artifacts" / "attack" / f"{key}.lock"
    ):  # the first job is in the middle until it is killed
        launcher = start(slurm_cluster, *grid)
        for cfg in cells:
            execute(cfg, "")
        said = slurm_cluster.wait(
            lambda: next((there / "slurm").glob("*_0/*_0_log.out"), None),
            "the first job's log",
            120,
        )
        slurm_cluster.wait(
            lambda: f"waiting for attack/{key}" in said.read_text(),
            "the first job to be there",
            120,
        )
        number = slurm_cluster.job(said.parent.name)[0]["JobId"]
        lines = [
            line.split()
            for line in slurm_cluster.run("scontrol", "listpids", f"{number}.0").splitlines()[1:]
        ]
        os.kill(next(int(pid) for pid, *_, task in lines if task == "0"), signal.SIGKILL)
        out, err = ended(launcher, expect=1)
    assert "failed: method=dimum: its job ended as FAILED" in err
    assert "1 of 2 runs failed; the same command runs only what is missing" in err
    assert "_1 finished: method=salun\n" in out and "_0 failed: method=dimum: " in out
    before = {path: path.stat().st_mtime_ns for path in there.rglob("manifest.json")}
    out, err = ended(start(slurm_cluster, *grid), expect=0)
    assert (
        out.count(" finished: ") == 2 and " DiMUM " in out and " SalUn " in out and not err
    )  # the comparison
    after = {path: path.stat().st_mtime_ns for path in there.rglob("manifest.json")}
    assert before.items() < after.items()
    assert {path.parents[1].name for path in set(after) - set(before)} == {
        "attack",
        "samples",
        "evaluate",
    }
    assert len(metrics_of(here)) > 6 and metrics_of(there) == metrics_of(here)
    assert weights_of(there) == weights_of(here)


def test_a_job_of_two_tasks_that_hits_its_limit_goes_on_from_its_checkpoint(
    slurm_cluster: Cluster, compose: Callable[..., dict], tmp_path: Path
):
    given = ["stages=[pretrain]", "model.pretrain.max_steps=60", "model.pretrain.batch_size=128"]
    launcher = start(
        slurm_cluster,
        *given,
        "trainer=ddp",
        "trainer.devices=2",
        "hydra.launcher.timeout_min=5",
        f"paths.outputs={tmp_path / 'two'}",
    )
    checkpoint = slurm_cluster.wait(
        lambda: next((tmp_path / "two").rglob("last.ckpt"), None), "a checkpoint", 120
    )
    (job,) = slurm_cluster.squeue()
    slurm_cluster.run("scancel", "--signal=USR2", job)  # as Slurm does before the limit
    slurm_cluster.wait_for(job, "PENDING")
    state = torch.load(checkpoint, weights_only=True)
    next(iter(state["callbacks"].values()))["seconds"] += (
        1000  # how long it took: only who reads it here counts on
    )
    torch.save(state, checkpoint)
    slurm_cluster.release(job)
    ended(launcher, expect=0)
    assert slurm_cluster.job(job)[0]["Restarts"] == "1"
    (manifest,) = (
        json.loads(path.read_text()) for path in (tmp_path / "two").rglob("manifest.json")
    )
    assert manifest["meta"]["processes"] == 2 and manifest["meta"]["seconds"] > 1000
    execute(compose(*TINY, *given, f"paths.outputs={tmp_path / 'one'}"), "")
    files = [
        path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.safetensors")
    ]
    assert len(files) == 2  # raw and averaged
    for file in files:
        one, two = load_file(tmp_path / "one" / file), load_file(tmp_path / "two" / file)
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5)


def test_jobs_without_slurm_one_of_which_fails_by_itself(tmp_path: Path):
    done = run(
        "-m",
        "hydra/launcher=slurm_local",
        "stages=[oracle],[unlearn]",
        f"paths.outputs={tmp_path}",
        expect=1,
    )
    assert done.stdout.count(" finished: stages=[oracle]\n") == 1
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert failed.startswith("failed: stages=[unlearn]: ") and failed.endswith(
        "Type 'stages=[pretrain,unlearn]'"
    )
    assert len(list(tmp_path.rglob("manifest.json"))) == 2  # the two classifiers


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., list[str]]:
    """refused("key=value", ..., sbatch=what it does) -> the error lines of a command that must end
    before it runs anything.
    """

    def told(*overrides: str, sbatch: str = "exit 0") -> list[str]:
        for name in ("sbatch", "srun"):
            (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n{sbatch}\n")
            (tmp_path / name).chmod(0o755)
        GlobalHydra.instance().clear()
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(
            sys,
            "argv",
            command("hydra/launcher=slurm", f"paths.outputs={tmp_path / 'outputs'}", *overrides)[
                1:
            ],
        )
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        assert end.value.code == 2 and not (tmp_path / "outputs" / "artifacts").exists()
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]

    return told


def test_without_slurm_one_line_says_what_to_type(tmp_path: Path):
    done = run(
        "-m",
        "hydra/launcher=slurm",
        "seed=0,1",
        f"paths.outputs={tmp_path}",
        expect=2,
        PATH=str(tmp_path),
    )
    (line,) = done.stderr.splitlines()
    assert (
        "no sbatch" in line
        and "Type" in line
        and "hydra/launcher=slurm_local" in line
        and "scripts/grid.py run" in line
    )


def test_every_problem_of_every_run_is_named_before_one_is_queued(
    refused: Callable[..., list[str]], tmp_path: Path
):
    lines = refused("-m", "seed=0,-1", "method.max_steps=1,-3", "trainer=ddp,auto", "dry_run=true")
    assert len(lines) == 4 and not (tmp_path / "called").exists()
    for line, parts in zip(
        sorted(lines),
        [
            ("dry_run=true", "Leave hydra/launcher"),
            ("method.max_steps=-3", "at least 0"),
            ("seed=-1", "Type seed="),
            ("trainer.devices=2", "Type trainer.devices=1"),
        ],
        strict=True,
    ):
        assert all(part in line for part in parts), lines


def test_what_sbatch_refuses_is_said_with_what_was_asked_for(
    refused: Callable[..., list[str]], tmp_path: Path
):
    (line,) = refused(
        "hydra.launcher.partition=gpus", sbatch="echo invalid partition specified: gpus >&2; exit 1"
    )
    assert (
        "invalid partition specified: gpus" in line
        and "hydra.launcher.partition=gpus" in line
        and "Type" in line
    )
    assert (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("given", "gpus", "tasks"),
    [
        (["trainer.accelerator=cpu"], None, 1),
        (["trainer=gpu"], 1, 1),
        (["trainer=ddp", "trainer.devices=4"], 4, 4),
    ],
)
def test_what_a_job_asks_for_follows_from_the_trainer(
    given: list[str], gpus: int | None, tasks: int
):
    asked = composed(["hydra/launcher=slurm", *given], whole=True).hydra.launcher
    assert (asked.gpus_per_node, asked.tasks_per_node, asked.nodes) == (gpus, tasks, 1)
    assert asked.mem_gb > 0 and asked.max_num_timeout > 0
