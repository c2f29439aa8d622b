"""Finish a script of ours in a copy of a process that has imported everything: a start in 0.1 s.

As a script it is that process, one for each process of pytest: it reads a line for each command and
answers with a line. What a copy shares with a real start: arguments, environment, folder, exit code
and output. What it does not: the order of imports. So each kind of command is also started for real
somewhere (test_smoke, test_readme, test_grid_slurm).
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


@cache
def _server(owner: int) -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    atexit.register(server.kill)
    return server


def finish(
    command: list[str], *, cwd: Path, env: dict[str, str], timeout: float = 900
) -> subprocess.CompletedProcess:
    """As subprocess.run(command, capture_output=True, text=True), for `python SCRIPT ARGUMENTS`.

    Raises: subprocess.TimeoutExpired, after the process and all that it started were killed.
    """
    server = _server(os.getpid())
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / name) for name in ("stdout", "stderr")}
        request = {"command": command[1:], "cwd": str(cwd), "env": env, **files}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        pid = int(server.stdout.readline())
        if not select([server.stdout], [], [], timeout)[0]:
            os.killpg(pid, signal.SIGKILL)
            server.stdout.readline()
            raise subprocess.TimeoutExpired(command, timeout)
        code = int(server.stdout.readline())
        output, errors = (Path(file).read_text(errors="replace") for file in files.values())
    return subprocess.CompletedProcess(command, code, output, errors)


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
        pid = os.fork()
        if pid == 0:
            become(json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
