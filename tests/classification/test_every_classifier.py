"""Every method and attack of classifiers: the losses of its first steps, as they were when they
were last accepted, and what it leaves.

Whoever changes a number here on purpose writes the new ones with

    UNRELEARN_GOLDEN=write python -m pytest tests/classification/test_every_classifier.py

raises the version of a stage, and says so under "Changed results" in CHANGELOG.md.
"""

import json
import math
import os
from pathlib import Path

import pytest
import small_classifiers
import torch
from hydra.utils import instantiate
from tiny import CLASSIFIERS, train

from unrelearn.classification import networks
from unrelearn.classification.classifying import Classifying, first_images
from unrelearn.config import constructor_arguments
from unrelearn.method import Edit

KEPT = Path(__file__).parents[1] / "golden" / "classification" / "traces.json"
# dimra_proxy needs the files of another data set
EVERY = [(g, name) for g, names in CLASSIFIERS.items() for name in names if name != "dimra_proxy"]
STEPS = 8


def module_of(compose, group: str, name: str, steps: int = STEPS) -> Classifying:
    """What the pipeline makes of a yaml, with a small network that has learned its images."""
    words = ["experiment=classification", "forget=class:3", f"{group}={name}"]
    given = compose(*words)[group]
    if given.get("max_steps"):
        given["max_steps"] = steps
    if "budgets" in given:
        given["budgets"] = [steps]
    if "batch_size" in given:
        given["batch_size"] = min(given["batch_size"], 16)
    given |= {key: 60 for key in ("fisher_samples",) if key in given}
    record = instantiate(constructor_arguments(given), _convert_="all")
    public = small_classifiers.data().test
    task = small_classifiers.new_task(
        (3,),
        network=small_classifiers.learned(),
        public=public,
        original=small_classifiers.learned,
    )
    return Classifying(record, task)


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_it_runs_as_it_did_and_leaves_a_network(group: str, name: str, compose, tmp_path: Path):
    module = train(module_of(compose, group, name), tmp_path)
    rows = [{key: float(f"{value:.6g}") for key, value in row.items()} for row in module.rows]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert len(rows) == module.method.max_steps and module.diverged_at is None
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    label = f"{group}-{name}"
    if os.environ.get("UNRELEARN_GOLDEN") == "write":
        KEPT.write_text(json.dumps(kept | {label: rows}, indent=1, sort_keys=True) + "\n")
        kept[label] = rows
    for row, expected in zip(rows, kept[label], strict=True):
        assert row == pytest.approx(expected, rel=5e-3, abs=1e-5), label
    if isinstance(module.method, Edit):
        with module.edited(module.method.levels[0]):
            module.save(tmp_path / "saved")
    else:
        module.save(tmp_path / "saved")
    written = networks.load(tmp_path / "saved" / "raw")
    x = torch.rand(5, 1, 8, 8)
    answers = written.eval()(x)
    assert answers.shape == (5, 10) and answers.isfinite().all()


def test_every_kept_trace_is_of_something():
    assert json.loads(KEPT.read_text()).keys() == {f"{group}-{name}" for group, name in EVERY}


def test_masked_weights_stay_to_the_bit_under_decay_and_momentum(compose, tmp_path: Path):
    module = module_of(compose, "method", "salun")
    before = {name: p.detach().clone() for name, p in module.network.named_parameters()}
    train(module, tmp_path)
    assert module.mask is not None
    for name, parameter in module.network.named_parameters():
        kept = ~module.mask[name]
        assert torch.equal(parameter[kept], before[name][kept])
    moved = [not torch.equal(p, before[name]) for name, p in module.network.named_parameters()]
    assert any(moved)


def test_information_is_of_all_classes_also_where_images_are_sorted():
    labels = torch.arange(10).repeat(30)
    assert first_images(labels, 40).tolist() == list(range(40))
    spread = first_images(labels.sort().values, 40)
    assert labels.sort().values[spread].bincount(minlength=10).tolist() == [4] * 10
