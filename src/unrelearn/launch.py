"""Around a run: attack=all, data-parallel processes, errors as one line each, and the account of a multirun."""

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unrelearn.errors import RefusedCommand, UsageError
from unrelearn.paths import CONF

_finished: list[dict] = []  # the records of this process's runs
_failed: list[tuple[str, str]] = []  # (overrides, why) of the runs of a multirun that did not get through


def attacks() -> list[str]:
    """What attack=all stands for: all but dimra_proxy, which needs the files of another data set."""
    names = {path.stem for path in (CONF / "attack").glob("*.yaml")} - {"dimra_proxy"}
    return sorted(names, key=lambda name: (name != "none", name))


def every_attack(words: list[str], attacks: Sequence[str]) -> list[str]:
    """The command line with ``attack=all``, also within a list, spelled out: a multirun over all attacks, each once.

    With a launcher one run is a multirun as well: Hydra would leave the launcher out and say nothing.
    """
    expanded = []
    for word in words:
        key, _, value = word.partition("=")
        chosen = value.split(",")
        if key == "attack" and "all" in chosen:
            word = "attack=" + ",".join(dict.fromkeys(a for c in chosen for a in (attacks if c == "all" else [c])))
        expanded.append(word)
    only_shows = {"-h", "--help", "-c", "--cfg"} & set(words)  # Hydra does not do both
    several = expanded != words or any(word.startswith("hydra/launcher=") for word in words)
    return ["-m", *expanded] if several and not only_shows else expanded


def complain(problems: list[str]) -> int:
    """Print each problem on a line of its own; the exit code of bad input."""
    if int(os.environ.get("RANK", 0)) == 0:
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
    return 2


def storage_problems(error: BaseException) -> list[str]:
    """One line if the error means that nothing (more) can be written, else none."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
            sign in text for sign in ("No space left", "File too large", "PytorchStreamWriter failed writing")):
        return ["paths.outputs: the disk is full; what was finished is kept. Free some space and type the same command to "
                "continue, or paths.outputs=FOLDER on another disk"]
    if number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT):
        return [f"paths.outputs: {error.filename} can not be written ({error.strerror}); what was finished is kept. "
                "Type paths.outputs=FOLDER with a folder of yours"]
    return []


@contextlib.contextmanager
def job(overrides: list[str], multirun: bool) -> Iterator[None]:
    """One run. In a multirun a failure is noted and the next run follows; a single run ends with its exit code."""
    try:
        yield
        leave()
        return
    except KeyboardInterrupt:
        print("\ninterrupted: the same command continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        failure = error
    problems = failure.problems if isinstance(failure, UsageError) else []
    if not problems and getattr(failure, "errno", None) != errno.ENOENT:
        problems = storage_problems(failure)
    if not problems and not multirun:
        raise failure
    problems = problems or [f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"]
    code = complain(problems)
    if "SUBMITIT_EXECUTOR" in os.environ:  # the job of a launcher: it fails, and the launcher reads the lines above
        raise failure
    if not multirun or isinstance(failure, RefusedCommand):
        sys.exit(code)
    failed(" ".join(overrides), "; ".join(problems))


def finished(record: dict | None) -> None:
    if record is not None:
        _finished.append(record)


def failed(overrides: str, why: str) -> None:
    _failed.append((overrides, why))


def leave() -> None:
    """Leave the group of processes at the end of what they did in step, and never after a failure.

    Without this one exit in 25 ended in an abort, as threads of the group outlived Python (pytorch#190489). After a failure of
    one process the others may wait in a collective, and leaving would wait for them.
    """
    if "torch" in sys.modules:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
            gc.collect()  # what still refers to the group keeps its threads


def summary() -> int:
    """After everything: which runs of a multirun failed and why, and their comparison. The exit code."""
    if len(_finished) > 1:
        _compare()
    for why in dict.fromkeys(why for _, why in _failed):
        runs = [overrides for overrides, reason in _failed if reason == why]
        print(f"failed: {' | '.join(runs)}: {why}", file=sys.stderr)
    if _failed:
        print(f"{len(_failed)} of {len(_failed) + len(_finished)} runs failed; the same command runs only what is missing",
              file=sys.stderr)
    return 1 if _failed else 0


def _compare() -> None:
    """Print the comparison of the runs, log it as a table; of several attacks also the matrix, and write all of it as a page."""
    from unrelearn import tracking
    from unrelearn.report import compare, matrix, write_atomically

    compare.show(_finished)
    outputs = Path(_finished[0]["config"]["paths"]["outputs"])
    tracking.grid(_finished, outputs, _finished[0]["config"]["tracking"])
    groups = compare.comparison([{**r, "path": outputs / "runs" / r["name"] / "result.json"} for r in _finished])
    if matrices := matrix.matrices(groups):
        matrix.show(matrices)
        page = outputs / "report" / "index.html"
        write_atomically(page, compare.to_html(groups, page.parent, matrix.to_html(matrices)))
        print(f"Comparison: {page}")


def slurm_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """What torchrun would have set, from what Slurm sets for each task that srun starts; {} outside of such a step.

    `srun --nodes=2 --ntasks-per-node=4 python run.py trainer=ddp trainer.devices=4` is eight processes of one run, and so
    are the tasks of a job of hydra/launcher=slurm, or of slurm_local, where there is no Slurm.
    """
    if "RANK" in environment:
        return {}
    if environment.get("SUBMITIT_EXECUTOR") == "local":
        tasks, job, rank = (environment[f"SUBMITIT_LOCAL_{name}"] for name in ("NTASKS", "JOB_ID", "LOCALID"))
        return {} if tasks == "1" else {
            "RANK": rank, "WORLD_SIZE": tasks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": tasks,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(15000 + int(job) % 4000)}
    if "SLURM_STEP_ID" not in environment or int(environment.get("SLURM_NTASKS", 1)) == 1:
        return {}
    from lightning.fabric.plugins.environments import SLURMEnvironment

    tasks, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", 1))
    return {
        "RANK": environment["SLURM_PROCID"], "WORLD_SIZE": str(tasks), "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(tasks // nodes),
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(environment.get("SLURM_NODELIST", "127.0.0.1")),
        # another one for each step, as several may run side by side on the nodes of a job
        "MASTER_PORT": str(15000 + (int(environment["SLURM_JOB_ID"]) + 101 * int(environment["SLURM_STEP_ID"])) % 4000),
    }


def processes(trainer: dict) -> None:
    """Become one process per device: join the group that torchrun or Slurm started, or replace this process by torchrun.

    The whole program runs in every process from its start, in step; nothing is launched in the middle of a run. Who is
    through calls `leave`.
    """
    if trainer["threads"]:
        import torch

        torch.set_num_threads(trainer["threads"])
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            gpu = torch.cuda.is_available() and trainer["accelerator"] != "cpu"
            if gpu:
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
            if dist.get_rank() > 0:  # one voice
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif trainer["devices"] > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // trainer["devices"])))
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", "--standalone",
                                  f"--nproc_per_node={trainer['devices']}", *sys.argv])
