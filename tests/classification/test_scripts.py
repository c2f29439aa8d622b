"""Choosing settings of equal effort, and many models against many."""

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from command import ROOT
from runs import execute
from scipy import stats
from test_run import TINY

from unrelearn.report.records import ONLY


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_setting_nearest_to_retraining_is_chosen(
    compose: Callable[..., dict], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    choose = script("choose")
    monkeypatch.setattr(choose, "PRESETS", tmp_path / "tuned")
    words = [*TINY, f"paths.outputs={tmp_path}", "attack=none", "method=random_label"]
    for steps in (1, 40):
        execute(compose(*words, f"unlearning.max_steps={steps}"), f"test {steps}")
    out = tmp_path / "mine" / "trials.csv"
    assert choose.main([str(tmp_path / "runs"), "--out", str(out), "--write"]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [row["settings"] for row in rows] == ["max_steps=1", "max_steps=40"]
    best = min(rows, key=lambda row: float(row["gap"]))
    assert [row["chosen"] for row in rows] == ["yes" if row is best else "" for row in rows]
    preset = yaml.safe_load((tmp_path / "tuned" / "mine" / "random_label.yaml").read_text())
    assert preset["unlearning"] == {"max_steps": int(best["settings"].split("=")[1])}
    assert preset["defaults"] == [{"override /method": "random_label"}]
    assert "random_label max_steps=" in capsys.readouterr().out


def test_a_preset_gives_a_method_its_own_rate(compose: Callable[..., dict]):
    """`unlearning.learning_rate` is not read by a method whose yaml has a rate of its own."""
    choose = script("choose")
    setting = (("learning_rate", 0.0025), ("max_steps", 6))
    for method, key in (("manif_smc", "method"), ("salun", "unlearning")):
        config = compose(*TINY, f"method={method}")
        preset = yaml.safe_load(
            choose.preset({"method": method, "config": config}, setting, "mine")
        )
        assert preset[key]["learning_rate"] == 0.0025 and preset["unlearning"]["max_steps"] == 6


def world(rng: np.random.Generator, *, remembered: float) -> dict[str, np.ndarray]:
    """Logits of 16 models of each world for 40 forgotten and 200 test images, drawn alike but for
    what unlearned models remember.
    """
    labels, test_labels = rng.integers(0, 3, 40), rng.integers(0, 3, 200)

    def logits(n: np.ndarray) -> np.ndarray:
        return rng.normal(size=(16, len(n), 3))

    unlearned = logits(labels)
    unlearned[:, np.arange(40), labels] += remembered
    return {
        "unlearned": unlearned,
        "retrained": logits(labels),
        "unlearned_test": logits(test_labels),
        "retrained_test": logits(test_labels),
        "labels": labels,
        "test_labels": test_labels,
    }


def test_populations_that_are_alike_show_nothing_and_others_all():
    populations = script("populations")
    rng = np.random.default_rng(0)
    alike = dict(
        zip(populations.HEADER[3:], populations.audited(world(rng, remembered=0)), strict=True)
    )
    other = dict(
        zip(populations.HEADER[3:], populations.audited(world(rng, remembered=8)), strict=True)
    )
    assert alike["U-LiRA\nAUC"] == pytest.approx(0.5, abs=0.06)
    assert alike["RMIA\nAUC"] == pytest.approx(0.5, abs=0.06)
    assert other["U-LiRA\nAUC"] > 0.95 and other["RMIA\nAUC"] > 0.95
    assert alike["epsilon"] < other["epsilon"] <= other["largest\nepsilon"]
    assert alike["KLoM\n95 %"] < other["KLoM\n95 %"]


def test_a_setting_is_compared_with_the_run_that_differs_in_nothing_else():
    paired = script("paired")

    def record(seed: int, margin: str, direction: str, agreement: float) -> dict:
        metrics = {"retrain_agreement": {ONLY: {"value": agreement}}}
        return {
            "seed": seed,
            "config": {"method": {"margin": margin, "direction": direction, "k": 5}},
            "rows": [{"model": "unlearned", "metrics": metrics}],
        }

    records = [record(seed, "zero", "away", 0.5 + seed / 10) for seed in range(3)]
    gains = [0.02, 0.03, 0.04]
    records += [record(s, "own", "away", 0.5 + s / 10 + gains[s]) for s in range(3)]
    records += [record(s, "own", "towards", 0.9) for s in range(3)]  # has no partner
    ((apart, value, ours, theirs, difference, seeds),) = paired.lines(
        records, "method.margin", "zero", "retrain_agreement"
    )
    assert (apart, value, seeds) == ("method.direction=away", "own", "3")
    assert (ours, theirs) == ("63.0", "60.0")
    half = stats.t.ppf(0.975, 2) * np.std([2, 3, 4], ddof=1) / 3**0.5
    assert difference == f"+3.0 [{3 - half:.1f}, {3 + half:.1f}]\\*"
