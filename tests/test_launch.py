"""Around a run: whose fault a file is that can not be read or written, and who waits for whom."""

import errno
import os
import sys
import time
from pathlib import Path

import pytest

from unrelearn import launch
from unrelearn.grid import account

STEP = {
    "SLURM_JOB_ID": "71234",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "1",
    "SLURM_NODELIST": "localhost",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


def configuration(tmp_path: Path) -> dict:
    return {
        "paths": {
            "outputs": str(tmp_path / "out"),
            "data": str(tmp_path / "data"),
            "inception_weights": None,
        },
        "dataset": {"root": str(tmp_path / "out" / "pets")},
        "model": {"checkpoint": str(tmp_path / "weights")},
        "attack": {},
    }


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ENAMETOOLONG]
)
@pytest.mark.parametrize(
    "file, begins",
    [
        ("out/runs/x", "paths.outputs={}/out: {}/out/runs/x can not be "),
        ("out/pets/dog", "dataset.root={}/out/pets: {}/out/pets/dog can not be "),
        ("weights/config.json", "model.checkpoint={}/weights: {}/weights/config.json can not be "),
        ("other", "{}/other can not be "),
    ],
)
def test_only_what_lies_below_outputs_is_a_matter_of_outputs(
    tmp_path: Path, number: int, file: str, begins: str
):
    error = OSError(number, os.strerror(number), str(tmp_path / file))
    (line,) = launch.storage_problems(error, configuration(tmp_path))
    assert (
        line.startswith(begins.replace("{}", str(tmp_path)))
        and os.strerror(number) in line
        and "Type" in line
    )
    assert ("paths.outputs=FOLDER" in line) == (file == "out/runs/x")


def test_a_file_that_is_missing_was_to_be_read(tmp_path: Path):
    error = FileNotFoundError(
        errno.ENOENT, "No such file or directory", str(tmp_path / "fast.yaml")
    )
    assert launch.storage_problems(error)[0].startswith(
        f"{tmp_path / 'fast.yaml'} can not be read (No such file"
    )
    assert launch.storage_problems(OSError(errno.EBADF, "Bad file descriptor")) == []


def test_a_full_disk_is_one_wherever_it_shows(tmp_path: Path):
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "elsewhere"))
    assert "the disk is full" in launch.storage_problems(error, configuration(tmp_path))[0]


@pytest.mark.parametrize("name", ["bash", "interactive", "zsh"])
def test_a_shell_of_slurm_is_one_process(name: str):
    assert launch.slurm_ranks({**STEP, "SLURM_JOB_NAME": name}) == {}
    assert launch.slurm_ranks({**STEP, "SLURM_JOB_NAME": name, "SLURM_TASK_PID": "1"}) == {}


def test_what_srun_starts_from_such_a_shell_are_the_ranks_of_one_run():
    for step in (
        {**STEP, "SLURM_JOB_NAME": "interactive", "SLURM_TASK_PID": str(os.getpid())},
        {**STEP, "SLURM_JOB_NAME": "python"},
        STEP,
    ):
        assert launch.slurm_ranks(step)["WORLD_SIZE"] == "4"


def test_that_a_shell_runs_alone_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    for name, value in {**STEP, "SLURM_JOB_NAME": "bash"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(sys, "argv", ["run.py", "forget=[3,5]"])
    launch.say_once.cache_clear()
    launch.join_step()
    launch.join_step()
    (line,) = capsys.readouterr().err.splitlines()
    assert "SLURM_NTASKS=4" in line and line.endswith(
        "srun --job-name=run python run.py 'forget=[3,5]'"
    )
    assert "RANK" not in os.environ


@pytest.mark.parametrize(
    "step, who, alone",
    [
        (STEP, "SLURM_NTASKS=4", "SLURM_NTASKS=1 python run.py seed=1"),
        ({}, "WORLD_SIZE=4", "env -u RANK -u WORLD_SIZE python run.py seed=1"),
    ],
)
def test_who_waits_for_others_says_so(monkeypatch, capfd, step: dict, who: str, alone: str):
    for name in STEP:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**step, "RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["run.py", "seed=1"])
    monkeypatch.setattr(launch, "PATIENCE", 0.05)
    line = ""
    with launch._waiting():
        while not line.endswith("\n"):
            line += capfd.readouterr().err
            time.sleep(0.01)
    assert "waiting for the other 3 of 4 processes" in line and who in line and alone in line
    monkeypatch.setattr(launch, "PATIENCE", 3600.0)
    with launch._waiting():
        pass
    assert capfd.readouterr().err == ""


def test_a_comparison_that_can_not_be_made_hides_no_failure(monkeypatch, capsys):
    def broken(records: list) -> None:
        raise ValueError("can not be drawn")

    monkeypatch.setattr(account, "compare", broken)
    assert account.Account([{}, {}], [("seed=3", "no such seed")]).end() == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("warning: the comparison of the runs could not be made")
    assert "failed: seed=3: no such seed" in captured.err
