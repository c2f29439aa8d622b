"""Equal effort: rates of designs' own, and how they are chosen."""

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from command import ROOT
from runs import Cell, execute

from unrelearn.errors import UsageError
from unrelearn.report.records import ONLY
from unrelearn.stages.federated import kind_of
from unrelearn.tracks import vflgan

TINY = [
    "experiment=vflgan",
    "dataset=gauss_pair",
    "dataset.records=200",
    "model.pretrain.max_steps=60",
    "gan.replicas=2",
    "design=[vflgan,local]",
    "seed=100",
]
RATES, WEIGHTS = (1e-5, 1e-2), (1.0, 10.0)


@pytest.fixture(scope="module")
def choose() -> ModuleType:
    file = ROOT / "scripts" / "choose_tables.py"
    spec = importlib.util.spec_from_file_location("choose_tables", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(record: dict) -> dict[str, dict]:
    return {row["model"]: row for row in record["rows"]}


def test_the_setting_with_the_least_distance_is_chosen_and_trained_with(
    compose: Callable[..., dict], tmp_path: Path, choose: ModuleType, monkeypatch
):
    monkeypatch.setattr(choose, "PRESETS", tmp_path / "conf" / "tuned")
    words = [*TINY, f"paths.outputs={tmp_path}", "eval=[fd_raw,cross_dependence]"]
    trials = {}
    for rate in RATES:
        for weight in WEIGHTS:
            given = [f"model.pretrain.learning_rate={rate}", f"model.gan.penalty_weight={weight}"]
            record = execute(compose(*words, *given), f"test {rate} {weight}")
            assert record is not None
            trials[rate, weight] = rows_of(record)
    out = tmp_path / "mine" / "tuning.csv"
    assert choose.main([str(tmp_path / "runs"), "--out", str(out), "--write"]) == 0
    listed = list(csv.DictReader(out.open()))
    assert len(listed) == 2 * len(trials)
    preset = yaml.safe_load((tmp_path / "conf/tuned/mine/gauss_pair.yaml").read_text())
    best = {}
    for design in ("vflgan", "local"):
        distances = {
            given: rows[design]["metrics"]["fd_raw"][ONLY]["value"]
            for given, rows in trials.items()
        }
        best[design] = min(distances, key=lambda given: distances[given])
        assert tuple(preset["gan"]["design"][design].values()) == best[design]
        (line,) = [row for row in listed if row["design"] == design and row["chosen"]]
        assert float(line["fd_raw"]) == pytest.approx(min(distances.values()), abs=1e-6)
    preset_of = ["hydra.searchpath=[file://" + str(tmp_path / "conf") + "]"]
    preset_of += ["+tuned=mine/gauss_pair"]
    record = execute(compose(*words, *preset_of), "test tuned")
    assert record is not None
    for design, given in best.items():  # the very weights of that trial
        assert rows_of(record)[design]["weights"] == trials[given][design]["weights"]
    alone = compose(*words, *preset_of, "design=[vflgan]")
    assert list(alone["gan"]["design"]) == ["vflgan"]
    # that run adds no setting
    assert choose.main([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert len(list(csv.DictReader(out.open()))) == len(listed)
    for more, why in {
        "gan.design.local.learning_rate=0.1": "only one of .* was tried with it",
        "gan.replicas=3": "of one problem, and these runs are of 2: .*replicas=3",
    }.items():
        execute(compose(*words, more), "another")
        with pytest.raises(UsageError, match=why):
            choose.main([str(tmp_path / "runs"), "--out", str(out)])


def test_a_setting_that_broke_a_replica_is_not_chosen(choose: ModuleType):
    def record(rate: float, distance: float, diverged: int) -> dict:
        config = {
            "model": {"pretrain": {"learning_rate": rate}, "gan": {"penalty_weight": 1.0}},
            "gan": {"design": {"local": {}}},
        }
        metrics = {"fd_raw": {ONLY: {"value": distance}}}
        row = {"model": "local", "diverged": diverged, "metrics": metrics}
        known = {"name": str(rate), "seed": 100, "status": "finished", "created": ""}
        return {**known, "config": config, "rows": [row]}

    records = [record(0.1, 1.0, 1), record(0.2, 2.0, 0), record(0.3, 3.0, 0)]
    trials = choose.by_setting(records, lambda each: choose.setting(each, "local"))
    best = choose.chosen.choice(trials, lambda each: choose.distance(each, "local"))
    assert best == (("learning_rate", 0.2), ("penalty_weight", 1.0))
    with pytest.raises(UsageError, match=r"0\.1: has no vflgan without privacy"):
        choose.row_of(records[0], "vflgan")


def test_a_design_has_its_own_rate_and_weight_and_others_the_models(compose: Callable[..., dict]):
    own = ["gan.design.local.learning_rate=0.5", "gan.design.local.penalty_weight=3"]
    run = Cell(compose(*TINY, *own))
    shared, local = vflgan.models(run)
    for stage, rate, weight in ((shared, 5e-4, 10), (local, 0.5, 3)):
        settings = kind_of(run).settings(stage.design, 2)
        assert (settings.learning_rate, settings.shape.penalty_weight) == (rate, weight)
    keys = [stage.key for stage in vflgan.models(Cell(compose(*TINY)))]
    assert shared.key == keys[0] and local.key != keys[1]


def test_what_is_typed_of_a_design_that_is_not_run_is_refused(complaint: Callable[..., list[str]]):
    preset = ["experiment=vflgan", "design=[vflgan]", "+tuned=vflgan/digits_halves"]
    word = "gan.design.local.learning_rate=0.1"
    (line,) = complaint(*preset, word, "dry_run=true")
    assert line.startswith(f"error: {word}: this run has no design local. Add it to design=[...]")


def test_a_folder_for_a_file_is_refused_with_what_a_shell_reads(choose: ModuleType, tmp_path: Path):
    (folder := tmp_path / "my choice").mkdir()
    with pytest.raises(UsageError, match=rf"Type --out '{folder}/tuning\.csv'$"):
        choose.chosen.options(["runs", "--out", str(folder)], None, choose.chosen.CONF / "x.csv")
