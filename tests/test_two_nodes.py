"""One run on two nodes of a real Slurm, started by srun alone; a node is lost, comes back, and the
run goes on. Both nodes are daemons of this machine.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from command import ROOT, TINY, command, environment
from runs import execute
from safetensors.torch import load_file
from slurm_cluster import CONF, PATH, Cluster, _free_ports, _need_slurm

GIVEN = ["stages=[pretrain]", "model.pretrain.max_steps=100", "model.pretrain.batch_size=128"]
NODES = ("127.0.0.1", "127.0.0.2")  # names that every machine resolves
JOB = """#!/bin/bash
#SBATCH --nodes=2 --ntasks=2 --ntasks-per-node=1 --requeue
#SBATCH --output={folder}/job.log --open-mode=append
cd {root}
srun --kill-on-bad-exit=1 {run}
"""


class Pair(Cluster):
    """A slurmd for each node, with a port, a spool and a log of its own."""

    def start(self) -> None:
        for name in ("state", "bin", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "slurm.conf").write_text(self._configuration())
        self.start_controller()
        for node in NODES:
            self.start_one(node)

    def _configuration(self) -> str:
        ports = [*_free_ports(), *_free_ports()]
        user = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
        about = {"host": self.host, "user": user, "folder": self.folder, "ports": ports}
        lines = CONF.format(**about, **self.settings).splitlines()
        lines = [line for line in lines if not line.startswith(("NodeName=", "SlurmdPort="))]
        lines = [line.replace("/slurmd.", "/slurmd-%n.") for line in lines]
        lines = [line.replace("/spool", "/spool-%n") for line in lines]
        for node, port in zip(NODES, ports[1:], strict=False):
            place = f"NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port}"
            lines.insert(-1, f"NodeName={node} {place} CPUs=2 RealMemory=1000000 State=UNKNOWN")
        return "\n".join([*lines, ""])

    def start_one(self, node: str) -> None:
        """Start a node, also after it was lost, and wait until both take jobs."""
        with open(self.folder / f"slurmd-{node}.out", "a") as out:
            self._daemons[node] = subprocess.Popen(
                [shutil.which("slurmd", path=PATH), "-D", "-N", node],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait(lambda: self._state(node) == "idle", f"node {node} to be up")

    def _state(self, node: str) -> str:
        return self._output("sinfo", "-h", "-N", "-n", node, "-o", "%T").strip()

    def lose_one(self, node: str) -> None:
        """As if its power had failed; the controller is told at once instead of finding out."""
        self._end(node, signal.SIGKILL)
        for number in self._processes_of(node):
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def _processes_of(self, node: str) -> list[int]:
        """Who ran on it: first its slurmstepds, which would report how the others ended."""
        steps, tasks = [], []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                files = [os.readlink(file) for file in (process / "fd").iterdir()]
                if "slurmstepd" in os.readlink(process / "exe"):
                    own = (f"{self.folder}/slurmd-{node}.", f"{self.folder}/spool-{node}")
                    steps += [int(process.name)] * any(file.startswith(own) for file in files)
                    continue
                variables = (process / "environ").read_bytes().split(b"\0")
                here = {f"SLURMD_NODENAME={node}", f"SLURM_CONF={self.folder / 'slurm.conf'}"}
                tasks += [int(process.name)] * ({name.encode() for name in here} <= {*variables})
        return steps + tasks

    def stop(self) -> None:
        if self.squeue():
            self.run("scancel", *self.squeue())
        for name in (*NODES, "slurmctld"):
            self._end(name, signal.SIGTERM)
        self._kill_jobs()


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    _need_slurm()
    cluster = Pair(tmp_path_factory.mktemp("pair"))  # the path of a socket has 108 letters
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_run_on_two_nodes_goes_on_when_one_is_lost_and_back(
    pair: Pair, compose: Callable[..., dict], tmp_path: Path
):
    two = tmp_path / "two"
    ddp = ["trainer=ddp", "trainer.devices=2", f"paths.outputs={two}"]
    pair.env = {**environment(), **pair.env, "OMP_NUM_THREADS": "1"}
    script = tmp_path / "job.sh"
    run = shlex.join(command(*GIVEN, *ddp))
    script.write_text(JOB.format(folder=tmp_path, root=ROOT, run=run))
    job = pair.run("sbatch", "--parsable", str(script)).strip()
    checkpoint = pair.wait(lambda: next(two.rglob("last.ckpt"), None), "a checkpoint", 600)
    pair.lose_one(NODES[1])
    pair.wait_for(job, "PENDING")
    state = torch.load(checkpoint, weights_only=True)
    # how long it took: only who reads it here counts on
    next(iter(state["callbacks"].values()))["seconds"] += 1000
    torch.save(state, checkpoint)
    pair.start_one(NODES[1])
    pair.release(job)
    assert set(pair.wait_for(job, timeout=600)) == {"COMPLETED"}, (tmp_path / "job.log").read_text()
    record = pair.job(job)[0]
    assert record["Restarts"] == "1" and record["NumNodes"] == "2"
    (manifest,) = (json.loads(path.read_text()) for path in two.rglob("manifest.json"))
    assert manifest["meta"]["processes"] == 2 and manifest["meta"]["seconds"] > 1000
    execute(compose(*TINY, *GIVEN, f"paths.outputs={tmp_path / 'one'}"), "")
    files = [
        path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.safetensors")
    ]
    assert len(files) == 2  # raw and averaged
    for file in files:
        one, other = load_file(tmp_path / "one" / file), load_file(two / file)
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-5)
