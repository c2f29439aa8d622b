"""results.csv: a line for each measurement, and the example of docs/read-results.md."""

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
from command import ROOT
from made_up import make_record, many, with_levels, without_rows, write_run

from unrelearn.report.table import results

PAGE = (ROOT / "docs" / "read-results.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("read")
    for method in ("dimum", "salun"):
        for seed in (0, 1):
            write_run(folder / "outputs", make_record(method=method, seed=seed))
    main = runpy.run_path(str(ROOT / "scripts" / "report.py"))["main"]
    assert main([str(folder / "outputs"), "--out", str(folder / "outputs/report/compare")]) == 0
    return folder


def test_the_example_makes_its_figure(folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    made: dict = {}
    exec(code, made)
    assert (folder / "recovery.png").stat().st_size > 1000
    assert made["means"]["dimra", 400, "dimum"] == pytest.approx(0.124)


def test_every_column_is_explained_and_every_measurement_has_a_line(folder: Path):
    table = pd.read_csv(folder / "outputs" / "report" / "compare" / "results.csv")
    named = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)[2:]
    assert set(re.findall(r"`(\w+)`", " ".join(named))) == set(table.columns)
    line = table.query(
        "run.str.contains('salun') and seed == 1 and model == 'unlearned'"
        " and measurement == 'agreement_held_out_forget_accuracy'"
    )
    assert line[["value", "n", "guidance"]].values.tolist() == [[0.012, 500, 1.0]]
    assert len(table.query("measurement == 'forget_accuracy'")) == 4 * 7 * 2
    assert not table.duplicated(["run", "model", "step", "measurement", "guidance"]).any()


def test_levels_diverged_models_and_admissibility_are_in_the_table():
    bits = with_levels(make_record(attack="quantize"), "bits", {8: 0.5, 4: 0.1})
    broke = make_record(seed=1)
    broke["rows"][-1]["metrics"]["retain_accuracy"]["1.0"]["value"] = 0.5
    lost = make_record(seed=2)
    lost["rows"][-1].update(status="diverged", metrics={}, samples=None)
    tidy = results([bits, broke, lost, without_rows(make_record(seed=3), 1)]).tidy
    forget = tidy[(tidy["measurement"] == "forget_accuracy") & (tidy["model"] == "attacked")]
    assert forget[forget["attack"] == "quantize"]["step"].tolist() == [8, 8, 4, 4]
    last = forget[(forget["seed"] == 1) & (forget["attack"] == "dimra") & forget["last"]]
    assert last["admissible"].tolist() == [False, False]
    gone = forget[forget["model_status"] == "diverged"]
    assert gone["step"].tolist() == [400] and gone["value"].isna().all()
    assert not (forget["seed"] == 3).any()


def test_the_table_of_no_record_is_empty_and_of_many_is_whole():
    assert results([]).tidy.empty
    made = results(many())
    assert set(made.tidy["run"]) == {record["name"] for record in made.records}
