"""Every example is run as its page says, at a tiny size."""

import json
import os
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import forked
import nbformat
import pandas as pd
import pytest
import torch
from command import ROOT, TINY, environment, run
from nbclient import NotebookClient
from omegaconf import OmegaConf

from unrelearn.diffusion.noisy import NoisyBatch

EXAMPLES = ROOT / "examples"
# as tests/command.py, and fewer images and measured budgets
TINIER = [*TINY, "sampler.second=null", "tracking=none"]
TINIER += ["unlearning.max_steps=10", "unlearning.batch_size=16"]
TINIER += ["relearning.budgets=[0,5]", "relearning.batch_size=16"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples, so that one pretrained model serves them."""
    return tmp_path_factory.mktemp("examples") / "outputs"


@pytest.fixture(scope="module")
def record_of_dimum(outputs: Path) -> Path:
    run("method=dimum", "attack=dimra", *TINIER, f"paths.outputs={outputs}")
    return next((outputs / "runs").glob("digits-dimum-dimra-*/result.json"))


def commands(page: Path) -> list[list[str]]:
    """The indented commands of a page, as a shell would split them."""
    text = re.sub(r"\\\n +", "", page.read_text())
    return [shlex.split(line) for line in re.findall(r"^    (\S.*)$", text, flags=re.M)]


def execute(words: list[str], *more: str) -> str:
    """What a command prints that starts with NAME=VALUE, then python."""
    changes = dict(word.split("=", 1) for word in words[: words.index("python")])
    if "PYTHONPATH" in changes:  # beside what the tests run with
        changes["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    script = [sys.executable, *words[words.index("python") + 1 :], *more]
    done = forked.finish(script, cwd=ROOT, env=environment(**changes))
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(outputs: Path, **chosen: str) -> list[dict]:
    found = [json.loads(path.read_text()) for path in (outputs / "runs").glob("*/result.json")]
    return [r for r in found if all(r[key] == value for key, value in chosen.items())]


def test_a_method_outside_of_the_tree_needs_one_file_and_one_yaml(outputs: Path):
    (command,) = commands(EXAMPLES / "own_method" / "README.md")
    execute(command, *TINIER, "attack=none", f"paths.outputs={outputs}")
    (record,) = records(outputs, method="to_null")
    assert [row["model"] for row in record["rows"]] == ["original", "unlearned"]


def test_a_method_with_one_thing_changed_has_a_time_of_each_part_of_the_schedule(outputs: Path):
    (command,) = commands(EXAMPLES / "every_time" / "README.md")
    execute(command, *TINIER, "attack=none", f"paths.outputs={outputs}")
    (record,) = records(outputs, method="dimum_every_time")
    tuned = OmegaConf.load(ROOT / "conf" / "tuned" / "dimum.yaml")
    settings = OmegaConf.load(EXAMPLES / "every_time" / "method" / "dimum_every_time.yaml")
    assert settings == {
        **tuned.unlearning,
        **tuned.method,
        **{k: settings[k] for k in ("defaults", "_target_")},
    }
    assert [row["model"] for row in record["rows"]] == ["original", "unlearned"]

    spread = runpy.run_path(str(EXAMPLES / "every_time" / "dimum_every_time.py"))["spread"]
    n, steps = 8, 1000
    t = SimpleNamespace(
        method=SimpleNamespace(batch_size=n),
        task=SimpleNamespace(schedule={"num_train_timesteps": steps}),
        part=lambda whole: whole[2:5],  # one process of several
    )
    drawn = torch.randint(steps, (10_000, 3), generator=torch.Generator().manual_seed(0))
    images = torch.zeros(3, 1, 1, 1)
    times = torch.stack([spread(t, NoisyBatch(images, images, images, d)).t for d in drawn])
    assert torch.equal(times * n // steps, torch.tensor([2, 3, 4]).expand_as(times))
    assert len(times.unique()) == times.max() - times.min() + 1  # none is left out


def test_a_folder_of_weights_from_elsewhere_is_attacked(outputs: Path, tmp_path: Path):
    train, attack = commands(EXAMPLES / "weights_from_elsewhere" / "README.md")
    folder = str(tmp_path / "elsewhere")
    execute([folder if word == "outputs/elsewhere" else word for word in train], "--steps", "20")
    attack = [word.replace("outputs/elsewhere", folder) for word in attack]
    execute(attack, *TINIER, f"paths.outputs={outputs}")
    made = {record["attack"]: record for record in records(outputs, method="original")}
    assert made.keys() == {"dimra", "embedding_inversion"}
    for record in made.values():
        assert [row["model"] for row in record["rows"]] == ["original", "unlearned", "attacked"]
        (first,) = [stage for stage in record["stages"] if stage["stage"] == "pretrain"]
        imported = outputs / "artifacts" / "pretrain" / first["key"]
        assert (imported / "raw").is_dir() and not (imported / "losses.json").exists()


def test_the_notebook_answers_its_question_with_each_picture(outputs: Path):
    notebook = nbformat.read(EXAMPLES / "was_it_forgotten.ipynb", as_version=4)
    settings = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    settings.source = f"SETTINGS = {TINIER}\nOUTPUTS = {str(outputs)!r}"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    shown = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) == 2
    assert {r["method"] for r in records(outputs, attack="dimra")} >= {"dimum", "retrain"}


def test_results_are_read_into_a_table_with_the_numbers_of_the_records(
    record_of_dimum: Path, tmp_path: Path
):
    record = json.loads(record_of_dimum.read_text())
    report = runpy.run_path(str(ROOT / "scripts" / "report.py"))["main"]
    assert report([str(record_of_dimum), "--out", str(tmp_path)]) == 0
    script, picture = str(EXAMPLES / "results_in_pandas.py"), tmp_path / "recovery.png"
    printed = execute(
        ["python", script, str(tmp_path / "results.csv"), "--figure", str(picture)]
    ).splitlines()
    measured = record["rows"][-1]["metrics"]["forget_accuracy"]
    expected = [f"{100 * measured[guidance]['value']:.1f}" for guidance in ("1.0", "2.0")]
    assert printed[-1].split() == ["dimum", *expected]
    assert picture.stat().st_size > 1000


def test_seeds_of_an_attack_are_averaged_before_those_of_the_models():
    recovery = runpy.run_path(str(EXAMPLES / "results_in_pandas.py"))["recovery"]
    lines = pd.DataFrame({"seed": [0, 0, 0, 1], "value": [0.1, 0.2, 0.3, 0.6]}).assign(
        **{"table": "digits", "method": "dimum", "attack": "dimra", "guidance": 1.0},
        **{"model": "attacked", "last": True, "measurement": "forget_accuracy"},
    )
    assert recovery(lines).to_numpy() == pytest.approx(40.0)


def test_the_drawn_stages_are_those_of_a_run():
    """As docs/stages.svg; written anew by `python scripts/stage_graph.py method=dimum
    attack=dimra`.
    """
    script = runpy.run_path(str(ROOT / "scripts" / "stage_graph.py"))
    found = script["stages"]("method=dimum", "attack=dimra")
    assert script["parents"](found) == {
        "pretrain": set(),
        "unlearn": {"pretrain"},
        "attack": {"unlearn"},
        "samples": {"pretrain", "unlearn", "attack"},
        "oracle": set(),
        "reference": {"oracle"},
        "evaluate": {"samples", "reference"},
    }
    notes = {stage.name: script["note"](stage) for stage in found}
    assert all(notes.values())
    drawn = script["draw"](script["parents"](found), notes)
    assert drawn == (ROOT / "docs" / "stages.svg").read_text(encoding="utf-8")
