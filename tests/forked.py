"""Run a script of ours in a copy of a process that has imported everything: a start in 0.1 s.

As a script it is that process, one for each process of pytest: it reads a line for each command, or
for the end of one, and answers with a line. What a copy shares with a real start: arguments,
environment, folder, exit code and output. What it does not: the order of imports. So each kind of
command is also started for real somewhere (test_smoke, test_readme, test_grid_slurm).
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from select import select

# what almost every command of ours imports in the end, much of it late: 6 s of a real start
IMPORTED = (
    "hydra.main",
    "diffusers.models.unets.unet_2d",
    "torchmetrics",
    "unrelearn.record",
    "unrelearn.fit",
    "unrelearn.data.digits",
    "unrelearn.tracks.diffusion",
    "unrelearn.classification.training",
    "unrelearn.grid.status",
    "unrelearn.report.site",
    "unrelearn.report.figures",
    "unrelearn.methods.dimum",
    "unrelearn.attacks.dimra",
    "unrelearn.evals.forget_accuracy",
)


# as it was before any test changed it: the process serves them all
BEFORE = {**os.environ, "OMP_NUM_THREADS": "1"}


@cache
def _server(owner: int) -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=BEFORE,
    )
    atexit.register(server.wait)  # so that its seconds count as those of these tests
    atexit.register(server.kill)
    return server


def _asked(request: dict) -> int:
    server = _server(os.getpid())
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


class Started:
    """`python SCRIPT ARGUMENTS`, running; what it has of subprocess.Popen means the same."""

    def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str]):
        self.args, self.returncode = command, None
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        files = dict(zip(("stdout", "stderr"), map(str, self._files), strict=True))
        request = {"command": command[1:], "cwd": str(cwd), "env": env, **files}
        self.pid = _asked(request)
        self._end = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        if self.returncode is None and select([self._end], [], [], 0)[0]:
            self.returncode = _asked({"reap": self.pid})
            os.close(self._end)
        return self.returncode

    def wait(self, timeout: float = 900) -> int:
        if self.returncode is None and not select([self._end], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.poll()

    def output(self) -> tuple[str, str]:
        """What is on stdout and stderr by now."""
        return tuple(f.read_text(errors="replace") if f.exists() else "" for f in self._files)

    def kill(self) -> None:
        """With all that it started."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


def finish(
    command: list[str], *, cwd: Path, env: dict[str, str], timeout: float = 900
) -> subprocess.CompletedProcess:
    """As subprocess.run(command, capture_output=True, text=True), for `python SCRIPT ARGUMENTS`.

    Raises: subprocess.TimeoutExpired, after the process and all that it started were killed.
    """
    process = Started(command, cwd=cwd, env=env)
    try:
        code = process.wait(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, code, *process.output())


def become(request: dict) -> None:
    """In the copy: what a new Python would be, up to what is imported; never returns."""
    os.setsid()
    for number, file in enumerate(("/dev/null", request["stdout"], request["stderr"])):
        opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["command"]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    more = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [folder for folder in more if folder and folder not in sys.path]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    import importlib

    import torch

    torch.set_num_threads(1)
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if "reap" in request:
            _, status = os.waitpid(request["reap"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            become(request)


if __name__ == "__main__":
    serve()
