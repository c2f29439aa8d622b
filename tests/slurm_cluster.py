"""A real Slurm of one node on this machine, for tests: its own daemons, ports and folder, gone when
the tests are done.

Authentication is off, so no munged is needed. The node claims more CPUs than there may be, and
memory is not tracked, so that as many jobs run side by side as a test wants. There is no
accounting.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins"]
FINISHED = {
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "BOOT_FAIL",
    "DEADLINE",
}
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

CONF = """\
ClusterName=test
FirstJobId={ports[0]}
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MaxArraySize={max_array_size}
OverTimeLimit=0
KillWait=2
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime={max_time} State=UP
"""


class Cluster:
    """What a test does with it; `env` is the environment of every command that is to find it.

    Args:
        folder: where everything of it lies.
        cpus: of the node, whether they exist or not.
        max_array_size: the indices of a job array end below it.
        max_time: of a job, as sbatch --time takes it.
    """

    def __init__(
        self, folder: Path, *, cpus: int = 4, max_array_size: int = 1001, max_time: str = "INFINITE"
    ):
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.settings = {"cpus": cpus, "max_array_size": max_array_size, "max_time": max_time}
        outside = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM_", "SBATCH_"))
        }
        self.env = {
            **outside,
            "PATH": f"{folder / 'bin'}{os.pathsep}{PATH}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        self._daemons: dict[str, subprocess.Popen] = {}

    # the daemons

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs."""
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        user = subprocess.run(
            ["id", "-un"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for attempt in range(
            3
        ):  # a port that is free now may be somebody else's before the daemon has it
            (self.folder / "slurm.conf").write_text(
                CONF.format(
                    host=self.host,
                    user=user,
                    folder=self.folder,
                    ports=_free_ports(),
                    **self.settings,
                )
            )
            try:
                self.start_controller()
                return self.start_node()
            except AssertionError:
                self.stop()
                if attempt == 2:
                    raise

    def stop(self) -> None:
        """End every job, then the daemons: a slurmstepd that outlives its controller would try to
        reach it for ever.
        """
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            if self._is_up("slurmctld") and self._is_up("slurmd") and self.squeue():
                self.run("scancel", *self.squeue())
                self.wait(lambda: not self.squeue(), "an empty queue")
        self._end("slurmd", signal.SIGTERM)
        self._end("slurmctld", signal.SIGTERM)
        self._kill_jobs()

    def start_controller(self) -> None:
        self._start("slurmctld", "-i")

    def stop_controller(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End the controller; jobs run on. SIGKILL is a crash, SIGTERM saves its state first."""
        self._end("slurmctld", by)

    def restart_controller(self, by: signal.Signals = signal.SIGTERM) -> None:
        self.stop_controller(by)
        self.start_controller()
        self._wait_for_node()

    def start_node(self) -> None:
        """Start the node, also after lose_node(), and wait until it takes jobs."""
        self._start("slurmd")
        self._wait_for_node()

    def lose_node(self) -> None:
        """The node goes as if its power had failed, and the controller is told at once instead of
        finding out.
        """
        self._end("slurmd", signal.SIGKILL)
        self._kill_jobs()
        self.run("scontrol", "update", f"NodeName={self.host}", "State=DOWN", "Reason=test")

    def _start(self, name: str, *arguments: str) -> None:
        with open(self.folder / f"{name}.out", "a") as out:
            self._daemons[name] = subprocess.Popen(
                [shutil.which(name, path=PATH), "-D", *arguments],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if name == "slurmctld":
            self.wait(
                lambda: "is UP" in self._output("scontrol", "ping"), "the controller to answer"
            )

    def _is_up(self, name: str) -> bool:
        return name in self._daemons and self._daemons[name].poll() is None

    def _wait_for_node(self) -> None:
        states = ("idle", "mixed", "allocated", "completing")  # with a * while it does not answer
        self.wait(
            lambda: (
                self._output("sinfo", "-h", "-o", "%T").strip() in states
                and self._is_up("slurmctld")
                and self._is_up("slurmd")
            ),
            "the node to be up",
        )

    def _end(self, name: str, by: signal.Signals) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is not None:
            daemon.send_signal(by)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            with contextlib.suppress(ProcessLookupError):  # slurmctld has a helper process
                os.killpg(daemon.pid, signal.SIGKILL)

    def _kill_jobs(self) -> None:
        """Kill what runs, or is left, of this cluster's jobs: its slurmstepds, and all that was
        started in a job, until nothing is left: what was being started while we looked as well.
        """

        def none_left() -> bool:
            left = self._processes()
            for number in left:
                with contextlib.suppress(OSError):
                    os.kill(number, signal.SIGKILL)
            return not left

        self.wait(none_left, "jobs to end", every=0.05)

    def _processes(self) -> list[int]:
        """Of this cluster's jobs; first the slurmstepds, who would report how the others ended."""
        steps, started = [], []
        ours, of_a_job = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode(), b"SLURM_JOB_ID="
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                variables = (process / "environ").read_bytes().split(b"\0")
                # slurmstepd-wlm on Debian; it overwrites its environment
                if "slurmstepd" in os.readlink(process / "exe"):
                    open_files = [os.readlink(file) for file in (process / "fd").iterdir()]
                    if any(name.startswith(str(self.folder)) for name in open_files):
                        steps.append(int(process.name))
                elif ours in variables and any(one.startswith(of_a_job) for one in variables):
                    started.append(int(process.name))
        return steps + started

    # the jobs

    def run(self, *command: str, **options) -> str:
        """What a command of Slurm prints; it must succeed."""
        done = subprocess.run(
            command, env=self.env, text=True, capture_output=True, timeout=900, **options
        )
        assert done.returncode == 0, (
            f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def _output(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.env, text=True, capture_output=True, timeout=900
        ).stdout

    def squeue(self) -> dict[str, str]:
        """Id -> state of every job, and task of an array (as 7_2), that is not finished."""
        return dict(
            line.split() for line in self.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        )

    def job(self, job: str) -> list[dict[str, str]]:
        """What the controller knows of a job, finished or not; of an array, a record for each task
        that has its own.
        """
        lines = self.run("scontrol", "-o", "show", "job", job).splitlines()
        return [dict(word.partition("=")[::2] for word in line.split()) for line in lines]

    def wait_for(self, job: str, *states: str, timeout: float = 300) -> list[str]:
        """The states of a job, or of all tasks of an array, once all are among `states`; by
        default, once it is finished.
        """
        wanted = set(states) or FINISHED
        return self.wait(
            lambda: (
                found
                if set(found := [task["JobState"] for task in self.job(job)]) <= wanted
                else None
            ),
            f"job {job} to be {' or '.join(sorted(wanted))}",
            timeout,
        )

    def release(self, job: str) -> None:
        """Start a requeued job, which Slurm would hold for two minutes. Wait for it to be PENDING
        first.

        In the second in which it was requeued the node would refuse it: credential revoked.
        """
        time.sleep(2)
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def expire(self, job: str, seconds: int = 0) -> None:
        """Let a running job's time limit end so soon. Slurm looks every 30 s, and then also sends
        what --signal asks for.
        """
        self.run("scontrol", "update", f"JobId={job}", f"EndTime=now+{seconds}")

    def wait(self, condition: Callable, what: str, timeout: float = 300, every: float = 0.1):
        """The first answer of condition() that is true; every: seconds between two looks."""
        end = time.monotonic() + timeout
        while not (answer := condition()):
            if time.monotonic() > end:
                logs = "\n".join(
                    f"{name}: {line}"
                    for name in ("slurmctld", "slurmd")
                    if (self.folder / f"{name}.log").exists()
                    for line in (self.folder / f"{name}.log").read_text().splitlines()[-15:]
                )
                raise AssertionError(
                    f"waited {timeout:g} s for"
                    f" {what}\n{self._output('scontrol', '-o', 'show', 'job')}\n{logs}"
                )
            time.sleep(every)
        return answer


@contextlib.contextmanager
def running(folder: Path, **settings) -> Iterator[Cluster]:
    """A cluster that is up. Skips where there is no Slurm and none can be installed."""
    _need_slurm()
    cluster, started = Cluster(folder, **settings), time.monotonic()
    try:
        cluster.start()
        print(f"Slurm was up after {time.monotonic() - started:.1f} s in {folder}")
        yield cluster
    finally:
        cluster.stop()


def _need_slurm() -> None:
    def missing() -> list[str]:
        return [
            name
            for name in ("slurmctld", "slurmd", "sbatch", "srun")
            if not shutil.which(name, path=PATH)
        ]

    if not missing():
        return
    install = "apt-get install " + " ".join(PACKAGES)
    wanted = os.environ.get("CI") or os.environ.get("UNRELEARN_INSTALL_SLURM") == "1"
    if not (wanted and os.geteuid() == 0 and shutil.which("apt-get")):
        pytest.skip(
            f"no {', '.join(missing())} here: {install} (as root, UNRELEARN_INSTALL_SLURM=1 does it"
            " by itself)"
        )
    with FileLock(
        f"/tmp/.unrelearn-install-slurm-{os.getuid()}.lock"
    ):  # one of several test workers
        for words in (
            (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES])
            if missing()
            else ()
        ):
            with contextlib.suppress(subprocess.TimeoutExpired):  # whether it worked is seen below
                subprocess.run(
                    ["apt-get", "-q", "-o", "Acquire::http::Timeout=15", *words],
                    timeout=900,
                    capture_output=True,
                    env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                )
    if missing():
        pytest.skip(f"no {', '.join(missing())} here, and it could not be installed: {install}")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
