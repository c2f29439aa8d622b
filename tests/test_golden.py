"""The loss of the first 20 steps of every trained method and attack, as it was when the numbers
were last accepted.

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
from makers import OF_WORDS
from tiny import TRAINED, from_yaml, network, new_task, pretraining, train

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


def test_every_golden_file_belongs_to_a_test():
    trained = {f"{group}-{name}" for group, name in TRAINED}
    assert digests().keys() == {"pretraining", *OF_WORDS} | trained


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
    """Traces that moved though no version of a stage that trains was raised; a new trace moves
    nothing.
    """
    raised = any(versions[stage] > before["versions"].get(stage, 0) for stage in TRAINS)
    return (
        []
        if raised
        else [
            name for name, digest in before["traces"].items() if traces.get(name, digest) != digest
        ]
    )


def test_versions_are_raised_where_traces_move():
    found = {"versions": VERSIONS, "traces": digests()}
    moved = unversioned(committed(), **found)
    assert not moved, (
        f"{', '.join(moved)}: moved; raise the version of one of {TRAINS} in unrelearn.stages"
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
        (None, {"a": "1", "b": "1", "new": "1"}, []),
        (None, {"b": "1"}, []),  # a method that is gone
    ],
)
def test_a_trace_that_moved_wants_a_version_of_what_trains(
    stage: str | None, traces: dict, expected: list[str]
):
    before = {"versions": VERSIONS, "traces": {"a": "1", "b": "1"}}
    assert (
        unversioned(before, VERSIONS | ({stage: VERSIONS[stage] + 1} if stage else {}), traces)
        == expected
    )
