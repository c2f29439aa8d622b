"""A grid has GPUs of one kind, unless it is asked otherwise. What sinfo says is faked."""

import json
import sys
from pathlib import Path

import forked
import pytest
from command import ROOT, TINY, environment

from unrelearn.partitions import kinds

SHOWN = """\
cpu*|(null)
h100|gpu:h100:8(S:0-1)
h100|gpu:H100:4,nvme:1
a100|gpu:a100:4
mixed|gpu:a100:4
mixed|(null)
plain|gpu:4
"""


@pytest.mark.parametrize(
    ("options", "there"),
    [
        ("", {"no GPU"}),  # the partition that is taken where none is named
        ("--partition=h100 --mem=4G", {"h100"}),
        ("-p h100,a100 --gpus=1", {"h100", "a100"}),
        ("-ph100,cpu", {"no GPU"}),
        ("--partition mixed", {"no GPU"}),  # a job without --gpus gets none
        ("--partition mixed --gpus-per-task=1", {"a100"}),  # to nodes that have some
        ("--partition mixed --gres=gpu:1", {"a100"}),
        ("--partition=plain,a100", {"gpu", "a100"}),
        ("--partition=h100,a100 --gpus=H100:2", {"h100"}),
        ("--partition=h100,a100 --gres=gpu:a100:1,nvme:1", {"a100"}),
        ("--partition=h100,a100 --constraint=fast", set()),  # of which sinfo does not say the GPU
        ("--partition=h100,a100 --exclude=h[1-4]", set()),
        ("--partition=h100,a100 -w a1", set()),
        ("--partition=elsewhere", set()),
        ("--gpus", {"no GPU"}),  # for sbatch to refuse
    ],
)
def test_kinds_of_gpu_that_a_job_may_come_to(options: str, there: set[str]):
    assert kinds(options, SHOWN) == there


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a cluster that takes every job and has ended it when it is asked."""
    (tmp_path / "sinfo.txt").write_text(SHOWN)
    does = {"sinfo": f"cat {tmp_path / 'sinfo.txt'}", "squeue": ":", "scontrol": ":"}
    does["sbatch"] = "echo 7"
    for name, line in does.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
    return environment(PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")


def test_one_grid_is_of_one_kind_of_gpu_unless_it_is_asked_otherwise(
    cluster: dict[str, str], tmp_path: Path
):
    outputs = tmp_path / "outputs"

    def submitted(options: str, *more: str, expect: int = 0) -> str:
        words = [*TINY, "attack=none", "trainer.accelerator=auto", "tracking=none"]
        start = [sys.executable, "scripts/grid.py", "submit", *words, "--sbatch", options]
        start += [f"paths.outputs={outputs}"]
        done = forked.finish([*start, *more], cwd=ROOT, env=cluster)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stderr

    (line,) = submitted("--partition=h100,a100", expect=2).splitlines()
    assert "several kinds of device (a100, h100)" in line and line.endswith("or --mix-devices")
    assert not list(outputs.rglob("job.json"))
    submitted("--partition=h100")
    notes = [json.loads(path.read_text()) for path in outputs.rglob("job.json")]
    assert notes and all(note["kinds"] == ["h100"] for note in notes)
    (line,) = submitted("--partition=a100", expect=2).splitlines()
    assert "with those of the jobs before (a100, h100)" in line
    submitted("--partition=a100", "--mix-devices")
    assert len(list(outputs.rglob("job.json"))) == 2 * len(notes)
