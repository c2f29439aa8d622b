"""A grid is its distinct parts: each planned once, made once, whoever makes it, and whatever
happens on the way.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import forked
import pytest
from command import ROOT, TINY, environment, numbers, run, weights_of
from filelock import FileLock
from runs import Cell

from unrelearn import distributed
from unrelearn.errors import UsageError
from unrelearn.grid import cells
from unrelearn.grid.parts import Inventory, Part
from unrelearn.grid.plan import Plan
from unrelearn.grid.status import overview
from unrelearn.grid.work import Worker, claim, running
from unrelearn.slurm import packed, waves

SHORT = [
    "unlearning.max_steps=10",
    "unlearning.batch_size=16",
    "relearning.budgets=[0,5,10]",
    "relearning.batch_size=16",
]
FIXED = [*TINY, *SHORT, "tracking=none"]
CHOICES = ["method=dimum", "attack=none,dimra", "seed=0,1"]


def command(name: str, outputs: Path, *more: str, choices: list[str] = CHOICES) -> list[str]:
    return [
        sys.executable,
        "scripts/grid.py",
        name,
        *FIXED,
        *choices,
        f"paths.outputs={outputs}",
        *more,
    ]


def started(outputs: Path, choices: list[str] = CHOICES) -> forked.Started:
    words = command("run", outputs, "--workers", "2", "--no-report", choices=choices)
    return forked.Started(words, cwd=ROOT, env=environment())


def grid(
    name: str,
    outputs: Path,
    *more: str,
    expect: int = 0,
    choices: list[str] = CHOICES,
    **changes: str,
) -> str:
    done = forked.finish(
        command(name, outputs, *more, choices=choices), cwd=ROOT, env=environment(**changes)
    )
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def plan(outputs: Path, choices: list[str] = CHOICES) -> Plan:
    return Plan.of([*FIXED, *choices, f"paths.outputs={outputs}"])


def finished(outputs: Path) -> dict[str, int]:
    """Every artefact that is there -> when it was finished, in nanoseconds."""
    return {
        path.parent.relative_to(outputs).as_posix(): path.stat().st_mtime_ns
        for path in (outputs / "artifacts").glob("*/*/manifest.json")
        if ".partial" not in path.as_posix()
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid, made here by one undisturbed process."""
    outputs = tmp_path_factory.mktemp("local")
    said = grid("run", outputs)
    assert (
        "4 runs, 21 distinct parts, 0 of them there" in said
        and "[21/21, " in said
        and "Report: " in said
    )
    return outputs


# ---- planning
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices",
    [
        [*CHOICES, "forget=7,[1,2]"],
        [
            "method=salun,original",
            "attack=dimra,prune",
            "oracle.main.seed=${seed}",
            "seed=0,3",
            "unlearning.max_steps=5,10",
        ],
        [
            "method=selective_amnesia,retrain",
            "attack=none,quantize",
            "model.pretrain.loss_reduction=mean,sum",
            "forget=3",
        ],
    ],
    ids=["classes", "interpolated seed", "one class"],
)
def test_a_plan_holds_each_part_of_every_run_once(compose, tmp_path: Path, choices: list[str]):
    """Against every run composed and taken apart by itself."""
    found, wanted = plan(tmp_path / "outputs", choices), set()
    for cell in range(len(found.cells)):
        words = [
            *(
                word
                for word in found.cells.fixed
                if "tracking" not in word and "accelerator" not in word
            ),
            *(f"{key}={value}" for key, value in found.cells.choices[cell]),
        ]
        cfg = compose(*words)
        one = Cell(cfg)
        wanted |= {stage.id for stage in one.stages() if stage.alone} | {f"record/{one.name}"}
    assert found.parts.keys() == wanted
    for part in found.parts.values():
        assert all(found.parts[need].level < part.level for need in part.needs), part
        cfg, line = found.configuration(part)
        one = Cell(cfg, line)
        assert part.key in {one.name, *(stage.key for stage in one.stages())}
    order = list(found.parts)
    assert all(
        order.index(need) < order.index(part.name)
        for part in found.parts.values()
        for need in part.needs
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=dimun"], "method=dimun: no such method"),
        (["forget=7,77"], "forget=77: no such class"),
        (["seed=0,-1"], "seed=-1: must be"),
        (["trainer=auto,ddp"], "the runs of a grid share one number"),
        (
            ["paths.outputs=/tmp/unrelearn-a,/tmp/unrelearn-b"],
            "the runs of a grid share one folder",
        ),
        (["method=dimum,,"], "method=dimum,,: can not be read"),
    ],
    ids=str,
)
def test_what_can_not_be_planned_is_said_in_a_line(tmp_path: Path, words: list[str], said: str):
    outputs = [] if "paths" in words[0] else [f"paths.outputs={tmp_path}"]
    with pytest.raises(UsageError) as error:
        Plan.of([*FIXED, *outputs, *words])
    assert (
        said in error.value.problems[0] and "Type" in error.value.problems[0]
    ) or "Leave" in error.value.problems[0]


def test_a_dry_run_typed_as_run_py_takes_it_plans_and_makes_nothing(tmp_path: Path):
    assert (
        "21 distinct parts" in (said := grid("run", tmp_path, "dry_run=true")) and "to do" in said
    )
    assert not list(tmp_path.rglob("artifacts/*/*"))


def test_the_words_of_the_launcher_are_no_choices(tmp_path: Path):
    """As they stand in a command for run.py, whose first word is replaced."""
    more = ["-m", "hydra/launcher=slurm", "+hydra.launcher.additional_parameters={nice: 0}"]
    said, plain = grid("status", tmp_path, *more), grid("status", tmp_path)
    assert re.sub(r"planned in .*\n", "", said) == re.sub(r"planned in .*\n", "", plain)


def test_some_of_the_stages_are_a_grid_too(tmp_path: Path):
    found = plan(tmp_path, ["stages=[pretrain,oracle]", "seed=0,1"])
    assert {part.stage for part in found.parts.values()} == {"pretrain", "oracle"}
    assert found.records == [(), ()] and len(found.targets[0]) == len(found.targets[1]) > 1


def test_packs_hold_every_part_once_and_stay_below_the_limits(tmp_path: Path):
    found = plan(tmp_path)
    seconds = {name: random.Random(name).uniform(1, 40) for name in found.parts}
    nodes = list(found.parts.values())
    for target, most in ((60, 1000), (60, 7), (1, 5)):
        made = waves(nodes, lambda part: seconds[part.name], target, most)
        assert sorted(part.name for wave in made for pack in wave for part in pack) == sorted(
            found.parts
        )
        assert sum(map(len, made)) <= most
        assert all(len({part.level for pack in wave for part in pack}) == 1 for wave in made)
    for pack in packed(nodes, lambda part: seconds[part.name], 60):
        assert len(pack) == 1 or sum(seconds[part.name] for part in pack) <= 60
    with pytest.raises(UsageError, match=r"3 more jobs are allowed .*the grid has 5 waves") as few:
        waves(nodes, lambda part: 1.0, 60, 3)
    for key in ("--max-jobs=5", "hydra.launcher.max_jobs=5 of hydra/launcher=slurm"):
        assert key in few.value.problems[0]


def test_the_time_of_a_part_is_that_of_its_like_then_of_its_flops(local: Path):
    found = plan(local, ["method=dimum,row_swap,random_label", "attack=none,dimra", "seed=0,1,2"])
    seconds, inventory = found.seconds(), found.inventory
    pretrained = [part for part in found.parts.values() if part.stage == "pretrain"]
    measured = sorted(inventory.seconds(part) for part in pretrained if inventory.there(part.name))
    assert len(measured) == 2 and not inventory.there(pretrained[2].name)
    assert seconds(pretrained[2]) == pytest.approx(sum(measured) / 2)
    new = next(part for part in found.parts.values() if part.what == "random_label")
    like = next(part for part in found.parts.values() if part.what == "dimum")
    ratio = found.cost(new).flops / found.cost(like).flops
    assert ratio > 0 and seconds(new) == pytest.approx(seconds(like) * ratio, rel=3)


# ---- making
# --------------------------------------------------------------------------------------------------


def test_a_grid_ends_with_the_numbers_of_its_runs_one_by_one(local: Path, tmp_path: Path):
    run("-m", *SHORT, *CHOICES, f"paths.outputs={tmp_path}")
    assert numbers(local) == numbers(tmp_path) and len(numbers(local)) == 4
    assert weights_of(local) == weights_of(tmp_path)


def test_a_grid_ends_with_one_table_on_the_dashboard(local: Path, tmp_path: Path):
    """By the tracking of this command, also of cells that were made without any."""
    outputs = tmp_path / "outputs"
    shutil.copytree(local, outputs)
    grid("run", outputs, "--no-report", "tracking.backend=wandb", "tracking.mode=offline")
    (table,) = outputs.glob("wandb/offline-run-*-grid-*/files/media/table/grid/*.json")
    assert (
        len(json.loads(table.read_text())["data"]) == 4
        and finished(outputs).keys() == finished(local).keys()
    )


def test_what_is_there_is_not_made_again_whatever_its_clock_says(local: Path):
    for number, path in enumerate(
        sorted((local / "artifacts").rglob("*"))
    ):  # another machine's clock, years ago or ahead
        os.utime(path, (time.time() + (-1) ** number * 1e8,) * 2)
    before = finished(local)
    assert "21 of them there" in grid("run", local, "--no-report")
    assert finished(local) == before
    elsewhere = ["trainer.accelerator=auto", "trainer.devices=auto"]  # of how many, jobs know
    assert "everything is done" in grid("status", local, *elsewhere)


def test_two_planners_with_two_workers_each_make_everything_once(local: Path, tmp_path: Path):
    choices = [*CHOICES[:-1], "seed=0"]
    both = [started(tmp_path, choices) for _ in range(2)]
    for process in both:
        assert process.wait() == 0, process.output()
        assert "parts of the grid: begins, " in process.output()[0]
    assert len(numbers(tmp_path)) == 2 and numbers(tmp_path).items() <= numbers(local).items()
    assert weights_of(tmp_path).items() <= weights_of(local).items()
    logs = "".join(path.read_text() for path in (tmp_path / "grids").glob("*/workers/*.log"))
    made = [
        line.split("] ")[1] for line in logs.splitlines() if line.startswith("[") and "] " in line
    ]
    assert len(made) == len(set(made)) == len(plan(tmp_path, choices).parts)
    assert "pretrain on digits: begins, 40" in logs  # a worker's log tells of its stages


def test_a_part_that_fails_rules_out_only_what_needs_it(local: Path, tmp_path: Path):
    shutil.copytree(
        local / "artifacts",
        tmp_path / "artifacts",
        ignore=shutil.ignore_patterns("unlearn", "attack", "evaluate"),
    )
    found = plan(tmp_path)
    damaged = next(part for part in found.parts.values() if part.stage == "pretrain")
    weights = next((tmp_path / "artifacts" / damaged.name).rglob("*.safetensors"))
    original = weights.read_bytes()
    weights.write_bytes(b"x" + original[1:])
    said = grid("run", tmp_path, "--no-report", expect=1)
    assert (
        "damaged artefact" in said
        and "rebuild=true" in said
        and "something that it needs failed" in said
    )
    seed = dict(found.cells.choices[damaged.cell])["seed"]
    assert {name.split("-seed")[1][0] for name in numbers(tmp_path)} == {"0", "1"} - {seed}
    assert "failed" in grid("status", tmp_path, expect=1)
    weights.write_bytes(original)
    grid("run", tmp_path, "--no-report")
    assert numbers(tmp_path) == numbers(local)
    assert overview(plan(tmp_path)).done and not overview(plan(tmp_path)).failed


def test_a_method_that_diverges_is_a_result_and_the_rest_is_made(tmp_path: Path):
    choices = ["method=dimum", "method.memory_weight=1.0,1e38", "attack=none,dimra", "seed=0"]
    outputs = tmp_path / "outputs"
    said = grid("run", outputs, "--no-report", choices=choices)
    assert said.count("recorded as diverged") == 1
    states = overview(plan(outputs, choices))
    assert (
        states.done
        and states.counts["unlearn"] == {"done": 1, "diverged": 1}
        and states.counts["record"]["done"] == 4
    )
    assert (
        sum(any(row["status"] == "diverged" for row in rows) for rows in numbers(outputs).values())
        == 2
    )
    shutil.copytree(
        outputs / "artifacts", tmp_path / "only" / "artifacts"
    )  # also where the report has nothing else to show
    choices = ["method=dimum", "method.memory_weight=1e38", "attack=none,dimra", "seed=0"]
    assert "Report: " in grid("run", tmp_path / "only", choices=choices)


def test_a_claim_ends_with_its_process(local: Path):
    part = next(iter(plan(local).parts.values()))
    folder = plan(local).folder
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import sys, time; from pathlib import Path; from filelock import FileLock\nlock ="
                f" FileLock({claim(folder, part).lock_file!r}); lock.acquire(); print('held',"
                " flush=True)\ntime.sleep(3600)"
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n" and running(folder) == {part.name}
    holder.kill()
    holder.wait()
    assert running(folder) == set()


def test_nobody_waits_for_a_part_that_nobody_makes(local: Path, tmp_path: Path, monkeypatch):
    """Not even while something else of the grid is being made."""

    def sleep(seconds: float) -> None:
        raise AssertionError("it waits")

    monkeypatch.setattr(
        "unrelearn.grid.work.time",
        SimpleNamespace(sleep=sleep, monotonic=time.monotonic, strftime=time.strftime),
    )
    found = plan(tmp_path)
    wanted = next(part for part in found.parts.values() if part.stage == "attack")
    other = next(part for part in found.parts.values() if part.stage == "oracle")
    with claim(found.folder, other):
        worker = Worker(found.parts, found.inventory, found.folder, found.configuration)
        lost = worker.work([wanted.name])
    assert lost == {wanted.name: "something that it needs is missing"}


def test_a_rank_that_sees_another_gone_waits_whether_its_own_end_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Slurm tells one rank after the other; what is put back into the queue has not failed."""

    def gone(part: Part) -> None:
        raise RuntimeError("Connection closed by peer")

    worker = Worker({}, Inventory(tmp_path), tmp_path, lambda part: pytest.fail())
    part = Part("pretrain/1", "", (), (), "", "", True, 0, 0)
    monkeypatch.setattr(worker, "_make", gone)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with monkeypatch.context() as slurm, pytest.raises(SystemExit):
        slurm.setattr(time, "sleep", lambda seconds: sys.exit())
        worker._why_not_made(part)
    assert not worker.failures.all()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(RuntimeError):
        worker._why_not_made(part)
    assert list(worker.failures.all()) == ["pretrain/1"]


def test_many_runs_are_looked_at_with_a_word_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(cells, "MANY", 1)
    cells.Swept([*FIXED, "seed=0,1", f"paths.outputs={tmp_path}"])
    assert "looking at 2 runs" in capsys.readouterr().out


def test_kills_at_random_moments_cost_nothing_that_was_finished(local: Path, tmp_path: Path):
    """UNRELEARN_TRIALS=20 for more of them."""
    trials, draw = int(os.environ.get("UNRELEARN_TRIALS", 3)), random.Random(0)
    survived, kept = 0, {}
    for _ in range(trials):
        process, before = started(tmp_path), finished(tmp_path)
        # a kill before anything is finished proves little
        while process.poll() is None and finished(tmp_path) == before:
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 4))
        process.kill()
        now = finished(tmp_path)
        survived += all(now.get(name) == when for name, when in kept.items())
        kept = now
    print(
        f"{survived} of {trials} kills left everything that was finished as it was; {len(kept)}"
        " artefacts then"
    )
    assert survived == trials
    grid("run", tmp_path, "--no-report")
    assert all(finished(tmp_path)[name] == when for name, when in kept.items())
    assert numbers(tmp_path) == numbers(local) and weights_of(tmp_path) == weights_of(local)


def test_a_grid_that_is_told_to_end_takes_its_workers_along(tmp_path: Path):
    """Also where Ctrl-C is not heard, as in the background of a shell."""
    process = subprocess.Popen(
        command("run", tmp_path, "--workers", "2"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    while not list(tmp_path.rglob("*.partial")):
        assert process.poll() is None
        time.sleep(0.2)
    listed = ["pgrep", "-P", str(process.pid)]
    workers = subprocess.run(listed, capture_output=True, text=True).stdout.split()
    assert len(workers) == 2
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 130 and "the same command continues" in said
    assert not any(Path("/proc", pid).exists() for pid in workers)


def test_a_full_disk_stops_the_grid_with_one_line_and_what_was_finished_stays(
    local: Path, tmp_path: Path
):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(small)]).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        said = grid("run", small / "outputs", expect=2)
        assert said.count("error: ") == 1 and "the disk is full" in said and "Traceback" not in said
        kept = finished(small / "outputs")
        subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
        grid("run", small / "outputs", "--no-report")
        assert all(finished(small / "outputs")[name] == when for name, when in kept.items())
        assert numbers(small / "outputs") == numbers(local)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_report_that_can_not_be_made_costs_a_line(local: Path, tmp_path: Path):
    outputs = Path(shutil.copytree(local, tmp_path / "outputs"))
    shutil.rmtree(outputs / "report")
    (outputs / "report").write_text("a file in place of the folder")
    said = grid("run", outputs)
    assert "Traceback" not in said and "warning: the report could not be made" in said
    assert f"error: {outputs}/report" in said and numbers(outputs) == numbers(local)
    said = grid("run", outputs, "--no-report")
    assert "the report" not in said and "Report: " not in said


# ---- clearing away
# --------------------------------------------------------------------------------------------------


def gc(outputs: Path, *more: str, expect: int = 0) -> str:
    done = forked.finish(
        [sys.executable, "scripts/gc.py", str(outputs), "--hours", "0", *more],
        cwd=ROOT,
        env=environment(),
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_only_what_no_result_and_no_grid_needs_is_removed(local: Path, tmp_path: Path):
    outputs = tmp_path / "outputs"
    shutil.copytree(local, outputs)
    assert gc(outputs).startswith("0 folders")
    shutil.rmtree(outputs / "grids")
    for folder in (outputs / "runs").glob("digits-dimum-dimra-*-seed1-*"):
        shutil.rmtree(folder)
    before = finished(outputs)
    said = gc(outputs)
    assert (
        finished(outputs) == before and "Nothing was removed" in said and "attack: 1 of 2" in said
    )
    gc(outputs, "--yes")
    gone = before.keys() - finished(outputs).keys()
    seen = [name.split("/")[1] for name in gone]
    assert {
        stage: sum(name.startswith(stage) for name in seen)
        for stage in ("pretrain", "oracle", "unlearn", "attack")
    } == {"pretrain": 0, "oracle": 0, "unlearn": 0, "attack": 1}
    kept = finished(outputs)
    grid("run", outputs, "--no-report")
    assert numbers(outputs) == numbers(local) and all(
        finished(outputs)[name] == when for name, when in kept.items()
    )


def test_clearing_away_stops_where_it_can_not_know_what_is_needed(local: Path, tmp_path: Path):
    outputs = tmp_path / "outputs"
    shutil.copytree(local, outputs)
    next((outputs / "runs").glob("*/result.json")).write_text("{")
    assert "what it needs is unknown" in gc(outputs, "--yes", expect=2)
    assert finished(outputs).keys() == finished(local).keys()
    assert "holds no artefacts" in gc(tmp_path / "nothing", expect=2)
    shutil.rmtree(outputs / "runs")
    next((outputs / "grids").glob("*/grid.json")).write_text("{}")
    assert "without words" in gc(outputs, "--yes", expect=2)


def test_planners_of_one_grid_add_to_its_note_and_replace_nothing(tmp_path: Path):
    first, second = (plan(tmp_path, ["method=dimum", "attack=none"]) for _ in range(2))
    first.keep()
    second.parts = {"evaluate/other": None}
    with FileLock(second.folder / "grid.lock"):
        waiting = threading.Thread(target=second.keep)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join()
    note = json.loads((first.folder / "grid.json").read_text())
    assert {*first.parts, "evaluate/other"} == set(note["parts"])
    (first.folder / "grid.json").write_text("{")
    first.keep()
    assert set(json.loads((first.folder / "grid.json").read_text())["parts"]) == set(first.parts)
