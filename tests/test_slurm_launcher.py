"""hydra/launcher=slurm: what is refused before anything is queued, what sbatch is asked for, and
who failed. On a real Slurm: grid/test_grid_slurm.py.
"""

import os
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from command import ROOT, run

from unrelearn.config import composed, validate
from unrelearn.errors import UsageError
from unrelearn.grid import queued
from unrelearn.grid.plan import Plan
from unrelearn.grid.queued import sbatch_options

AT_ONCE = """
for word; do [[ $word == --array=* ]] && tasks=${word#--array=0-}; done
folder=$(dirname "${!#}")
for task in $(seq 0 "${tasks%%%*}"); do
  SLURM_ARRAY_TASK_ID=$task bash "${!#}" >"$folder/$task.log" 2>&1
done
echo 7
"""


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """slurm("what sbatch does") -> a folder for PATH, with `called` in it once sbatch was called;
    its queue is always empty.
    """

    def installed(sbatch: str) -> Path:
        others = dict.fromkeys(("squeue", "scontrol", "sacctmgr", "sinfo"), "")
        for name, does in {"sbatch": sbatch, **others}.items():
            called = f"touch {tmp_path}/called" * (name == "sbatch")
            (tmp_path / name).write_text(f"#!/bin/bash\n{called}\n{does}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return tmp_path

    return installed


def test_a_run_that_fails_is_named_and_the_others_are_made(
    slurm: Callable[[str], Path], tmp_path: Path
):
    folder = slurm(AT_ONCE)
    outputs = tmp_path / "outputs"
    words = ["-m", "hydra/launcher=slurm", "stages=[oracle],[unlearn]", f"paths.outputs={outputs}"]
    done = run(*words, expect=1, PATH=os.environ["PATH"])
    assert (folder / "called").exists() and "job 7, " in done.stdout
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "'stages=[unlearn]'" in failed and failed.endswith("Type 'stages=[pretrain,unlearn]'")
    assert "1 of 2 runs failed" in done.stderr
    assert len(list(outputs.rglob("manifest.json"))) == 2  # the two classifiers


def test_without_slurm_one_line_says_what_to_type(
    complaint: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = complaint("-m", "hydra/launcher=slurm", "seed=0,1")
    assert "no machine of a Slurm cluster" in line and "Type python scripts/grid.py run" in line


def test_what_was_processes_of_this_machine_says_what_to_type(complaint: Callable[..., list[str]]):
    (line,) = complaint("-m", "hydra/launcher=slurm_local", "seed=0,1")
    assert "Type python scripts/grid.py run --workers" in line


def test_every_problem_of_every_run_is_named_before_one_is_queued(
    slurm: Callable[[str], Path], complaint: Callable[..., list[str]]
):
    folder = slurm("exit 1")
    lines = complaint(
        *("-m", "hydra/launcher=slurm", "seed=0,-1", "method.max_steps=1,-3", "dry_run=true"),
        *("hydra.launcher.timeout_min=0", "--config-dir", str(folder)),
    )
    assert len(lines) == 5 and not (folder / "called").exists()
    for line, parts in zip(
        sorted(lines),
        [
            (f"--config-dir {folder}", "Copy its files to conf/"),
            ("dry_run=true", "Leave hydra/launcher"),
            ("hydra.launcher.timeout_min=0", "Type hydra.launcher.timeout_min="),
            ("method.max_steps=-3", "at least 0"),
            ("seed=-1", "Type seed="),
        ],
        strict=True,
    ):
        assert all(part in line for part in parts), lines
    (line,) = complaint("-m", "hydra/launcher=slurm", "trainer=ddp,auto")
    assert "share one number" in line and "Type trainer.devices=2" in line
    assert not (folder / "called").exists()


def test_what_sbatch_refuses_is_said_with_what_was_asked_for(
    slurm: Callable[[str], Path], complaint: Callable[..., list[str]]
):
    folder = slurm("echo invalid partition specified: gpus >&2; exit 1")
    (line,) = complaint("hydra/launcher=slurm", "hydra.launcher.partition=gpus")
    assert "invalid partition specified: gpus" in line and "--partition=gpus" in line
    assert "Type" in line and (folder / "called").exists()


@pytest.mark.parametrize(
    ("given", "gpus"),
    [
        (["trainer.accelerator=cpu"], []),
        (["trainer=gpu"], ["--gpus-per-node=1"]),
        (["trainer=ddp", "trainer.devices=4"], ["--gpus-per-node=4"]),
        (["trainer=gpu", "hydra.launcher.gres=gpu:a100:1"], ["--gres=gpu:a100:1"]),
        (["trainer=gpu", "hydra.launcher.gpus_per_node=0"], ["--gpus-per-node=0"]),
    ],
)
def test_what_a_job_asks_for_follows_from_the_trainer(given: list[str], gpus: list[str]):
    more = "+hydra.launcher.additional_parameters={comment: a b, exclusive: true}"
    words = ["hydra/launcher=slurm", *given, "hydra.launcher.qos=long", more]
    asked = composed(words, whole=True).hydra.launcher
    chosen = [word for word in words if not word.lstrip("+").startswith("hydra")]
    trainer = validate(composed(chosen), elsewhere=True).trainer
    plain = ["--cpus-per-task=4", "--mem=32G", "--qos=long", "--comment=a b", "--exclusive"]
    assert sorted(sbatch_options(asked, trainer)) == sorted([*plain, *gpus])


def test_a_controller_that_is_slow_to_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    answers = [UsageError("squeue: timed out"), UsageError("squeue: timed out"), "seen"]

    def look(plan: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, UsageError):
            raise answer
        return answer

    monkeypatch.setattr(queued, "EVERY", 0)
    monkeypatch.setattr(queued, "look", look)
    monkeypatch.setattr(queued, "follow", lambda *of: "followed")
    assert queued.watch(object()) == "followed" and not answers  # type: ignore[arg-type]
    answers += [UsageError("squeue: timed out")] * 5
    with pytest.raises(UsageError):
        queued.watch(object())  # type: ignore[arg-type]
    assert not answers


def test_a_wait_that_is_interrupted_says_that_the_jobs_go_on(
    slurm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
):
    def interrupted(plan: Plan) -> None:
        planned.append(plan)
        raise KeyboardInterrupt

    planned: list[Plan] = []
    slurm("echo 7")
    monkeypatch.setattr(queued, "watch", interrupted)
    outputs = tmp_path / "outputs"
    words = ["stages=[oracle]", f"paths.outputs={outputs}", "trainer.accelerator=cpu"]
    beside = [*words, "oracle.max_steps=7"]  # as reference=retrain adds a run
    cells = [
        queued.Cell(each, validate(composed(each), elsewhere=True)) for each in (words, beside)
    ]
    asked = composed(["hydra/launcher=slurm"], whole=True).hydra.launcher
    with pytest.raises(SystemExit) as ended:
        queued.by_slurm(["reference=retrain", *words], cells, asked, queued.Account())
    err = capsys.readouterr().err
    assert ended.value.code == 130 and "the jobs go on. Type python scripts/grid.py cancel" in err
    assert "reference" not in err
    (plan,) = planned
    own = Plan.of(words)
    assert own.folder == plan.folder and own.parts.keys() < plan.parts.keys()
    own.keep()  # by scripts/grid.py, which knows only the choices
    needed = runpy.run_path(str(ROOT / "scripts" / "gc.py"))["named_by_results"](outputs)
    assert needed == plan.parts.keys()
