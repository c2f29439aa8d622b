"""W&B, by reading back the files it wrote; and what happens when it does not work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import SHORT, run


def records(path: Path) -> list[dict]:
    """Every record of an offline run file, by W&B's own reader."""
    done = subprocess.run([str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(path)],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("tracked") / "outputs"
    run(*SHORT, f"paths.outputs={outputs}", "tracking.tags=[mine]", tracking="wandb")
    return outputs


def test_one_offline_run_for_each_computed_artefact(tracked: Path):
    ids = sorted(path.name.split("-", 3)[3] for path in (tracked / "wandb").glob("offline-run-*"))
    artefacts = sorted(f"{path.parent.parent.name}-{path.parent.name}" for path in tracked.rglob("manifest.json")
                       if path.parent.parent.name != "reference")  # what is seen in real images: nothing to plot
    assert ids == artefacts and len(ids) == 13  # pretrain, 2 classifiers, unlearn, attack, 4 x (samples, evaluate)


def test_group_job_type_tags_config_and_curves_are_in_the_file(tracked: Path):
    path = next((tracked / "wandb").glob("offline-run-*-unlearn-*/*.wandb"))
    text = json.dumps(records(path))
    for part in ("digits-dimum-dimra", "unlearn", "mine", "another_class", "train/memory", "trainer/global_step"):
        assert part in text, part


def test_sample_grids_are_saved_as_images(tracked: Path):
    grids = list((tracked / "wandb").glob("offline-run-*-samples-*/files/media/images/*.png"))
    assert len(grids) == 4 * 3  # models x (forget at two scales, retain at one)


def test_a_tracker_that_does_not_answer_costs_one_line(tmp_path: Path):
    done = run(*SHORT, f"paths.outputs={tmp_path / 'outputs'}", "tracking.mode=online", tracking="wandb",
               WANDB_API_KEY="0" * 40, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_MODE="online")
    assert done.stdout.count("warning: W&B does not work here") == 1
    assert list((tmp_path / "outputs" / "runs").glob("*/result.json"))
