"""Around a run: attack=all, data-parallel processes, and errors as one line each."""

import argparse
import contextlib
import errno
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import NoReturn, Protocol

from unrelearn import check
from unrelearn.advice import command, say_once, shown
from unrelearn.errors import UsageError

# names that Slurm gives a job that is a shell
SHELLS = ("bash", "sh", "zsh", "fish", "tcsh", "csh", "ksh", "interactive")
PATIENCE = 10.0  # seconds after which a process that waits for others says so


def every_attack(words: list[str], attacks: Callable[[list[str]], list[str]]) -> list[str]:
    """The command line with ``attack=all``, also within a list, spelled out: a multirun over all
    attacks, each once.

    attacks: what "all" stands for in a command line.

    With a launcher one run is a multirun as well: Hydra would leave the launcher out and say
    nothing.
    """
    expanded = []
    for word in words:
        chosen = word.partition("=")[2].split(",")
        if asks_for_all(word):
            word = "attack=" + ",".join(
                dict.fromkeys(a for c in chosen for a in (attacks(words) if c == "all" else [c]))
            )
        expanded.append(word)
    only_shows = {"-h", "--help", "-c", "--cfg"} & set(words)  # Hydra does not do both
    # with a reference one run is two
    several = any(word.startswith(("hydra/launcher=", "reference=")) for word in words)
    return ["-m", *expanded] if (several or expanded != words) and not only_shows else expanded


def asks_for_all(word: str) -> bool:
    key, _, value = word.partition("=")
    return key == "attack" and "all" in value.split(",")


def say_left_out(words: list[str], left_out: Callable[[list[str]], dict[str, str]]) -> None:
    """Of attack=all, which attacks it does not stand for and why, a line each."""
    if any(map(asks_for_all, words)) and int(os.environ.get("RANK", 0)) == 0:
        for name, why in left_out(words).items():
            print(f"attack=all leaves {name} out: it {why}", flush=True)


def parser(about: str | None, examples: str | None = None) -> argparse.ArgumentParser:
    """Of a script, whose docstring and examples its help shows as they are written."""
    shape = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=about, epilog=examples, formatter_class=shape)


def complain(problems: list[str]) -> int:
    """Print each problem on a line of its own; the exit code of bad input."""
    if int(os.environ.get("RANK", 0)) == 0:
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
    return 2


def storage_problems(error: BaseException, cfg: object = None) -> list[str]:
    """One line if a file could not be written or read, else none.

    Only what lies below paths.outputs is a matter of paths.outputs; of another file the key is
    named whose path it lies below, if there is one in the configuration, and what could not be done
    with it.
    """
    text = str(error)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        sign in text
        for sign in ("No space left", "File too large", "PytorchStreamWriter failed writing")
    ):
        return [
            "paths.outputs: the disk is full; what was finished is kept. Free some space and type"
            " the same command to continue, or paths.outputs=FOLDER on another disk"
        ]
    if not isinstance(error, OSError) or error.errno is None:
        return []
    if not isinstance(error.filename, str | bytes):
        return []
    file, key = os.fsdecode(error.filename), check.owner(os.fsdecode(error.filename), cfg)
    what = f"{shown(file)} can not be {_undone(error)} ({error.strerror})"
    if key == "paths.outputs":
        return [
            f"paths.outputs={shown(check.at(cfg, key))}: {what}; what was finished is kept. "
            "Type paths.outputs=FOLDER with a folder of yours"
        ]
    if not key:
        return [f"{what}; what was finished is kept. Type the same command when that is mended"]
    given = f"{key}={shown(check.at(cfg, key))}"
    return [f"{given}: {what}. Type {key}=PATH with one that you may use"]


def _undone(error: OSError) -> str:
    """Whether a file was to be read or written, as far as an error tells."""
    file = os.fsdecode(error.filename)
    if error.errno == errno.EROFS or getattr(error, "filename2", None) is not None:
        return "written"
    if error.errno == errno.ENOENT:  # in a folder that is there, what is written need not be
        return "read" if os.path.isdir(os.path.dirname(os.path.abspath(file))) else "found"
    if os.path.exists(file):
        return "written" if os.access(file, os.R_OK) else "read"
    return (
        "written"
        if not os.access(os.path.dirname(os.path.abspath(file)), os.W_OK)
        else "read or written"
    )


def reasons(error: Exception, cfg: object = None) -> list[str]:
    """What to say of an error, a line each: what a user can mend, or else what it is."""
    problems = error.problems if isinstance(error, UsageError) else storage_problems(error, cfg)
    return problems or [f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"]


def script(main: Callable[[], int]) -> NoReturn:
    """End with its exit code; what a user can mend is said in a line each."""
    try:
        sys.exit(main())
    except UsageError as error:
        sys.exit(complain(error.problems))
    except OSError as error:
        sys.exit(complain(storage_problems(error) or [str(error)]))


@contextlib.contextmanager
def job() -> Iterator[SimpleNamespace]:
    """One run, which ends with its exit code if a user can mend why it failed. What is yielded
    takes the validated configuration, once there is one, as `config`.
    """
    running = SimpleNamespace(config=None)
    try:
        yield running
        leave()
    except UsageError as error:
        sys.exit(complain(error.problems))
    except Exception as error:
        if problems := storage_problems(error, running.config):
            sys.exit(complain(problems))
        raise


def leave() -> None:
    """Leave the group of processes at the end of what they did in step, and never after a failure.

    Without this one exit in 25 ended in an abort, as threads of the group outlived Python
    (pytorch#190489). After a failure of one process the others may wait in a collective, and
    leaving would wait for them.
    """
    if "torch" in sys.modules:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
            gc.collect()  # what still refers to the group keeps its threads


def slurm_shell(environment: Mapping[str, str]) -> bool:
    """Whether this process was typed into a shell that is itself the step: srun --ntasks=4 --pty
    bash, or salloc.

    Its variables are those of one task of four, but nobody started the others. A task that srun
    starts itself from such a shell inherits the name of the job, but is told its own process id.
    """
    named = environment.get("SLURM_JOB_NAME") in SHELLS
    return named and environment.get("SLURM_TASK_PID") != str(os.getpid())


def join_step() -> None:
    """Take from Slurm what rank this process has in a run of several, or say that it is taken for a
    run of its own.
    """
    os.environ.update(slurm_ranks(os.environ))
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if (
        "RANK" not in os.environ
        and "SLURM_STEP_ID" in os.environ
        and tasks != "1"
        and slurm_shell(os.environ)
    ):
        say_once(
            "one process: this is a shell of Slurm"
            f" (SLURM_JOB_NAME={os.environ['SLURM_JOB_NAME']}), though of SLURM_NTASKS={tasks}. For"
            f" a run of {tasks} processes type srun --job-name=run {_again()}"
        )


def _again() -> str:
    """This command, as it can be typed again."""
    return command(sys.argv[1:], program=os.path.relpath(sys.argv[0]) if sys.argv[0] else "run.py")


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """After some seconds within, say for whom this process waits, and what to type if they will
    never come.
    """
    size, tasks = os.environ["WORLD_SIZE"], os.environ.get("SLURM_NTASKS")
    if tasks == size and "SLURM_STEP_ID" in os.environ:
        who, alone = f"SLURM_NTASKS={tasks}; started by srun", "SLURM_NTASKS=1"
    else:
        who, alone = f"WORLD_SIZE={size}; started by torchrun", "env -u RANK -u WORLD_SIZE"
    line = (
        f"waiting for the other {int(size) - 1} of {size} processes, as number {os.environ['RANK']}"
        f" ({who} they come by themselves; to run alone type {alone} {_again()})"
    )
    timer = threading.Timer(PATIENCE, print, [line], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def slurm_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """What torchrun would have set, from what Slurm sets for each task that srun starts; {} outside
    of such a step.

    `srun --nodes=2 --ntasks-per-node=4 python run.py trainer=ddp trainer.devices=4` is eight
    processes of one run, and so are the tasks of a job of hydra/launcher=slurm.
    """
    if "RANK" in environment:
        return {}
    if (
        "SLURM_STEP_ID" not in environment
        or int(environment.get("SLURM_NTASKS", 1)) == 1
        or slurm_shell(environment)
    ):
        return {}
    from lightning.fabric.plugins.environments import SLURMEnvironment

    processes, nodes = (int(environment.get(f"SLURM_{name}", 1)) for name in ("NTASKS", "NNODES"))
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(processes),
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(processes // nodes),
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(
            environment.get("SLURM_NODELIST", "127.0.0.1")
        ),
        # another one for each step, as several may run side by side on the nodes of a job
        "MASTER_PORT": str(
            15000
            + (int(environment["SLURM_JOB_ID"]) + 101 * int(environment["SLURM_STEP_ID"])) % 4000
        ),
    }


class Trainer(Protocol):
    """What `processes` reads of a configuration."""

    threads: int | None
    accelerator: str
    devices: int
    timeout_minutes: float


def processes(trainer: Trainer) -> None:
    """Become one process per device: join the group that torchrun or Slurm started, or become
    torchrun, which starts them.

    The whole program runs in every process from its start, in step; nothing is launched in the
    middle of a run. Who is through calls `leave`. A process that is lost ends the others after
    trainer.timeout_minutes: torch gives NCCL ten, in which the first process may still be measuring
    what the others wait for.
    """
    if trainer.threads:
        import torch

        torch.set_num_threads(trainer.threads)
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            gpu = torch.cuda.is_available() and trainer.accelerator != "cpu"
            if gpu:
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
            backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
            with _waiting():
                dist.init_process_group(backend, timeout=timedelta(minutes=trainer.timeout_minutes))
            if dist.get_rank() > 0:  # one voice
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif trainer.devices > 1:
        threads = max(1, (os.cpu_count() or 1) // trainer.devices)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        sys.stdout.flush()
        sys.exit(torchrun(trainer.devices))


def torchrun(devices: int) -> int:
    """Run this command in so many processes; the exit code, which torchrun itself has as 1 whatever
    they end with.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main(["--standalone", f"--nproc_per_node={devices}", *sys.argv])
    except ChildFailedError as error:
        code: int = error.get_first_failure()[1].exitcode
        if code not in (2, 3):  # bad input, a limit that is exceeded: the process has said so
            raise
        return code
    return 0
