"""Audits of published tables: worlds, attacks and verdicts, at a tiny size; bad input."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command import ROOT
from runs import Cell, execute

from unrelearn.audits import bounds, scores
from unrelearn.gan.federation import Federation
from unrelearn.report import worlds
from unrelearn.report.page import run_page
from unrelearn.stages.worlds import Audit, World
from unrelearn.tracks import vflgan

TINY = [
    "experiment=vflgan",
    "dataset=gauss_pair",
    "dataset.records=60",
    "design=vflgan",
    "model.pretrain.max_steps=10",
    "trainer.log_every_n_steps=1",
    "gan.replicas=1",
    "eval=[cross_dependence]",
    "audit=published",
    "gan.audit.replicas=8",
]
ATTACKS = ["forest", "logistic", "nearest record", "density ratio"]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "TREES", 20)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audits")


def audit(compose: Callable, outputs: Path, *words: str) -> Audit:
    (one,) = vflgan.audits(Cell(compose(*TINY, f"paths.outputs={outputs}", *words)))
    return one


# --------------------------------------------------------------------------------------- the stages


def test_a_run_is_audited_beside_a_null_game_and_shown(
    compose: Callable, outputs: Path, capfd: pytest.CaptureFixture
):
    words = [*TINY, f"paths.outputs={outputs}"]
    record = execute(compose(*words), "test")
    assert "train vflgan without median: " in capfd.readouterr().out
    (audited,) = record["audits"]
    verdicts = audited["verdicts"]
    assert [v["target"] for v in verdicts[::4]] == ["outlier", "median", "null"]
    assert [v["attack"] for v in verdicts] == ATTACKS * 3
    for one in verdicts:
        assert 0 <= one["auc_low"] <= one["auc"] <= one["auc_high"] <= 1
        assert one["replicas"] == 8 and one["epsilon"] is None  # too few to claim one
        counted = bounds.epsilon(bounds.Counts(0, one["num_out"], 0, one["num_in"]))
        assert one["epsilon_ceiling"] == counted
    headers, lines = worlds.cells(record)
    assert len(lines) == 12 and all(len(line) == len(headers) for line in lines)
    page = run_page(record, outputs)
    assert "Was this record in it?" in page and "null game" in page
    assert page.count("worlds by") == 2  # histograms and ROC
    (sentence,) = worlds.sentences(record)
    assert "too few to claim an epsilon, at most 0.16 could have been" in sentence
    script = runpy.run_path(str(ROOT / "scripts" / "report.py"))
    path = outputs / "runs" / record["name"] / "result.json"
    file, *pictures = script["write_published"](
        [record | {"path": path}], outputs / "report", figures=True
    )
    assert file.read_text().count("| null game") == 4
    stems = {f"{file.stem}-{name}" for name in ("dependence", "worlds-1", "worlds-2")}
    assert {picture.stem for picture in pictures} == stems
    assert len(pictures) == 6 and all(picture.stat().st_size > 5_000 for picture in pictures)
    # what is there is not made again, and without an audit the run is another
    assert execute(compose(*words), "test")["created"] == record["created"]
    plain = execute(compose(*words[:-3], words[-1]), "test")
    assert plain["audits"] == [] and plain["name"] != record["name"]


def test_worlds_differ_in_the_target_and_publish_as_many_rows(compose: Callable, outputs: Path):
    for target, (inside, outside) in audit(compose, outputs).games.items():
        whole, lacking = (t.generators.columns for t in (inside, outside))
        lost = outside.generators.columns.row()
        rows = whole.rows()["train"]
        assert isinstance(lacking, World)
        if target != "null":
            kept = np.delete(rows.numpy(), lost, 0)
            assert (lacking.rows()["train"].numpy() == kept).all()
            assert outside.generators.training.records == len(rows) - 1
        assert len(inside.finite()[0]) == len(outside.finite()[0]) == 60
        assert not {*inside.generators.seeds} & {*outside.generators.seeds}


def test_a_replaced_record_leaves_worlds_of_one_size(compose: Callable, outputs: Path):
    one = audit(compose, outputs, "gan.audit.change=replace", "gan.audit.targets=[3]")
    inside, outside = (t.generators.columns.rows()["train"].numpy() for t in one.games["3"])
    assert len(inside) == len(outside) == 59 and (inside != outside).any(1).sum() == 1


def test_an_interrupted_audit_ends_as_an_uninterrupted_one(
    compose: Callable, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = "trainer.checkpoint_every_n_steps=4", "gan.audit.targets=[outlier]"
    train, trainings = Federation.train, []

    def stopped(self: Federation, until: int, each: Callable[[int], None]) -> None:
        trainings.append(until)
        train(self, 6 if len(trainings) == 2 else until, each)
        if len(trainings) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Federation, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        for parent in audit(compose, tmp_path, *words).parents():
            parent.build()
    again = audit(compose, tmp_path, *words).build()
    assert len(trainings) == 4  # the first was kept, the second went on
    whole = audit(compose, outputs, *words).build()
    for name in ("verdicts.json", "scores.safetensors"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_diverged_replicas_are_left_out(compose: Callable, tmp_path: Path, monkeypatch):
    publish = Federation.publish

    def broken(self: Federation, records: int) -> list:
        parts = publish(self, records)
        parts[0][0] = float("nan")
        return parts

    monkeypatch.setattr(Federation, "publish", broken)
    for replicas, played in ((9, True), (8, False)):
        found = verdicts(audit(compose, tmp_path, f"gan.audit.replicas={replicas}"))
        assert {v["replicas"] for v in found} == {replicas - 1}
        assert ("auc" in found[0]) == played
        record = {"audits": [{"model": "vflgan", "verdicts": found}]}
        assert ("replicas diverged" in worlds.sentences(record)[0]) != played
        assert len(worlds.cells(record)[1][0]) == len(worlds.HEADERS)


def verdicts(one: Audit) -> list[dict]:
    return json.loads((one.build().path / "verdicts.json").read_text())


def test_a_generator_that_publishes_its_rows_shows_all_that_so_many_replicas_can(
    compose: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def memorised(self: Federation, records: int) -> list[torch.Tensor]:
        """Each replica two thirds of its rows, the farthest among them."""
        rows = torch.cat([party.data for party in self.parties.values()], 1)
        far = rows.square().sum(1).argmax()
        drawn = self.draws.uniform("memorised", 0, len(rows)).argsort(1)[:, : records * 2 // 3]
        drawn[:, 0] = far
        tables = rows[drawn]
        return list(tables.split([party.data.shape[1] for party in self.parties.values()], 2))

    monkeypatch.setattr(Federation, "publish", memorised)
    one = audit(compose, tmp_path, "gan.audit.replicas=64", "gan.audit.targets=[outlier]")
    found = {(v["target"], v["attack"]): v for v in verdicts(one)}
    perfect = found["outlier", "nearest record"]
    assert perfect["auc"] == 1.0 and perfect["num_in"] == 48
    ceiling = bounds.epsilon(bounds.Counts(0, 48, 0, 48))
    assert perfect["epsilon"] == perfect["epsilon_ceiling"] == ceiling
    assert perfect["epsilon_gaussian"] == perfect["epsilon_gaussian_ceiling"] > 10
    for attack in ATTACKS:
        assert 0.4 <= found["null", attack]["auc"] <= 0.6 and found["null", attack]["epsilon"] == 0


def test_the_null_game_of_64_trained_replicas_shows_nothing(compose: Callable, outputs: Path):
    one = audit(compose, outputs, "gan.audit.replicas=64", "gan.audit.targets=[outlier]")
    null = [v for v in verdicts(one) if v["target"] == "null"]
    for v in null:
        assert 0.4 <= v["auc"] <= 0.6, v["attack"]
        assert v["auc_low"] <= 0.5 <= v["auc_high"] and v["epsilon"] == 0.0


# --------------------------------------------------------------------------------------- bad input

BAD = {
    "gan.audit.targets=[200]": ["gan.audit.targets=200: ", "a row from 0 to 59"],
    "gan.audit.targets=[tallest]": ["gan.audit.targets=tallest: ", "outlier, median, duplicate"],
    "gan.audit.targets=[1,1]": ["gan.audit.targets=[1, 1]: ", "each once"],
    "gan.audit.targets=outlier": [
        "gan.audit.targets=outlier: ",
        "gan.audit.targets=[outlier,median]",
    ],
    "gan.audit.targets=[duplicate]": ["gan.audit.targets=duplicate: ", "no record is in the table"],
    "gan.audit.replicas=7": ["gan.audit.replicas=7: ", "at least 8"],
    "gan.audit.change=add": ["gan.audit.change=add: ", "remove, replace"],
    "gan.protected=local": ["gan.protected=local: ", "must be one of design=vflgan"],
    "audit=unpublished": ["audit", "unpublished", "published"],
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line(words: str, complaint: Callable[..., list[str]]):
    (line,) = complaint(*TINY, *words.split())
    for part in BAD[words]:
        assert part in line


def test_a_target_with_a_twin_is_refused_but_as_the_control(
    complaint: Callable[..., list[str]], compose: Callable, tmp_path: Path
):
    rows = ["a,b", *[f"{i},{i % 5}" for i in range(20)] * 3]
    (tmp_path / "table.csv").write_text("\n".join([*rows, "90,1", "95,2"]) + "\n")
    table = ["dataset=table", f"dataset.root={tmp_path / 'table.csv'}", "gan.statistics=own"]
    table += ["dataset.test_share=0.02"]
    tiny = [word for word in TINY if not word.startswith("dataset")]
    (line,) = complaint(*tiny, *table, "gan.audit.targets=[0]")
    assert line.startswith("error: gan.audit.targets=0: row ") and "is its twin" in line
    assert "gan.audit.targets=[outlier]" in line
    (one,) = vflgan.audits(Cell(compose(*tiny, *table, f"paths.outputs={tmp_path}")))
    assert list(one.games) == ["outlier", "median", "duplicate", "null"]
    inside, outside = (t.generators.columns.rows()["train"] for t in one.games["duplicate"])
    twin = inside[one.games["duplicate"][1].generators.columns.row()]
    assert (outside == twin).all(1).sum() == (inside == twin).all(1).sum() - 1 >= 1


def test_a_record_is_replaced_by_another_that_has_no_twin(
    complaint: Callable[..., list[str]], tmp_path: Path
):
    rows = ["a,b", *["1,2", "3,4"] * 20, "5,6"]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    tiny = [word for word in TINY if not word.startswith("dataset")]
    tiny += ["dataset=table", f"dataset.root={tmp_path / 'table.csv'}", "gan.statistics=own"]
    (line,) = complaint(*tiny, "dataset.test_share=0.1", "gan.audit.change=replace")
    assert line.startswith("error: gan.audit.change=replace: ") and line.endswith("change=remove")


def test_other_kinds_of_model_publish_no_tables(complaint: Callable[..., list[str]]):
    (line,) = complaint("audit=published")
    assert (
        line.startswith("error: audit=published: reads published tables") and "experiment=" in line
    )
