"""The loss of the first 20 steps of every trained method and attack, how far every edit moves the
weights, and what is measured of made-up evidence, as it was when the numbers were last accepted.

Whoever changes a number here on purpose writes the new ones with

    UNRELEARN_GOLDEN=write python -m pytest tests/test_golden.py

raises the `version` of the stage that they are a part of, in unrelearn.stages (artefacts made
before would else be taken for new ones; versions.json is not written without it), and adds an entry
under "Changed results" in CHANGELOG.md: which numbers moved, and why.
"""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from formulas import at
from makers import OF_WORDS
from tiny import EDITS, TRAINED, from_yaml, network, new_task, pretraining, train, weights

from unrelearn.evals import (
    agreement,
    density_coverage,
    entropy,
    fd_oracle,
    forget_accuracy,
    kid_oracle,
    other_sampler,
    precision_recall,
    replacement,
    retain_accuracy,
)
from unrelearn.evals.evidence import Evidence, Predictions
from unrelearn.stage import Stage
from unrelearn.stages import memorise  # noqa: F401 - known then, as those of both tracks
from unrelearn.tracks import classification, diffusion, vflgan  # noqa: F401
from unrelearn.training import Training

GOLDEN = Path(__file__).parent / "golden"


def versions(kind: type[Stage] = Stage) -> dict[str, int]:
    """Of each stage; where two kinds of model have one of a name, the higher."""
    found: dict[str, int] = {}
    for below in kind.__subclasses__():
        if hasattr(below, "name") and below.__module__.startswith("unrelearn."):
            found[below.name] = max(found.get(below.name, 0), below.version)
        for name, version in versions(below).items():
            found[name] = max(found.get(name, 0), version)
    return found


VERSIONS = versions()
KEPT = (
    GOLDEN / "versions.json"
)  # the versions of the stages, and a digest of each trace that was made with them
TRAINS = ("pretrain", "unlearn", "attack")  # the stages whose versions speak for the traces
MEASURED, MEASURES = "measured", ("evaluate",)  # and for the measurements
# what draws images rounds them to bytes, and what ranks weights cuts somewhere: another CPU's last
# digits then grow
GROWS = {
    "method-concept_ablation": 5e-3,
    "method-scissorhands": 5e-3,
    "method-selective_amnesia": 5e-3,
    "attack-dimra_aux": 5e-3,
    # images are drawn by a network as it moves; the first steps are looked at closely
    "method-esd": 0.25,
    "words_adv_unlearn": 0.25,
    "words_esd_attribute": 0.25,
    "words_receler": 0.25,
    "words_spm": 0.25,
}


def trace(module: Training, folder: Path) -> dict[str, list[float]]:
    rows = train(module, folder).rows
    assert [row["step"] for row in rows] == list(range(1, 21))
    return {term: [float(f"{row[term]:.7g}") for row in rows] for term in rows[0] if term != "step"}


def compare(name: str, found: dict[str, list[float]]) -> None:
    path = GOLDEN / f"{name}.json"
    if os.environ.get("UNRELEARN_GOLDEN") == "write":
        path.write_text(json.dumps(found, indent=1) + "\n")
    golden = json.loads(path.read_text())
    assert found.keys() == golden.keys()
    for term in golden:
        rel = GROWS.get(name, 1e-4)
        assert found[term] == pytest.approx(golden[term], rel=rel), (
            f"{name}: {term}; see the head of this file"
        )
        assert found[term][:2] == pytest.approx(golden[term][:2], rel=min(rel, 5e-3)), (
            f"{name}: {term}, first steps"
        )


def test_pretraining_has_not_changed(tmp_path: Path):
    compare("pretraining", trace(pretraining(max_steps=20), tmp_path))


@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_the_losses_have_not_changed(group: str, name: str, compose, tmp_path: Path):
    task = new_task()
    task.network.load_state_dict(
        network(seed=1).state_dict()
    )  # not the weights that retrain starts from
    rate = f"{group}.learning_rate=1e-3"  # whatever rate the yaml recommends
    compare(
        f"{group}-{name}", trace(from_yaml(compose, group, name, rate, steps=20)(task), tmp_path)
    )


@pytest.mark.parametrize("name", OF_WORDS)
def test_the_losses_of_what_reads_captions_have_not_changed(name: str, tmp_path: Path):
    compare(name, trace(OF_WORDS[name](max_steps=20), tmp_path))


MEASUREMENTS = (
    agreement,
    entropy,
    fd_oracle,
    forget_accuracy,
    kid_oracle,
    other_sampler,
    replacement,
    retain_accuracy,
)
STILL = ("row_swap", "projection_swap", "random_weights")


def distance(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    squares = [(after[name].double() - before[name].double()).square().sum() for name in before]
    return float(f"{float(sum(squares)) ** 0.5:.7g}")


@pytest.mark.parametrize(
    ("group", "name"), [*(("method", n) for n in STILL), *(("attack", n) for n in EDITS)]
)
def test_how_far_an_edit_moves_the_weights_has_not_changed(group, name, compose, tmp_path: Path):
    task = new_task()
    task.network.load_state_dict(network(seed=1).state_dict())
    before = {key: value.clone() for key, value in task.network.state_dict().items()}
    module = train(from_yaml(compose, group, name)(task), tmp_path)
    after = [at(module, level) for level in getattr(module.method, "levels", ())]
    distances = [distance(before, each) for each in after or [weights(module)]]
    compare(f"{group}-{name}", {"distance": distances})


def measured_values() -> dict[str, list[float]]:
    """All numbers of the measurements that read the oracle alone, of 120 made-up images a set."""
    draw = torch.Generator().manual_seed(0)

    def seen(classes: list[int]) -> Predictions:
        labels = torch.tensor(classes).repeat(120)[:120]
        probabilities = torch.rand(2, 120, 5, generator=draw, dtype=torch.float64).softmax(-1)
        features = torch.randn(120, 6, generator=draw, dtype=torch.float64) + labels[:, None]
        return Predictions(labels, *probabilities, features)

    scales = ("1.0", "2.0")
    evidence = Evidence(
        {scale: seen([2]) for scale in scales},
        {scale: seen([0, 1, 3]) for scale in scales},
        seen([0, 1, 3]),
        seen([0, 1, 3]),
        forget_classes=[2],
        num_classes=4,
        other_sampler={scale: seen([2]) for scale in scales},
    )
    values = {}
    for measurement in MEASUREMENTS:
        values[measurement.__name__.rpartition(".")[2]] = numbers(measurement.run(evidence))
    values["precision_recall"] = numbers(precision_recall.run(evidence, "oracle", 3))
    values["density_coverage"] = numbers(density_coverage.run(evidence, "oracle", 5))
    return values


def numbers(value: object) -> list[float]:
    """All that stand in a result, in its order, and hits as their count."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    if isinstance(value, str):
        return [float(value.count("1"))]
    return [] if value is None else [float(f"{float(value):.7g}")]


def test_what_is_measured_has_not_changed():
    compare(MEASURED, measured_values())


def test_every_golden_file_belongs_to_a_test():
    trained = {f"{group}-{name}" for group, name in TRAINED}
    edited = {*(f"method-{name}" for name in STILL), *(f"attack-{name}" for name in EDITS)}
    assert digests().keys() == {"pretraining", MEASURED, *OF_WORDS} | trained | edited


def digests() -> dict[str, str]:
    return {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(GOLDEN.glob("*.json"))
        if path.stem not in (KEPT.stem, "keys")
    }


def committed() -> dict:
    """versions.json as it stands in HEAD; where there is no git, on disk."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:./{KEPT.name}"], cwd=GOLDEN, capture_output=True, text=True
    )
    text = shown.stdout if shown.returncode == 0 else KEPT.read_text() if KEPT.exists() else "{}"
    return {"versions": {}, "traces": {}} | json.loads(text)


def unversioned(before: dict, versions: dict[str, int], traces: dict[str, str]) -> list[str]:
    """Traces that moved though no version of a stage that makes them was raised; a new trace moves
    nothing.
    """
    raised = {stage for stage in versions if versions[stage] > before["versions"].get(stage, 0)}
    moved = [name for name, old in before["traces"].items() if traces.get(name, old) != old]
    return [n for n in moved if not raised & set(MEASURES if n == MEASURED else TRAINS)]


def test_versions_are_raised_where_traces_move():
    found = {"versions": VERSIONS, "traces": digests()}
    moved = unversioned(committed(), **found)
    assert not moved, (
        f"{', '.join(moved)}: moved; raise the version of one of {TRAINS} in unrelearn.stages,"
        f" of {MEASURED} of {MEASURES}"
    )
    if os.environ.get("UNRELEARN_GOLDEN") == "write":
        KEPT.write_text(json.dumps(found, indent=1) + "\n")
    assert json.loads(KEPT.read_text()) == found, "see the head of this file"


@pytest.mark.parametrize(
    ("stage", "traces", "expected"),
    [
        (None, {"a": "2", "b": "1"}, ["a"]),
        ("evaluate", {"a": "2", "b": "1"}, ["a"]),
        ("attack", {"a": "2", "b": "1"}, []),
        ("attack", {MEASURED: "2"}, [MEASURED]),
        ("evaluate", {MEASURED: "2"}, []),
        (None, {"a": "1", "b": "1", "new": "1"}, []),
        (None, {"b": "1"}, []),  # a method that is gone
    ],
)
def test_a_trace_that_moved_wants_a_version_of_what_trains(
    stage: str | None, traces: dict, expected: list[str]
):
    before = {"versions": VERSIONS, "traces": {"a": "1", "b": "1", MEASURED: "1"}}
    assert (
        unversioned(before, VERSIONS | ({stage: VERSIONS[stage] + 1} if stage else {}), traces)
        == expected
    )
