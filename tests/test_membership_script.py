"""Many denoisers against many, of made-up scores; that it reads real runs, shows
tests/evals/test_membership.py.
"""

import csv
import importlib.util
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from command import ROOT
from pandas import DataFrame

from unrelearn.audits import bounds
from unrelearn.errors import UsageError


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("membership", ROOT / "scripts" / "membership.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


membership = script()
membership.RESAMPLES = 20


def world(seed: int, models: int, known: float = 0.0) -> "membership.World":  # type: ignore[name-defined]
    """Scores of 20 forgotten and 60 held-out images, of very different difficulty."""
    rng, hard = np.random.default_rng(seed), np.random.default_rng(99).normal(0, 5, 80)
    scores = rng.normal(0, 1, (models, 80)) + hard
    return membership.World(scores[:, :20] + known, scores[:, 20:])


def audited(ours: object, theirs: object) -> dict[str, str]:
    line = membership.Line(["", "", "", ""], ours, theirs)
    return dict(zip(membership.HEADER[4:], membership.audited(line), strict=True))


def test_worlds_that_are_alike_show_nothing_and_others_all_that_so_many_can():
    alike = audited(world(0, 64), world(1, 64))
    known = audited(world(0, 64, known=4.0), world(1, 64))
    assert float(known["strangers\nAUC"]) == pytest.approx(0.5, abs=0.05)
    assert float(alike["AUC\nlow"]) < 0.55 and float(alike["AUC\nhigh"]) > 0.45
    assert float(alike["records\nAUC"]) == pytest.approx(0.5, abs=0.05)
    assert alike["epsilon"] == "0.00" and known["epsilon"] == known["largest\nepsilon"]
    assert float(known["records\nAUC"]) > 0.95 and float(known["models\nAUC"]) == 1
    assert known["largest\nepsilon"] == f"{bounds.epsilon(bounds.Counts(0, 16, 0, 16)):.2f}"
    assert float(known["AUC\nalone"]) > float(known["retrain's\nalone"]) + 0.1


def test_what_is_changed_of_all_images_shows_of_strangers_too():
    ours, theirs = world(0, 64), world(1, 64)
    found = audited(membership.World(ours.forget - 4, ours.held_out - 4), theirs)
    assert min(float(found["records\nAUC"]), float(found["strangers\nAUC"])) > 0.95


def test_a_record_less_likely_than_under_retraining_is_told_as_well():
    found = audited(world(0, 64, known=-4.0), world(1, 64))
    assert float(found["records\nAUC"]) > 0.95 and found["epsilon"] == found["largest\nepsilon"]
    assert float(found["AUC\nalone"]) < float(found["retrain's\nalone"]) - 0.1


def test_few_models_claim_no_epsilon_and_very_few_nothing():
    few = audited(world(0, 16, known=4.0), world(1, 16))
    assert few["epsilon"] == "–" and float(few["largest\nepsilon"]) < 1
    assert float(few["records\nAUC"]) > 0.9
    least = audited(world(0, 3, known=4.0), world(1, 3))
    assert set(list(least.values())[6:]) == {"–"} and least["models"] == "3"
    assert float(least["alone\n±"]) > 0 and audited(world(0, 1), world(1, 3))["alone\n±"] == "–"


def test_the_retrained_models_are_not_compared_with_themselves():
    same = world(0, 16)
    assert audited(same, membership.World(*same))["records\nAUC"] == "–"
    assert audited(same.half(0), same.half(1))["records\nAUC"] != "–"


def test_held_out_images_are_those_of_forgotten_classes():
    file = {
        "forget/loss": np.array([1.0, 2.0]),
        "forget/labels": np.array([3, 3]),
        "held_out/loss": np.array([5.0, 6.0, 7.0]),
        "held_out/labels": np.array([3, 4, 3]),
    }
    found = membership.world([file, file], "loss")
    assert found.forget.shape == (2, 2) and found.held_out.tolist() == [[5, 7], [5, 7]]


def test_relearned_models_are_told_from_retrained_ones_that_were_relearned(monkeypatch):
    """Each file is its name here, and each model's score the number in it."""

    def run(method: str, seed: int) -> dict:
        rows = [
            {"model": "unlearned", "step": None, "records": f"{method} {seed}"},
            {"model": "attacked", "step": 5, "records": f"{method} {seed} relearned"},
        ]
        known = {"status": "finished", "retrained": f"never {seed}"}
        record = {"method": method, "attack_unit": "steps", "rows": [row | known for row in rows]}
        record["config"] = {"eval": {"membership": {"scores": ["loss"]}}}
        labels = {"forgotten": "x", "table": "t", "method_label": method, "attack_label": "A"}
        return {"seed": seed, "record": record, **labels}

    runs = [run(method, seed) for method in ("siss", "retrain") for seed in (1, 0)]
    table = SimpleNamespace(runs=DataFrame(runs))
    monkeypatch.setattr(membership, "results", lambda records: table)
    monkeypatch.setattr(membership, "read", lambda record, row, name="records": row[name])
    monkeypatch.setattr(membership, "world", lambda files, score: membership.World(files, files))
    found = {tuple(line.words[1:3]): line for line in membership.lines([runs[0]["record"]])}
    attack = "attacked @ 5 by A"
    assert found["siss", "unlearned"].ours.forget == ["siss 0", "siss 1"]
    assert found["siss", "unlearned"].retrained.forget == ["never 0", "never 1"]
    assert found["siss", attack].retrained.forget == ["retrain 0 relearned", "retrain 1 relearned"]
    assert found["retrained", "retrained"].retrained.forget == ["never 1"]
    assert found["retrained", attack].ours.forget == ["retrain 0 relearned"]


def test_the_picture_has_a_point_for_each_model_of_a_method_and_the_floor():
    def row(method: str, model: str, *auc: str) -> list[str]:
        known = {"method": method, "model": model, "score": "loss"}
        names = (membership.AUC, "AUC\nlow", "AUC\nhigh", membership.STRANGERS)
        known |= dict(zip(names, [*auc, "–" if auc[0] == "–" else "0.52"], strict=True))
        return [known.get(name, "–") for name in membership.HEADER]

    rows = [
        row("original", "original", "0.8", "0.7", "0.9"),
        row("SISS", "unlearned", "0.6", "0.5", "0.7"),
        row("SISS", "attacked @ 5 by A", "0.55", "0.5", "0.6"),
        row("retrain", "unlearned", "–", "–", "–"),
        row("retrained", "retrained", "0.5", "0.45", "0.55"),
    ]
    (axes,) = membership.picture(rows).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["original", "SISS"]
    drawn = {bars.get_label(): bars.lines[0].get_xdata()[0] for bars in axes.containers}
    assert drawn == {"original": 0.8, "unlearned": 0.6, "attacked @ 5 by A": 0.55}
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [0.52] * 3
    (band,) = axes.patches
    assert (band.get_x(), band.get_width()) == (0.45, pytest.approx(0.1))


def test_a_file_is_no_folder_to_write_in(tmp_path):
    (tmp_path / "table.md").write_text("mine")
    with pytest.raises(UsageError, match=r"--out .*table.md: is a file. Type --out FOLDER"):
        membership.main([str(tmp_path), "--out", str(tmp_path / "table.md")])


def test_a_folder_without_scores_says_what_to_type(tmp_path):
    with pytest.raises(UsageError, match=r"no run with scores.*held_out.share=0.5"):
        membership.main([str(tmp_path)])


def test_the_table_of_the_page_has_the_numbers_of_the_files():
    page = ROOT / "docs" / "results" / "membership.md"
    with open(page.with_suffix("") / "membership.csv", newline="") as file:
        written = [row for row in csv.DictReader(file) if row["score"] == "loss"]
    by_model = {(row["method"], row["model"]): row for row in written}
    attack = next(model for _, model in by_model if " by " in model)
    rows = [
        line.strip("| ").split(" | ") for line in page.read_text().splitlines() if "± 0." in line
    ]
    rows = [row for row in rows if len(row) == 9 and row[0] != "retrain"]
    assert len(rows) == 9
    for method, *cells in rows:
        before = by_model[method, "original" if method == "original" else "unlearned"]
        for row, shown in zip((before, by_model[method, attack]), (cells, cells[3:]), strict=True):
            told = f"{row['records AUC']} [{row['AUC low']}, {row['AUC high']}]"
            alone = f"{row['AUC alone']} ± {row['alone ±']}"
            assert shown[:3] == [alone, told, row["strangers AUC"]], method
