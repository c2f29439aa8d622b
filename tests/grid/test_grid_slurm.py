"""A grid on a real Slurm of one node: killed, out of time, its controller gone and back, it ends
with the local run's numbers.
"""

import contextlib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import ROOT, TINY, environment, weights_of
from rich.console import Console
from runs import execute
from safetensors.torch import load_file
from slurm_cluster import Cluster, running

from unrelearn import progress
from unrelearn.grid.parts import Inventory

SHORT = [
    "unlearning.max_steps=10",
    "unlearning.batch_size=16",
    "relearning.budgets=[0,5,10]",
    "relearning.batch_size=16",
]
CHOICES = ["method=dimum", "attack=none,dimra"]
main = runpy.run_path(str(ROOT / "scripts" / "grid.py"))[
    "main"
]  # in this process: each import of torch takes seconds


def grid(
    name: str,
    outputs: Path,
    *more: str,
    choices: list[str] = CHOICES,
    expect: int = 0,
    env: dict | None = None,
) -> str:
    """What `scripts/grid.py NAME` prints for the grid of these tests, or for other choices."""
    words = [*TINY, *SHORT, *choices, "tracking=none", f"paths.outputs={outputs}"]
    said = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        patch.chdir(ROOT)
        for variable, value in {**environment(), **(env or {})}.items():
            patch.setenv(variable, value)
        patch.setattr(progress, "console", Console(file=said, width=120))
        code = main([name, *words, *more])
    assert code == expect, f"exit code {code}\n{said.getvalue()}"
    return said.getvalue()


def measured(outputs: Path) -> dict[str, dict]:
    """Every metrics.json of the grid, by stage and key."""
    return {
        path.parent.relative_to(outputs).as_posix(): json.loads(path.read_text())
        for path in (outputs / "artifacts").glob("*/*/metrics.json")
    }


def manifests(outputs: Path) -> dict[Path, bytes]:
    """Of every artefact that is finished."""
    return {
        path: path.read_bytes()
        for path in (outputs / "artifacts").glob("*/*/manifest.json")
        if ".partial" not in path.as_posix()
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("local")
    grid("run", outputs, "--no-report")
    return outputs


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("cluster"), max_array_size=3) as cluster:
        cluster.env = {**environment(), **cluster.env}
        yield cluster


def arrays(cluster: Cluster) -> dict[str, list[int]]:
    """Id of each array in the queue -> its tasks."""
    found: dict[str, list[int]] = {}
    for name in cluster.squeue():
        array, _, task = name.partition("_")
        found.setdefault(array, []).append(int(task))
    return found


def until_empty(
    cluster: Cluster,
    outputs: Path,
    launcher: subprocess.Popen | None = None,
    choices: list[str] = CHOICES,
) -> None:
    """Wait until no job is left, and the launcher has ended, sparing what was requeued the two
    minutes that Slurm would let it wait.
    """

    def empty() -> bool:
        for name, state in cluster.squeue().items():
            job = cluster.job(name)[0]
            if state == "PENDING" and "held" in job["Reason"]:
                assert "released" in grid("retry", outputs, choices=choices, env=cluster.env)
            elif state == "PENDING" and job["Reason"] == "BeginTime":
                cluster.release(name)
        return not cluster.squeue() and (launcher is None or launcher.poll() is not None)

    # each look is a process of Slurm for each job, which the jobs would have to do without
    cluster.wait(empty, "an empty queue", timeout=900, every=0.5)


def python_of(cluster: Cluster, outputs: Path) -> list[int]:
    """The processes of the grid's jobs that compute."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            b"work" in words
            and any(word.startswith(str(outputs).encode()) for word in words)
            and b"python" in words[0]
        ):
            found.append(int(process.name))
    return found


def new_python_of(cluster: Cluster, outputs: Path) -> int:
    """A process of the grid's jobs that has only just begun, and so has made nothing yet."""
    old = python_of(cluster, outputs)
    return cluster.wait(
        lambda: set(python_of(cluster, outputs)) - set(old), "a job to begin", 600
    ).pop()


def stopped_at_work(cluster: Cluster, outputs: Path, stage: str) -> int:
    """A process of the grid's jobs, stopped before it has made all that it is to of a stage."""
    while True:
        pid = new_python_of(cluster, outputs)
        os.kill(pid, signal.SIGSTOP)
        words = (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
        task = json.loads(Path(words[words.index("work") + 1]).read_text())
        wanted = [name for name in task["wanted"] if name.startswith(f"{stage}/")]
        if not all(map(Inventory(outputs).there, wanted)):
            return pid
        os.kill(pid, signal.SIGCONT)  # it was too quick, or of another stage


def start(cluster: Cluster, outputs: Path, *more: str) -> subprocess.Popen:
    """The launcher, which waits for the jobs."""
    asked = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
    words = [*TINY, *SHORT, *(more or CHOICES), "tracking=none", f"paths.outputs={outputs}"]
    return subprocess.Popen(
        [sys.executable, "run.py", "-m", *words, *asked],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cluster.env,
    )


def ended(launcher: subprocess.Popen, expect: int) -> tuple[str, str]:
    try:
        out, err = launcher.communicate(timeout=900)
    finally:
        launcher.kill()
    assert launcher.returncode == expect, out + err
    return out, err


def runs(outputs: Path) -> set[str]:
    return {path.parent.name for path in (outputs / "runs").glob("*/result.json")}


def test_a_troubled_multirun_is_accounted_for_and_ends_with_the_numbers_of_the_local_one(
    cluster: Cluster, local: Path, tmp_path: Path
):
    launcher = start(cluster, tmp_path)
    # the controller is restarted under one job, and another is killed while it works
    new_python_of(cluster, tmp_path)
    cluster.restart_controller()
    os.kill(stopped_at_work(cluster, tmp_path, "attack"), signal.SIGKILL)
    until_empty(cluster, tmp_path)
    out, err = ended(launcher, expect=1)
    lost = 2 - len(runs(tmp_path))
    assert lost and out.count("Report: ") == 2 - lost
    assert f"{lost} of 2 runs failed; the same command runs only what is missing" in err
    assert re.search(r"failed: .*method=dimum attack=dimra.*: its job \d+_\d+ has ended wit", err)
    assert "has ended without it: see" in grid("status", tmp_path, expect=1, env=cluster.env), (
        "scripts/grid.py knows the same grid"
    )
    done = measured(tmp_path)
    launcher = start(cluster, tmp_path)
    until_empty(cluster, tmp_path, launcher)
    out, err = ended(launcher, expect=0)
    assert out.count("Report: ") == 2 and " DiMUM " in out and not err
    assert "everything is done" in grid("status", tmp_path, env=cluster.env)
    assert measured(tmp_path) == measured(local)
    assert weights_of(tmp_path) == weights_of(local)
    assert runs(tmp_path) == runs(local)
    for key, metrics in done.items():
        assert measured(tmp_path)[key] == metrics


def test_a_run_of_two_tasks_that_comes_near_its_limit_goes_on_from_its_checkpoint(
    cluster: Cluster, compose: Callable[..., dict], tmp_path: Path
):
    """Slurm warns its job, which is put back into the queue; and no rank of any job fails."""
    pretrain = ["model.pretrain.max_steps=60", "model.pretrain.batch_size=128", "stages=[pretrain]"]
    given = [*pretrain, "seed=0", "trainer=ddp", "trainer.devices=2"]
    launcher = start(cluster, tmp_path / "two", *given, "hydra.launcher.timeout_min=30")
    checkpoint = cluster.wait(
        lambda: next((tmp_path / "two").rglob("last.ckpt"), None), "a checkpoint", 300
    )
    for pid in python_of(cluster, tmp_path / "two"):
        os.kill(pid, signal.SIGSTOP)
    (job,) = (name for name, state in cluster.squeue().items() if state == "RUNNING")
    cluster.expire(job, 45)
    cluster.wait_for(job, "PENDING")
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    state = torch.load(checkpoint, weights_only=True)
    # how long it took: only who reads it here counts on
    next(iter(state["callbacks"].values()))["seconds"] += 1000
    torch.save(state, checkpoint)
    cluster.release(job)
    ended(launcher, expect=0)
    assert cluster.job(job)[0]["Restarts"] == "1"
    said = "".join(path.read_text() for path in (tmp_path / "two").glob("grids/*/jobs/*/*.log"))
    assert "near the time limit: to be continued" in said and "Traceback" not in said
    (file,) = (tmp_path / "two").glob("artifacts/pretrain/*/manifest.json")
    meta = json.loads(file.read_text())["meta"]
    assert meta["processes"] == 2 and meta["seconds"] > 1000
    one = tmp_path / "one"
    execute(compose(*TINY, *pretrain, f"paths.outputs={one}"), "")
    files = [path.relative_to(one) for path in one.rglob("*.safetensors")]
    assert len(files) == 2  # raw and averaged
    for file in files:
        two = load_file(tmp_path / "two" / file)
        for name, value in load_file(one / file).items():
            torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5)


def test_a_node_that_vanishes_and_jobs_that_are_cancelled_cost_what_was_being_computed(
    cluster: Cluster, local: Path, tmp_path: Path
):
    # one run: what it shares with others is of the troubled multirun
    one = ["method=dimum", "attack=none"]
    slurm = {"choices": one, "env": cluster.env}
    said = grid("submit", tmp_path, **slurm)
    assert "wave 0: job" in said and "after" in said and "to follow" in said.lower()
    levels = [line for line in said.splitlines() if line.startswith("wave ")]
    assert [line[5] for line in levels] == sorted(line[5] for line in levels)
    assert "nothing to submit" in grid("submit", tmp_path, **slurm), (
        "a second planner submits nothing twice"
    )
    assert "queued" in grid("status", tmp_path, **slurm)
    cluster.wait(lambda: manifests(tmp_path), "something finished", 600)
    cluster.lose_node()
    assert not python_of(cluster, tmp_path)
    kept = manifests(tmp_path)
    cluster.start_node()
    assert "cancelled: " in grid("cancel", tmp_path, **slurm)
    until_empty(cluster, tmp_path, choices=one)
    assert "nothing, none of its jobs is queued" in grid("cancel", tmp_path, **slurm)
    grid("retry", tmp_path, **slurm)
    until_empty(cluster, tmp_path, choices=one)
    assert len(runs(tmp_path)) == 1 and measured(tmp_path).items() <= measured(local).items()
    assert all(path.read_bytes() == before for path, before in kept.items())


def test_arrays_and_jobs_stay_below_what_the_cluster_takes(cluster: Cluster, tmp_path: Path):
    """At most three tasks an array, and at most six jobs in all: small packs are joined, not
    refused.
    """
    slurm = {"choices": ["method=dimum,row_swap", "attack=none,dimra"], "env": cluster.env}
    said = grid("submit", tmp_path, "--minutes", "0.001", "--max-jobs", "6", **slurm)
    found = arrays(cluster)
    assert sum(map(len, found.values())) <= 6 and max(map(len, found.values())) <= 3, said
    grid("cancel", tmp_path, **slurm)
    assert "2 more jobs are allowed" in grid(
        "submit", tmp_path, "--max-jobs", "2", expect=2, **slurm
    )
    until_empty(cluster, tmp_path, choices=slurm["choices"])
