"""A grid on a real Slurm of one node: killed, out of time, its controller gone and back, it ends
with the local run's numbers.
"""

import contextlib
import io
import json
import os
import runpy
import signal
from pathlib import Path

import pytest
from command import ROOT, TINY, environment, weights_of
from rich.console import Console
from slurm_cluster import Cluster, running

from unrelearn import progress
from unrelearn.grid.parts import Inventory

SHORT = [
    "unlearning.max_steps=10",
    "unlearning.batch_size=16",
    "relearning.budgets=[0,5,10]",
    "relearning.batch_size=16",
]
CHOICES = ["method=dimum,row_swap", "attack=none,dimra"]
main = runpy.run_path(str(ROOT / "scripts" / "grid.py"))[
    "main"
]  # in this process: each import of torch takes seconds


def grid(name: str, outputs: Path, *more: str, expect: int = 0, env: dict | None = None) -> str:
    """What `scripts/grid.py NAME` prints for the grid of these tests."""
    words = [*TINY, *SHORT, *CHOICES, "tracking=none", f"paths.outputs={outputs}"]
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
    grid("run", outputs)
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


def until_empty(cluster: Cluster, outputs: Path) -> None:
    """Wait until no job is left, sparing what was requeued the two minutes that Slurm would let it
    wait.
    """

    def empty() -> bool:
        for name, state in cluster.squeue().items():
            job = cluster.job(name)[0]
            if state == "PENDING" and "held" in job["Reason"]:
                assert "released" in grid("retry", outputs, env=cluster.env)
            elif state == "PENDING" and job["Reason"] == "BeginTime":
                cluster.release(name)
        return not cluster.squeue()

    cluster.wait(empty, "an empty queue", timeout=900)


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


def stopped_at_work(cluster: Cluster, outputs: Path) -> int:
    """A process of the grid's jobs, stopped before it has made all that it is to make."""
    while True:
        pid = new_python_of(cluster, outputs)
        os.kill(pid, signal.SIGSTOP)
        words = (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
        task = json.loads(Path(words[words.index("work") + 1]).read_text())
        inventory = Inventory(outputs)
        if not all(inventory.there(name) for name in task["wanted"]):
            return pid
        os.kill(pid, signal.SIGCONT)  # it was too quick


def test_a_troubled_grid_on_slurm_ends_with_the_numbers_of_the_local_run(
    cluster: Cluster, local: Path, tmp_path: Path
):
    said = grid("submit", tmp_path, "--minutes", "2", env=cluster.env)
    assert "wave 0: job" in said and "after" in said and "to follow" in said.lower()
    levels = [line for line in said.splitlines() if line.startswith("wave ")]
    assert [line[5] for line in levels] == sorted(line[5] for line in levels)
    assert "nothing to submit" in grid("submit", tmp_path, env=cluster.env), (
        "a second planner submits nothing twice"
    )
    assert "queued" in grid("status", tmp_path, env=cluster.env)

    # one job is killed while it works, and the controller is restarted under another
    os.kill(stopped_at_work(cluster, tmp_path), signal.SIGKILL)
    new_python_of(cluster, tmp_path)
    cluster.restart_controller()
    until_empty(cluster, tmp_path)
    assert "has ended without it: see" in grid("status", tmp_path, expect=1, env=cluster.env), (
        "a killed job says nothing itself"
    )
    done = measured(tmp_path)
    assert len(done) < len(measured(local)), "the kill has cost nothing"

    # a job's time runs out: Slurm warns it, it is put back into the queue, and goes on
    grid("retry", tmp_path, "--minutes", "2", env=cluster.env)
    stopped_at_work(cluster, tmp_path)
    name = next(name for name, state in cluster.squeue().items() if state == "RUNNING")
    cluster.expire(name, 45)
    cluster.wait(
        lambda: any(job.get("Restarts") == "1" for job in cluster.job(name)),
        "the job to be requeued",
        600,
    )
    until_empty(cluster, tmp_path)
    if "nothing to submit" not in grid("retry", tmp_path, "--minutes", "2", env=cluster.env):
        until_empty(cluster, tmp_path)

    assert "everything is done" in grid("status", tmp_path, env=cluster.env)
    assert measured(tmp_path) == measured(local)
    assert weights_of(tmp_path) == weights_of(local)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        path.name for path in (local / "runs").iterdir()
    }
    for key, metrics in done.items():
        assert measured(tmp_path)[key] == metrics


def test_a_node_that_vanishes_and_jobs_that_are_cancelled_cost_what_was_being_computed(
    cluster: Cluster, local: Path, tmp_path: Path
):
    grid("submit", tmp_path, env=cluster.env)
    cluster.wait(lambda: manifests(tmp_path), "something finished", 600)
    cluster.lose_node()
    assert not python_of(cluster, tmp_path)
    kept = manifests(tmp_path)
    cluster.start_node()
    assert "cancelled: " in grid("cancel", tmp_path, env=cluster.env)
    until_empty(cluster, tmp_path)
    assert "nothing, none of its jobs is queued" in grid("cancel", tmp_path, env=cluster.env)
    grid("retry", tmp_path, env=cluster.env)
    until_empty(cluster, tmp_path)
    assert measured(tmp_path) == measured(local)
    assert all(path.read_bytes() == before for path, before in kept.items())


def test_jobs_of_two_tasks_make_one_grid_together(cluster: Cluster, local: Path, tmp_path: Path):
    """The ranks of a data-parallel run: same artefacts, and none of the ranks fails."""
    grid("submit", tmp_path, "trainer=ddp", "trainer.devices=2", env=cluster.env)
    until_empty(cluster, tmp_path)
    said = "".join(path.read_text() for path in (tmp_path / "grids").glob("*/jobs/*/*.log"))
    assert "srun: error" not in said and "Traceback" not in said
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        path.name for path in (local / "runs").iterdir()
    }


def test_arrays_and_jobs_stay_below_what_the_cluster_takes(cluster: Cluster, tmp_path: Path):
    """At most three tasks an array, and at most six jobs in all: small packs are joined, not
    refused.
    """
    said = grid("submit", tmp_path, "--minutes", "0.001", "--max-jobs", "6", env=cluster.env)
    found = arrays(cluster)
    assert sum(map(len, found.values())) <= 6 and max(map(len, found.values())) <= 3, said
    grid("cancel", tmp_path, env=cluster.env)
    assert "2 more jobs are allowed" in grid(
        "submit", tmp_path, "--max-jobs", "2", expect=2, env=cluster.env
    )
    until_empty(cluster, tmp_path)


def test_without_slurm_one_line_says_what_to_type(tmp_path: Path):
    said = grid("submit", tmp_path, expect=2, env={"PATH": str(tmp_path)})
    assert (
        said.count("\n") == 1
        and "no machine of a Slurm cluster. Type python scripts/grid.py run" in said
    )
