"""A grid of runs as distinct artefacts, each made once: here, on several devices of this machine,
or by Slurm in waves.

    python scripts/grid.py run experiment=grid/digits
        here; the same command again continues
    python scripts/grid.py run experiment=grid/digits --workers 4
        four processes, on as many GPUs as there are
    python scripts/grid.py plan experiment=grid/cifar10
        jobs, hours and disk; nothing is computed
    python scripts/grid.py submit experiment=grid/cifar10 --sbatch "--partition=gpu --gpus=1"
        in waves of job arrays
    python scripts/grid.py status experiment=grid/cifar10 --watch
        done, running, queued, failed, and the time that is left
    python scripts/grid.py retry experiment=grid/cifar10 --sbatch "..."
        submits only what is missing and not queued
    python scripts/grid.py cancel experiment=grid/cifar10
        what was being made goes on from its checkpoint later

A grid is named by its choices, as python run.py -m takes them: give the same ones to every command.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

from rich.table import Table

from unrelearn import distributed, launch, progress, slurm, tracking
from unrelearn.advice import command as command_line
from unrelearn.config.given import completed
from unrelearn.config.kinds import every_attack_of
from unrelearn.errors import UsageError
from unrelearn.grid.cells import KnownInception
from unrelearn.grid.follow import follow, hours, picture
from unrelearn.grid.parts import RECORD, Inventory, Part
from unrelearn.grid.plan import Plan
from unrelearn.grid.queued import look, watch
from unrelearn.grid.status import overview
from unrelearn.grid.work import NEED_MISSING, Failures, Worker
from unrelearn.record import judge
from unrelearn.report.records import Record, collect

SCRIPTS = Path(__file__).resolve().parent
LAUNCHER = ("hydra/launcher=", "hydra.launcher.")  # of the same command typed for run.py
EVERY = 2.0  # seconds between two looks of a live table
REFIT = 10.0  # seconds after which the time that is left is estimated anew


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = launch.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, what: str, **options) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=what, **options)
        command.add_argument(
            "words",
            nargs="+",
            metavar="CHOICE",
            help="as for python run.py -m: method=dimum,salun seed=0,1",
        )
        return command

    run = add("run", "make everything here, with progress over the whole grid, and then its report")
    run.add_argument("--workers", type=int, default=1, help="processes side by side (default: 1)")
    run.add_argument("--dry-run", action="store_true", help="only say what there is to do")
    run.add_argument(
        "--no-report", action="store_true", help="where several grids go into one folder"
    )
    plan = add(
        "plan", "say what there is to do, how long it takes and how much disk; compute nothing"
    )
    submit = add(
        "submit", "submit what is missing and not queued, in waves of job arrays", aliases=["retry"]
    )
    submit.add_argument(
        "--sbatch",
        default="",
        metavar="OPTIONS",
        help='of sbatch: "--partition=gpu --gpus=1 --mem=32G"',
    )
    submit.add_argument("--parallel", type=int, help="at most so many jobs of an array at once")
    submit.add_argument(
        "--mix-devices", action="store_true", help="also where jobs may come to several GPUs"
    )
    submit.add_argument("--dry-run", action="store_true", help="only say what would be submitted")
    for command in (plan, submit):
        command.add_argument(
            "--minutes",
            type=float,
            default=240,
            help="time limit of a job; parts fill half of it (default: 240)",
        )
        command.add_argument(
            "--max-jobs",
            type=int,
            help="of yours at once, at most (default: what the cluster says)",
        )
    status = add("status", "what is done, running, queued and failed, and the time that is left")
    status.add_argument(
        "--watch", action="store_true", help="look again every few seconds, until all is done"
    )
    add("cancel", "take the grid's jobs out of the queue")
    inner = commands.add_parser(
        "work", description="make the parts that a file lists (what a job and a worker run)"
    )
    inner.add_argument("file", type=Path)
    given = sys.argv[1:] if arguments is None else arguments
    # a command for run.py may be typed whole
    words = [word for word in given if word not in ("-m", "--multirun")]
    for index in range(len(words) - 2, -1, -1):
        # its value begins with dashes, which argparse would take for an option
        if words[index] == "--sbatch":
            words[index : index + 2] = [f"--sbatch={words[index + 1]}"]
    options, more = parser.parse_known_args(words)
    strange = [word for word in more if word.startswith("-") or "=" not in word]
    if strange or (more and not hasattr(options, "words")):
        parser.error(
            f"{' '.join(strange or more)}: no such option. Type python scripts/grid.py {words[0]}"
            " --help"
        )
    if hasattr(options, "words"):  # choices may also stand behind options
        options.words = [
            word
            for word in launch.every_attack(completed(options.words + more), every_attack_of)
            if word != "-m" and not word.lstrip("+").startswith(LAUNCHER)
        ]
    for name in ("workers", "minutes", "parallel", "max_jobs"):
        value = getattr(options, name, None)
        if value is not None and value <= 0:
            parser.error(
                f"--{name.replace('_', '-')} {value:g}: must be above 0. Type"
                f" --{name.replace('_', '-')} 1"
            )
    return options


# ---- what is shown -------------------------------------------------------------------------------


def size(number: float) -> str:
    return f"{number / 2**20:.1f} MiB" if number < 2**30 else f"{number / 2**30:,.1f} GiB"


def show_plan(plan: Plan, minutes: float = 240, most: int | None = None) -> None:
    missing, seconds = plan.missing(), plan.seconds()
    title = f"{len(plan.cells):,} runs in {plan.outputs}: {len(plan.parts):,} distinct parts"
    table = Table("stage", title=title, title_justify="left")
    for heading in ("parts", "there", "to do", "optimiser steps", "time", "disk"):
        table.add_column(heading, justify="right")
    for stage in plan.stages:
        every = [part for part in plan.parts.values() if part.stage == stage]
        to_do = [part for part in missing if part.stage == stage]
        if every:
            costs = [plan.cost(part) for part in to_do]
            steps, disk = sum(cost.steps for cost in costs), sum(cost.bytes for cost in costs)
            table.add_row(
                stage,
                f"{len(every):,}",
                f"{len(every) - len(to_do):,}",
                f"{len(to_do):,}",
                f"{steps:,}" if steps else "",
                hours(sum(map(seconds, to_do))),
                size(disk) if disk else "",
            )
    progress.console.print(table)
    total = sum(map(seconds, missing))
    disk = size(sum(plan.cost(part).bytes for part in missing))
    progress.console.print(
        f"to do: {len(missing):,} parts, {total / 3600:,.3g} hours of one device, {disk}. Hours are"
        " those of like parts that are there; of what has none, FLOPs at their speed, or at"
        " cost.utilisation of cost.device_tflops. Nothing was computed."
    )
    if missing:
        room = most or 10**9
        with contextlib.suppress(UsageError):  # no Slurm here, or it does not answer
            _, room = slurm.room(most)
        waves = slurm.waves(missing, seconds, 60 * minutes / 2, room)
        progress.console.print(
            f"On Slurm, with jobs of {minutes:g} minutes: "
            + ", then ".join(
                f"{len(wave)} job{'s' * (len(wave) != 1)} ({sum(map(len, wave)):,} parts)"
                for wave in waves
            )
        )


# ---- the commands --------------------------------------------------------------------------------


def status(plan: Plan, watched: bool) -> int:
    if watched:
        return judge(records_of(plan)) if watch(plan).done else 1
    seen = look(plan)
    progress.console.print(*picture(plan, seen), sep="\n")
    return 1 if seen.failed else judge(records_of(plan)) if seen.done else 0


def run(plan: Plan, workers: int, report: bool) -> int:
    """Make everything, by this process or by several; then the report, if it is wanted."""
    if plan.trainer.devices > 1:
        raise UsageError(
            f"trainer.devices={plan.trainer.devices}: here each part is made on one device. Type"
            f" trainer=auto --workers {plan.trainer.devices}; on Slurm, submit takes trainer=ddp"
        )
    launch.processes(plan.trainer)
    missing = plan.missing()
    there = len(plan.parts) - len(missing)
    progress.say(
        f"{len(plan.cells):,} runs, {len(plan.parts):,} distinct parts, {there:,} of them there"
    )
    plan.keep()
    for part in missing:
        Failures(plan.folder).forget(part)
    lost = side_by_side(plan, missing, workers) if workers > 1 else one_by_one(plan, missing)
    for why in dict.fromkeys(lost.values()):
        names = [name for name, reason in lost.items() if reason == why]
        print(
            f"failed: {', '.join(names[:5])}{f' and {len(names) - 5} more' * (len(names) > 5)}:"
            f" {why}",
            file=sys.stderr,
        )
    if lost:
        print(
            f"{len(lost)} of {len(plan.parts)} parts are missing; the same command makes only"
            " these",
            file=sys.stderr,
        )
    code = 1 if lost else 0
    if records := records_of(plan):
        tracking.grid(records, plan.outputs, plan.tracking)
        if report:
            print()
            show(plan.outputs)
        code = judge(records) or code
    return code


def records_of(plan: Plan) -> list[Record]:
    """Those that are there."""
    names = [part.key for part in plan.parts.values() if part.stage == RECORD]
    files = (plan.outputs / "runs" / name / "result.json" for name in names)
    return collect(file for file in files if file.exists())


def show(outputs: Path) -> None:
    """The report over all runs of the folder; the numbers are kept whatever becomes of it."""
    out = outputs / "report"
    words = [str(SCRIPTS / "report.py"), str(outputs / "runs"), "--out", str(out)]
    if subprocess.run([sys.executable, *words]).returncode:
        print(
            "warning: the report could not be made; the numbers are kept. Type"
            f" {shlex.join(['python', *words])} to make it",
            file=sys.stderr,
        )
    else:
        print(f"Report: {out / 'index.html'}")


def one_by_one(plan: Plan, missing: list[Part]) -> dict[str, str]:
    left = {part.name: part for part in missing}
    seconds, fitted = plan.seconds(), time.monotonic()

    def begun(part: Part) -> None:
        nonlocal seconds, fitted
        # what was made meanwhile tells how long the rest will take
        if time.monotonic() - fitted > REFIT:
            seconds, fitted = plan.seconds(), time.monotonic()
        run = " ".join(f"{key}={text}" for key, text in plan.cells.choices[part.cell])
        time_left = hours(sum(map(seconds, left.values())))
        progress.say(
            f"[{len(missing) - len(left) + 1}/{len(missing)}, about {time_left} left] {part.stage}"
            f" {part.what}: {run}"
        )

    worker = Worker(
        plan.parts,
        plan.inventory,
        plan.folder,
        plan.configuration,
        begun,
        finished=lambda part, measured: left.pop(part.name),
    )
    return worker.work(list(left))


def side_by_side(plan: Plan, missing: list[Part], workers: int) -> dict[str, str]:
    """As many processes of `work`, which share the parts by their claims."""
    import torch

    file, gpus = plan.folder / "workers" / "parts.json", torch.cuda.device_count()
    slurm.write_task(file, plan, missing)
    processes = []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    allowed = list(filter(None, visible)) or list(map(str, range(gpus)))
    gpus = 0 if plan.trainer.accelerator == "cpu" else gpus
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))
    words = [sys.executable, __file__, "work", str(file)]
    for number in range(workers):
        own = {"CUDA_VISIBLE_DEVICES": allowed[number % gpus]} if gpus else {}
        environment = {**os.environ, **(own or {"OMP_NUM_THREADS": threads})}
        with open(file.with_name(f"{number}.log"), "a") as log:
            processes.append(subprocess.Popen(words, stdout=log, stderr=log, env=environment))
    progress.say(
        f"{workers} workers on {f'{gpus} GPU(s)' if gpus else 'the CPU'}; logs: {file.parent}"
    )
    try:
        seen = follow(
            plan,
            lambda: overview(plan),
            lambda _: any(process.poll() is None for process in processes),
            EVERY,
            workers,
        )
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
    for number, process in enumerate(processes):
        if process.returncode not in (0, 1):
            last = (file.with_name(f"{number}.log").read_text().splitlines() or [""])[-1]
            print(
                f"worker {number} ended with {process.returncode}: {last}"
                f" ({file.with_name(f'{number}.log')})",
                file=sys.stderr,
            )
    return {part.name: seen.failed.get(part.name, NEED_MISSING) for part in plan.missing()}


def work_on(file: Path) -> int:
    """What a job of Slurm and a worker of this machine do."""
    from unrelearn.config import Config, validated

    task = json.loads(file.read_text())
    parts = {}
    for name, what, needs, inside, *more in task["parts"]:
        parts[name] = Part(name, what, tuple(needs), tuple(inside), *more)
    settle = KnownInception(task["settled"])

    @lru_cache(maxsize=8)
    def configuration(cell: int) -> tuple[Config, str]:
        words = task["cells"][str(cell)]
        cfg, _ = validated(words)
        settle(cfg)
        return cfg, command_line(words)

    first = parts[task["wanted"][0]]
    launch.processes(configuration(first.cell)[0].trainer)
    total = len(task["wanted"])
    number = iter(range(1, total + 1))

    def begun(part: Part) -> None:
        progress.say(f"[{next(number)}/{total}] {part.stage} {part.what} ({part.key})")

    worker = Worker(
        parts,
        Inventory(Path(task["outputs"])),
        Path(task["folder"]),
        lambda part: configuration(part.cell),
        begun,
    )
    lost = worker.work(task["wanted"])
    for name, why in lost.items():
        if distributed.is_main():
            print(f"failed: {name}: {why}", file=sys.stderr)
    launch.leave()
    return 1 if lost else 0


def submit(plan: Plan, options: argparse.Namespace) -> int:
    if options.dry_run:
        show_plan(plan, options.minutes, options.max_jobs)
        return 0
    given = (options.minutes, options.sbatch, options.max_jobs, options.parallel)
    slurm.Submission(*given, options.mix_devices).submit(plan)
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        if options.command == "work":
            # one that was begun in the background of a shell would not hear it
            signal.signal(signal.SIGINT, signal.default_int_handler)
            launch.join_step()
            return work_on(options.file)
        if options.command == "run":  # ended by kill as by Ctrl-C: with its workers
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        started = time.monotonic()
        if "dry_run=true" in options.words:  # as run.py takes it
            options.words.remove("dry_run=true")
            options.dry_run = True
        dry_run = options.command == "plan" or getattr(options, "dry_run", False)
        plan = Plan.of(
            options.words,
            elsewhere=options.command != "run",
            dry_run=dry_run,
            reading=options.command in ("status", "cancel"),
        )
        if time.monotonic() - started > 10:
            progress.say(f"planned in {hours(time.monotonic() - started)}")
        match options.command:
            case "plan":
                show_plan(plan, options.minutes, options.max_jobs)
            case "run" if options.dry_run:
                show_plan(plan)
            case "run":
                return run(plan, options.workers, report=not options.no_report)
            case "submit" | "retry":
                return submit(plan, options)
            case "status":
                return status(plan, options.watch)
            case "cancel":
                progress.say(
                    "cancelled:"
                    f" {', '.join(slurm.cancel(plan)) or 'nothing, none of its jobs is queued'}"
                )
        return 0
    except UsageError as error:
        return launch.complain(error.problems)
    except KeyboardInterrupt:
        print("\ninterrupted: the same command continues from the last checkpoint", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
