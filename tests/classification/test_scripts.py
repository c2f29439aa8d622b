"""Choosing settings of equal effort, and many models against many."""

import argparse
import copy
import csv
import importlib.util
import json
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

from unrelearn.classification import scores
from unrelearn.errors import UsageError
from unrelearn.report.records import ONLY, collect


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
    agreements = [
        record["rows"][1]["metrics"]["retrain_agreement"][ONLY]
        for record in sorted(collect([tmp_path / "runs"]), key=lambda r: r["command"])
    ]
    found = [float(row["miss_correlation"]) for row in rows]
    assert found == pytest.approx([each["miss_correlation"] for each in agreements], abs=1e-6)
    preset = yaml.safe_load((tmp_path / "tuned" / "mine" / "random_label.yaml").read_text())
    assert preset["unlearning"] == {"max_steps": int(best["settings"].split("=")[1])}
    assert preset["defaults"] == [{"override /method": "random_label"}]
    assert "random_label max_steps=" in capsys.readouterr().out
    execute(compose(*words, "forget=random:0.2"), "another problem")
    with pytest.raises(UsageError, match=r"of one problem, and these runs are of 2: .*random:0\.2"):
        choose.main([str(tmp_path / "runs"), "--out", str(out)])
    with pytest.raises(UsageError, match=r"is a folder\. Type --out .*/tuning\.csv"):
        choose.main([str(tmp_path / "runs"), "--out", str(tmp_path)])
    paired = script("paired")
    assert paired.main([str(tmp_path / "runs"), "--by", "method.nonsense", "--against", "0"]) == 2
    assert "Type one of --by method, forget, method.max_steps" in capsys.readouterr().err
    assert paired.main([str(tmp_path / "runs"), "--by", "seed", "--against", "0"]) == 2


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
    assert alike["AUC\nlow"] < alike["U-LiRA\nAUC"] < alike["AUC\nhigh"] < other["AUC\nlow"]
    assert alike["RMIA\nAUC"] == pytest.approx(0.5, abs=0.06)
    assert other["U-LiRA\nAUC"] > 0.95 and other["RMIA\nAUC"] > 0.95
    assert alike["epsilon"] < other["epsilon"] <= other["largest\nepsilon"]
    assert alike["KLoM\n95 %"] < other["KLoM\n95 %"]


def test_a_forgotten_class_is_told_from_test_images_of_its_own():
    populations = script("populations")
    known = world(np.random.default_rng(0), remembered=4)
    known["labels"][:] = 1
    expected = populations.rmia(known)
    for part in ("unlearned_test", "retrained_test"):
        known[part][:, known["test_labels"] != 1] = 0
    assert populations.rmia(known) == expected


def made_up_record(seed: int, path: str, **changes) -> dict:
    config = {"method": {"max_steps": 1}, "forget": "random:0.1", **changes}
    stages = [{"stage": "references", "key": json.dumps(config["forget"])}]
    return {"method": "salun", "seed": seed, "path": path, "config": config, "stages": stages}


def test_a_table_ends_with_what_two_halves_of_the_references_show(monkeypatch: pytest.MonkeyPatch):
    populations = script("populations")
    known = world(np.random.default_rng(0), remembered=8)
    apart = {name: known.pop(name) for name in ("unlearned", "unlearned_test")}
    monkeypatch.setattr(populations, "retrained", lambda records: known | {"forget": None})
    monkeypatch.setattr(populations, "unlearned", lambda records, forget: apart)
    method, floor = populations.lines([made_up_record(seed, "") for seed in range(16)])
    place = populations.HEADER.index("U-LiRA\nAUC")
    assert method[:3] == ["SalUn", "16", "16"] and float(method[place]) > 0.95
    assert floor[:3] == ["retrained", "8", "8"] and float(floor[place]) < 0.65
    apart = {name: models[:7] for name, models in apart.items()}
    with pytest.raises(UsageError, match=r"SalUn: 7 unlearned .* Type references.count=64"):
        populations.lines([made_up_record(0, "")])


def test_references_of_two_forget_sets_are_no_one_table(tmp_path: Path):
    populations = script("populations")
    records = [
        made_up_record(seed, str(tmp_path / forget / "result.json"), forget=forget)
        for seed, forget in enumerate(("class:3", "random:0.1"))
    ]
    with pytest.raises(UsageError) as refused:
        populations.worlds(records).__next__()
    (line,) = refused.value.problems
    assert "(forget=class:3 / forget=random:0.1)" in line
    assert line.endswith(f"Type the runs of one, such as {tmp_path / 'class:3'}")


def test_worlds_are_those_of_the_forgotten_images_of_a_run(
    compose: Callable[..., dict], tmp_path: Path
):
    """Held-out images are no training images, and what is memorised is known."""
    populations = script("populations")
    words = [*TINY, "attack=none", "method=random_label", "protocol=salun", "forget=memorised:0.1"]
    words += ["references.halves=2", "model.pretrain.max_steps=30", f"paths.outputs={tmp_path}"]
    for steps, seed in ((1, 0), (1, 1), (6, 0)):
        execute(compose(*words, f"unlearning.max_steps={steps}", f"seed={seed}"), "test")
    records = collect([tmp_path / "runs"])
    for record in records:  # as they were recorded before there were such keys
        del record["config"]["predictions"], record["config"]["references"]["half"]
    worlds = dict(populations.worlds(records))
    names = [f"random label (method.max_steps={steps})" for steps in (1, 6)]
    assert list(worlds) == [*names, "retrained"]
    assert [len(worlds[name]["unlearned"]) for name in worlds] == [2, 1, 2]
    for record in records:
        gap = record["rows"][1]["metrics"]["gap"][ONLY]
        one = worlds[names[record["config"]["method"]["max_steps"] != 1]]
        labels, tests = one["labels"], one["test_labels"]
        assert 1 - scores.accuracy(one["unlearned"][record["seed"]], labels) == pytest.approx(
            gap["ua"]
        )
        assert scores.accuracy(one["unlearned_test"][record["seed"]], tests) == pytest.approx(
            gap["ta"]
        )
        for model, expected in zip(one["retrained"], gap["references"], strict=True):
            assert 1 - scores.accuracy(model, labels) == pytest.approx(expected["ua"])
    assert np.array_equal(worlds["retrained"]["retrained"], one["retrained"][1::2])


def test_a_setting_is_compared_with_the_run_that_differs_in_nothing_else():
    paired = script("paired")

    def record(seed: int, margin: str, direction: str, agreement: float, split: int = 1) -> dict:
        metrics = {
            "retrain_agreement": {
                ONLY: {"value": agreement, "miss_correlation": None, "ceiling": {"value": 0.9}}
            },
            "gap": {ONLY: {"gap": 1 - agreement, "value": 1 - agreement, "floor": 0.02}},
        }
        return {
            "name": f"{margin}-{direction}-{split}-{seed}",
            "seed": seed,
            "method": "manif_smc",
            "config": {
                "method": {"margin": margin, "direction": direction, "k": 5},
                "references": {"count": 4},
                "validation": {"seed": split},
            },
            "rows": [{"model": "unlearned", "metrics": metrics}],
        }

    records = [record(seed, "zero", "away", 0.5 + seed / 10) for seed in range(3)]
    gains = [0.02, 0.03, 0.04]
    records += [record(s, "own", "away", 0.5 + s / 10 + gains[s]) for s in range(3)]
    records += [record(s, "own", "towards", 0.9) for s in range(3)]  # these have no partners
    records += [record(s, "own", "away", 0.9, split=2) for s in range(3)]
    columns = paired.columns_of(paired.DEFAULT)
    zero, own = paired.lines(records, "method.margin", "zero", columns)
    apart = "ManiF-SMC (method.direction=away, validation.seed=1)"
    half = stats.t.ppf(0.975, 2) * np.std([2, 3, 4], ddof=1) / 3**0.5
    ends = f"[{3 - half:.1f}, {3 + half:.1f}]*", f"[{-3 - half:.1f}, {-3 + half:.1f}]*"
    gap, agreement = ("40.0", "–", "2.0"), ("60.0", "–", "90.0")
    assert zero == [apart, "zero", *gap, *agreement, "–", "–", "–", "3"]
    gap, agreement = ("37.0", f"-3.0 {ends[1]}", "2.0"), ("63.0", f"+3.0 {ends[0]}", "90.0")
    assert own == [apart, "own", *gap, *agreement, "–", "–", "–", "3"]
    with pytest.raises(argparse.ArgumentTypeError, match=r"gpa: must be of ua, .* Type --metric"):
        paired.columns_of("gap,gpa")
    newer = copy.deepcopy(records)
    for each in newer[:3]:  # what went without saying when the others were recorded
        each["config"]["references"]["half"] = None
    assert paired.lines(newer, "method.margin", "zero", columns) == [zero, own]
    for each in records:
        each["method"] = each["config"]["method"]["margin"]  # as if they were methods
    with pytest.raises(UsageError, match="own-away-1-0 and own-towards-1-0: one setting and seed"):
        paired.lines(records, "method", "zero", columns)
    records = [r for r in records if r["config"]["method"]["direction"] == "away"]
    zero, own = paired.lines(records, "method", "zero", columns)
    assert [zero[1], own[1]] == ["zero", "own"]
    assert own[0] == "methods (validation.seed=1)"  # their own settings are not compared
    for each in records:
        each["config"]["method"]["max_steps"] = 1 + (each["method"] == "own")
    assert paired.lines(records, "method", "zero", columns) == []
