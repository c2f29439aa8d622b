"""The time box, on digits and in seconds: it fixes its number of steps once, ends in any stage and
goes on from there, where neither rich nor wandb is installed.
"""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import command
import pytest
import tiny
import torch
from safetensors.torch import save_file

from unrelearn.diffusion import denoiser
from unrelearn.grid.plan import Plan

sys.path.insert(0, str(command.ROOT / "scripts"))
import time_box

SMALL = [o for o in command.TINY if not o.startswith("model.pretrain.max_steps")]
WORDS = [
    "cifar10_box",
    "dataset=digits",
    "model=unet_tiny",
    "trainer=auto",
    "precision=32-true",
    "forget=7",
    "method=dimum",
    "relearning.learning_rate=1e-3",
    "model.pretrain.max_steps=100",
    "trainer.log_every_n_steps=10",
    *SMALL,
    *command.SHORT,
]
MISSING = """
from importlib import metadata
from importlib.machinery import PathFinder
MISSING = {"rich", "wandb", "cleanfid"}
find_spec, from_name = PathFinder.find_spec, metadata.Distribution.from_name
def known(name):
    if name in MISSING:
        raise metadata.PackageNotFoundError(name)
    return from_name(name)
def found(name, *where):
    return None if name.split(".")[0] in MISSING else find_spec(name, *where)
PathFinder.find_spec = found
metadata.Distribution.from_name = staticmethod(known)
"""


class Ended(subprocess.Popen):
    """A process whose box ends as soon as it has begun to make something of a stage."""

    artifacts: Path
    stage: str

    def wait(self, timeout: float | None = None) -> int:
        if timeout == time_box.AGAIN or not self.stage:
            return super().wait(timeout)
        while self.there() <= self.before:  # what has been begun leaves a file in any case
            assert self.poll() is None, f"ended before there was anything of {self.stage}"
            time.sleep(0.01)
        raise subprocess.TimeoutExpired(self.args, 0)

    def there(self) -> set[Path]:
        return set((self.artifacts / self.stage).glob("*"))

    def __init__(self, *arguments: object, **options: object):
        self.before = self.there() if self.stage else set()
        super().__init__(*arguments, **options)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Python as on a device that has torch and little else, started by a shell in the background,
    which takes SIGINT away.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(MISSING)
    path = os.pathsep.join([str(tmp_path / "bare"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(time_box, "AGAIN", 1.0)
    names = {name: getattr(subprocess, name) for name in ("run", "TimeoutExpired", "DEVNULL")}
    monkeypatch.setattr(time_box, "subprocess", SimpleNamespace(Popen=Ended, **names))
    yield
    signal.signal(signal.SIGINT, before)


def test_a_box_that_ends_in_any_stage_goes_on_and_brings_everything_home(
    bare: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    outputs, out = tmp_path / "outputs", tmp_path / "out"
    words = [*WORDS, f"paths.outputs={outputs}"]
    Ended.artifacts = outputs / "artifacts"
    for stage in ("unlearn", "samples", ""):
        Ended.stage = stage
        assert time_box.main(["--minutes", "60", "--out", str(out), *words]) == 0
        assert ("the same command goes on" in capsys.readouterr().out) == bool(stage)
    note = json.loads((outputs / "time_box" / "cifar10_box.json").read_text())
    assert note["steps"] == 100 and note["boxes"] == 3
    assert [words[:5] for words in note["divisions"]] == ["box 1", "box 2", "box 3"]

    whole = tmp_path / "whole"
    command.run("-m", "experiment=cifar10_box", *words[1:-1], f"paths.outputs={whole}")
    ours, theirs = command.weights_of(outputs), command.weights_of(whole)
    assert ours == theirs, "a box that was interrupted and one run"

    assert len(list(out.iterdir())) == 2
    with zipfile.ZipFile(out / "results.zip") as results:
        names = results.namelist()
        assert {"time_box.json", "report/table.md", "report/index.html"} <= set(names)
        (record,) = [name for name in names if name.endswith("result.json")]
        settings = json.loads(results.read(record))["config"]
    assert settings["model"]["pretrain"]["max_steps"] == 100
    with zipfile.ZipFile(out / "weights.zip") as weights:
        weights.extractall(tmp_path / "weights")
    folders = [path.parent for path in (tmp_path / "weights").rglob("config.json")]
    assert len(folders) == 5  # pretrained raw and EMA, unlearned, attacked twice
    assert all(denoiser.load(folder).config.num_class_embeds == 11 for folder in folders)


def test_retrained_classifiers_count_as_originals(tmp_path: Path):
    words = ["experiment=classification", "method=salun,retrain", "tracking=none"]
    plan = Plan.of([*words, f"paths.outputs={tmp_path}"])
    stages = [part.stage for part in plan.parts.values() if time_box.from_scratch(plan, part)]
    assert sorted(stages) == ["pretrain", "references", "unlearn"]


def test_records_come_out_before_pages_and_a_report_that_takes_too_long_costs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def too_long(run: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(run, 30)

    monkeypatch.setattr(subprocess, "run", too_long)
    monkeypatch.setattr(time_box, "BYTES", 100)
    run = tmp_path / "outputs" / "runs" / "one"
    run.mkdir(parents=True)
    for name, size in (("result.json", 600), ("report.html", 500), ("losses.json", 100)):
        (run / name).write_bytes(bytes(size))
    (tmp_path / "note.json").write_text("{}")
    archive = time_box.results(tmp_path / "outputs", tmp_path, tmp_path / "note.json", -5.0)
    names = zipfile.ZipFile(archive).namelist()
    assert names == ["time_box.json", "runs/one/result.json", "runs/one/losses.json"]
    said = capsys.readouterr().out
    assert "not done in time. Type python " in said and "1 pages" in said


def test_what_comes_out_is_cut_into_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time_box, "BYTES", 1000)
    (tmp_path / "weights.zip").write_bytes(bytes(range(250)) * 11)
    pieces = time_box.in_pieces(tmp_path / "weights.zip", tmp_path)
    assert [piece.name for piece in pieces] == [f"weights.zip.00{n}" for n in (1, 2, 3)]
    assert b"".join(piece.read_bytes() for piece in pieces) == bytes(range(250)) * 11


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "0.001"], "--minutes=0.001: half of it holds"),
        (["--minutes", "nan"], "--minutes=nan: no length of a box"),
        (["dry_run=true"], "Type python scripts/grid.py plan experiment=cifar10_box"),
        (["--out", str(Path(__file__) / "x")], "Type --out FOLDER with one of yours"),
        (["seed=0,1"], "2 pretrainings, and a box has one. Type seed=0"),
        (["method=nonesuch"], "nonesuch"),
    ],
)
def test_a_box_that_can_not_be(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert time_box.main([*WORDS, f"paths.outputs={tmp_path / 'outputs'}", *words]) == 2
    errors = capsys.readouterr().err
    assert said in errors and errors.count("error: ") == 1
    assert not (tmp_path / "outputs" / "artifacts").exists()


def test_the_length_that_is_advised_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(time_box, "work", lambda words, until: 0)
    for seconds in (0.0612, 0.0719, 31.0):
        monkeypatch.setattr(time_box, "seconds_per_step", lambda run, s=seconds: s)
        words = [*WORDS, f"paths.outputs={tmp_path / str(seconds)}", "--out", str(tmp_path / "out")]
        assert time_box.main([*words, "--minutes", "0.01"]) == 2
        advice = capsys.readouterr().err.split("Type ")[1].split(" or more")[0]
        assert time_box.main([*words, *advice.split()]) == 0


def test_a_later_box_keeps_the_steps_of_the_first_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(time_box, "work", lambda words, until: 0)
    monkeypatch.setattr(time_box, "seconds_per_step", lambda run: 0.01)
    words = [*WORDS, f"paths.outputs={tmp_path / 'outputs'}", "--out", str(tmp_path / "out")]
    assert time_box.main(words) == time_box.main(words) == 0
    note = tmp_path / "outputs" / "time_box" / "cifar10_box.json"
    capsys.readouterr()
    before = note.read_text()
    assert time_box.main([*words, "model.pretrain.max_steps=7"]) == 2
    assert "model.pretrain.max_steps=7: the first box has fixed" in capsys.readouterr().err
    assert note.read_text() == before
    note.write_text(before[:20])
    assert time_box.main(words) == 2
    assert f"Type rm {note}" in capsys.readouterr().err


def test_weights_that_were_trained_elsewhere_leave_nothing_to_divide(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    network = tiny.network()
    denoiser.save(network, tmp_path / "theirs", tiny.SCHEDULE)
    words = [*WORDS, f"paths.outputs={tmp_path / 'outputs'}", "--out", str(tmp_path / "out")]
    given = [f"model.checkpoint={tmp_path / 'theirs'}", "model.weights=raw"]
    assert time_box.main([*words, *given]) == 2
    assert "a box is divided by the steps of a pretraining" in capsys.readouterr().err


def test_files_of_an_earlier_box_go_when_new_ones_are_there_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = ["results.zip", "results.zip.bak", "weights.zip", "weights.zip.001", "mine.txt"]
    for name in names:
        (tmp_path / name).write_text("earlier")
    monkeypatch.setattr(time_box, "weights", lambda *given: None)
    monkeypatch.setattr(time_box, "results", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        time_box.bring_home(tmp_path, tmp_path, tmp_path / "note", 1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)

    def results(outputs: Path, work: Path, *given: object) -> Path:
        (work / "results.zip").write_text("new")
        return work / "results.zip"

    monkeypatch.setattr(time_box, "results", results)
    time_box.bring_home(tmp_path, tmp_path, tmp_path / "note", 1.0)
    assert (tmp_path / "results.zip").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.txt",
        "results.zip",
        "results.zip.bak",
    ]


def test_records_are_home_before_weights_and_what_is_no_model_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    outputs, out = tmp_path / "outputs", tmp_path / "out"
    out.mkdir()
    folder = outputs / "artifacts" / "attack" / "key"
    denoiser.save(tiny.network(), folder / "raw", tiny.SCHEDULE)
    save_file({"noise": torch.zeros(2)}, folder / "start.safetensors")  # of no network

    def results(outputs: Path, work: Path, *given: object) -> Path:
        (work / "results.zip").write_text("records")
        return work / "results.zip"

    monkeypatch.setattr(time_box, "results", results)
    time_box.bring_home(outputs, out, tmp_path / "note", 1.0)
    with zipfile.ZipFile(out / "weights.zip") as weights:
        assert {Path(name).parent.name for name in weights.namelist()} == {"raw"}
    (out / "results.zip").unlink()
    monkeypatch.setattr(time_box, "weights", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        time_box.bring_home(outputs, out, tmp_path / "note", 1.0)
    assert (out / "results.zip").read_text() == "records"


def test_a_box_in_which_no_run_has_ended_says_what_to_take_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(time_box, "work", lambda words, until: 0)
    monkeypatch.setattr(time_box, "seconds_per_step", lambda run: 0.01)
    outputs = tmp_path / "outputs"
    assert time_box.main([*WORDS, f"paths.outputs={outputs}", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "no run has ended" in printed and f"goes on from {outputs}" in printed
