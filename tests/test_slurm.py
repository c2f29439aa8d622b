"""srun starts the processes of one run as torchrun does. No Slurm here (test_grid_slurm.py has
one): its variables are set by hand.
"""

import json
import signal
import socket
from pathlib import Path

import forked
import pytest
import torch
from command import ROOT, command, environment
from runs import execute
from safetensors.torch import load_file
from tiny import denoising, train

from unrelearn.launch import slurm_ranks
from unrelearn.methods.finetune import Finetune

# what slurmstepd sets for each task of `srun --ntasks=2`; SLURM_NTASKS_PER_NODE only if that was
# asked for
STEP = {
    "SLURM_JOB_ID": "71234",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NNODES": "1",
    "SLURM_NODELIST": "localhost",
    "SLURM_JOB_NAME": "x",
}
SHORT = [
    "model.pretrain.max_steps=12",
    "method.max_steps=6",
    "method.batch_size=16",
    "stages=[pretrain,unlearn]",
]


@pytest.mark.parametrize(
    "around",
    [
        {},
        {
            "SLURM_JOB_ID": "1",
            "SLURM_NTASKS": "4",
            "SLURM_PROCID": "0",
        },  # a job script before any srun
        {**STEP, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"},  # one task: an ordinary run
        {**STEP, "RANK": "1", "WORLD_SIZE": "4"},
    ],
    ids=["none", "job script", "one task", "torchrun in a step"],
)
def test_outside_of_a_step_of_several_tasks_nothing_is_set(around: dict):
    assert slurm_ranks(around) == {}


def test_the_tasks_of_a_step_over_two_nodes_are_the_ranks_of_one_run():
    step = {**STEP, "SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_NODELIST": "gpu[07-08]"}
    ranks = [
        slurm_ranks({**step, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task % 4)})
        for task in range(8)
    ]
    assert [(r["RANK"], r["LOCAL_RANK"]) for r in ranks] == [
        (str(task), str(task % 4)) for task in range(8)
    ]
    for r in ranks:
        assert (r["WORLD_SIZE"], r["LOCAL_WORLD_SIZE"], r["MASTER_ADDR"]) == ("8", "4", "gpu07")
    (port,) = {r["MASTER_PORT"] for r in ranks}
    assert 15000 <= int(port) < 19000
    assert (
        slurm_ranks({**step, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "1"})[
            "MASTER_PORT"
        ]
        != port
    )


def test_one_process_in_a_job_of_several_tasks_trains_as_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A job script that calls python without srun: Lightning would refuse, and catch signals that
    are meant for others.
    """
    for name, value in (
        STEP | {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    ).items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGUSR1)
    during = []
    module = denoising(Finetune(max_steps=2, batch_size=8, learning_rate=1e-3))
    train(
        module, tmp_path, log_row=lambda step, row: during.append(signal.getsignal(signal.SIGUSR1))
    )
    assert [row["step"] for row in module.rows] == [1, 2] and during == [before] * 2


def test_two_tasks_end_with_the_weights_of_one_process(compose, tmp_path: Path):
    job = str(next(number for number in range(71234, 75234) if is_free(15000 + number % 4000)))
    given = ["trainer=ddp", "trainer.devices=2", *SHORT, f"paths.outputs={tmp_path / 'two'}"]
    step = STEP | {"SLURM_JOB_ID": job}
    tasks = [
        forked.Started(
            command(*given),
            cwd=ROOT,
            env=environment(
                CUDA_VISIBLE_DEVICES="",
                **step | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
            ),
        )
        for task in range(2)
    ]
    try:
        tiny_run = [
            o
            for o in command(*SHORT, f"paths.outputs={tmp_path / 'one'}")[2:]
            if not o.startswith("tracking")
        ]
        execute(compose(*tiny_run), "")
        codes = [task.wait() for task in tasks]
    finally:
        for task in tasks:
            task.kill()
    said = [task.output() for task in tasks]
    assert codes == [0, 0], said
    assert "computed" in said[0][0] and said[1][0] == ""  # one voice
    files = [
        path.relative_to(tmp_path / "one")
        for path in (tmp_path / "one" / "artifacts").rglob("*.safetensors")
    ]
    assert len(files) == 3  # raw and averaged, and unlearned
    for file in files:
        one, two = load_file(tmp_path / "one" / file), load_file(tmp_path / "two" / file)
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5)
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "two").rglob("manifest.json")]
    assert {manifest["meta"]["processes"] for manifest in manifests} == {2}
    assert all(f"Slurm job {job}" in manifest["meta"]["by"] for manifest in manifests)


def is_free(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) != 0
