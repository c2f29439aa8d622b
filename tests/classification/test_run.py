"""A whole run of a classifier, at a tiny size."""

import copy
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from runs import Cell, execute
from safetensors.torch import load_file

from unrelearn import tracks
from unrelearn.report import classification, classified
from unrelearn.report.figures import curves_of, recovery_figure
from unrelearn.report.page import run_page
from unrelearn.report.records import ONLY, collect
from unrelearn.report.table import results
from unrelearn.report.words import forgotten
from unrelearn.stage import make

TINY = [
    "experiment=classification",
    "model.network.widths=[4,6,8]",
    "model.pretrain.max_steps=120",
    "references.count=3",
    "unlearning.max_steps=6",
    "relearning.budgets=[0,3,6]",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture
def run(compose: Callable[..., dict], outputs: Path) -> Callable[..., dict]:
    def of(*words: str) -> dict:
        record = execute(compose(*TINY, f"paths.outputs={outputs}", *words), "test")
        assert record is not None
        return record

    return of


def metric(record: dict, row: int, name: str) -> dict:
    return record["rows"][row]["metrics"][name][ONLY]


def strongest(record: dict) -> float:
    rows = [n for n, row in enumerate(record["rows"]) if row["model"] == "attacked"]
    return max(metric(record, n, "forget_accuracy")["value"] for n in rows)


def test_a_run_measures_each_model_beside_its_references(run: Callable[..., dict], outputs: Path):
    record = run("method=random_label")
    assert [row["model"] for row in record["rows"]] == ["original", "unlearned", *["attacked"] * 2]
    assert record["kind"] == "classification" and record["forget_classes"] == []
    gap = metric(record, 1, "gap")
    assert len(gap["references"]) == 3 and gap["low"] <= gap["value"] <= gap["high"]
    after, floor = 100 * strongest(record), 1 - fmean(r["ua"] for r in gap["references"])
    assert f"at most {after:.0f} % after it" in classified.verdict(record)
    (curve,) = curves_of(record)
    assert curve.floor == pytest.approx(floor)
    (axes,) = recovery_figure([curve]).axes
    dotted = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == [pytest.approx(100 * floor)]
    # by hand: D_f is a tenth, and the numbers are those of the stored logits
    stored = load_file(outputs / record["rows"][1]["predictions"] / "logits.safetensors")
    cell = Cell(record["config"])
    data = cell.dataset.load()
    forget = cell.kind.mask(data)
    assert forget.sum() == round(0.1 * len(data.train))
    wrong = stored["train"][forget].argmax(1) != data.train.labels[forget]
    assert gap["ua"] == pytest.approx(wrong.float().mean().item())
    assert metric(record, 1, "forget_accuracy")["value"] == pytest.approx(1 - gap["ua"])
    page = outputs / "runs" / record["name"] / "report.html"
    assert "retrained" in page.read_text()


def test_nothing_is_computed_twice(run: Callable[..., dict]):
    run("method=random_label")
    again = run("method=random_label")
    assert {stage["status"] for stage in again["stages"]} == {"reused"}
    other = run("method=finetune")
    status = {stage["stage"]: stage["status"] for stage in other["stages"]}
    assert status["pretrain"] == status["references"] == "reused" != status["unlearn"]


def test_where_augmentation_is_decides_what_is_made_anew(compose: Callable[..., dict]):
    def keys(*words: str) -> dict[str, str]:
        cell = Cell(compose(*TINY, "method=salun", *words))
        return {stage.name: stage.key for stage in cell.stages()}

    plain = keys()
    changed = {
        place: {
            name for name, key in keys(f"augment.{place}=crop_flip").items() if key != plain[name]
        }
        for place in ("base", "retrain", "retain", "forget", "attack")
    }
    made = {"unlearn", "attack", "predictions", "evaluate"}
    assert changed["retrain"] == {"references", "evaluate"}
    assert changed["retain"] == changed["forget"] == made
    assert changed["attack"] == {"attack", "predictions", "evaluate"}
    assert changed["base"] == made | {"pretrain", "references"}  # retrain and retain follow base


def test_what_the_last_layer_reads_is_kept_where_it_is_asked_for(
    run: Callable[..., dict], outputs: Path
):
    words = "method=random_label", "attack=none", "eval=[forget_accuracy]"
    plain, asked = run(*words), run(*words, "predictions.features=true")
    rows = zip(plain["rows"], asked["rows"], strict=True)
    for number, (without, row) in enumerate(rows):
        assert not (outputs / without["predictions"] / "features.safetensors").exists()
        logits, features = (
            load_file(outputs / row["predictions"] / f"{name}.safetensors")
            for name in ("logits", "features")
        )
        cell = Cell(asked["config"])
        network = (cell.original, cell.unlearned)[number].stage.network().eval()
        for part, count in (("train", 1297), ("test", 500)):
            assert features[part].shape == (count, 8)
            torch.testing.assert_close(network.head(features[part]), logits[part])
        assert row["metrics"] == without["metrics"]
    reused = {stage["stage"] for stage in asked["stages"] if stage["status"] == "reused"}
    assert {"pretrain", "references", "unlearn"} <= reused


def test_a_search_and_its_table_share_no_reference(run: Callable[..., dict]):
    words = "method=random_label", "attack=none", "references.count=5", "eval=[gap]"
    whole, tuning, table = (
        run(*words, f"references.half={half}") for half in ("null", "tuning", "table")
    )
    every, ours, theirs = (metric(r, 1, "gap")["references"] for r in (whole, tuning, table))
    assert (ours, theirs) == (every[::2], every[1::2]) and len(every) == 5
    for record, count in ((whole, 5), (tuning, 3), (table, 2)):
        assert classified.cells(record)[1][-1][0] == f"{count} retrained"
    banks = [s["key"] for r in (whole, table) for s in r["stages"] if s["stage"] == "references"]
    assert banks[0] == banks[1]
    found = classification.boards(results([whole, tuning, table]))
    assert sorted(board.count for board in found) == [2, 3, 5]


def test_a_file_with_other_contents_is_another_forget_set(
    compose: Callable[..., dict], tmp_path: Path
):
    said = []
    for first in (0, 100):
        np.save(tmp_path / "i.npy", np.arange(first, first + 20))
        about = tracks.about(Cell(compose(*TINY, f"forget=file:{tmp_path / 'i.npy'}")))
        said.append(forgotten({"forget_classes": [], **about}))
    assert len(set(said)) == 2 and all("i.npy (sha256 " in each for each in said)


def test_a_forgotten_class_is_left_out_of_the_test_images(run: Callable[..., dict]):
    record = run("method=retrain", "forget=class:3", "attack=none")
    assert record["forget_classes"] == [3] and classified.verdict(record).startswith("Retrain")
    assert metric(record, 1, "test_accuracy")["n"] == 450
    assert metric(record, 1, "gap")["ua"] == 1


def test_the_table_has_the_floor_beside_every_method(run: Callable[..., dict], outputs: Path):
    for method in ("retrain", "random_label", "original"):
        run(f"method={method}")
    records = [r for r in collect([outputs / "runs"]) if r["attack"] == "relearn"]
    (board,) = classification.boards(results(records))
    lines = {line[0]: line for line in classification.lines(board)}
    assert {"retrain", "random label", "original", "3 retrained"} <= set(lines)
    header = classification.headers(board)
    assert "unseen %" not in header  # images, and no class, are forgotten
    place = header.index("gap")
    floor = board.references["gap"]
    for method in board.methods:
        mean = board.seeds.loc[method]["gap"].mean()
        assert lines[method][place].startswith("(") == (mean <= floor)
    assert lines["retrain"][header.index("relearn\nminus retrain")] == "reference"
    ratios = [board.seeds.loc[name]["normalised"].item() for name in ("original", "random label")]
    record = next(r for r in records if r["method"] == "random_label")
    gaps = [metric(record, row, "gap")["value"] for row in (0, 1)]
    assert ratios == [1.0, pytest.approx(gaps[1] / gaps[0])] and gaps[0] != gaps[1]
    curves, gaps = classification.figures(results(records), board)
    shown = [axes.get_title("left") for axes in curves[1].axes if axes.axison]
    named = {title.partition(",")[0] for title in shown}
    assert {"original", "random label"} <= named and "retrain" not in named  # it is in each
    assert gaps[0].startswith("Gap and agreement, ")
    front = classification.front(results(records), [board], [])
    images = [front.index(f'alt="{title}') for title in (curves[0], gaps[0])]
    assert images == sorted(images) and images[1] < front.index("<table")
    assert front.count("<img") == 2
    text = classification.to_csv([board])
    assert text.count("\n") == 1 + len(board.seeds) + 1
    # another attack is another column
    for method in ("retrain", "random_label"):
        record = run(f"method={method}", "attack=quantize")
        records.append(record)
    (board,) = classification.boards(results(records))
    name = classification.headers(board)[header.index("relearn\nminus retrain") + 1]
    assert name == "quantisation\nminus retrain" and board.attacks == ["relearn", "quantize"]
    assert board.records[0]["attack"] == "relearn"  # whose models before an attack are the lines'
    found = board.minus_retrain("random label", "quantize")
    expected = strongest(records[-1]) - strongest(records[-2])
    assert found is not None and found.mean == pytest.approx(expected)
    assert board.minus_retrain("original", "quantize") is None
    relearned = {r["method"]: r for r in records if r["attack"] == "relearn"}
    ours, theirs = (
        strongest(record) - (1 - metric(record, 1, "gap")["ua"])
        for record in map(relearned.__getitem__, ("random_label", "retrain"))
    )
    found = board.gained("random label")
    assert found is not None and found.mean == pytest.approx(ours - theirs)
    # another rate is the same attack
    records.append(run("method=random_label", "relearning.learning_rate=0.2"))
    (board,) = classification.boards(results(records))
    named = [r for r in records if (r["method"], r["attack"]) == ("random_label", "relearn")]
    assert len(named) == 2
    best = max(map(strongest, named))
    assert board.seeds.loc["random label"]["after_relearn"].tolist() == [pytest.approx(best)]


def test_a_table_names_augmentation_and_a_verdict_what_was_not_measured(run: Callable[..., dict]):
    record = copy.deepcopy(run("method=random_label"))
    (plain,) = classification.boards(results([record]))
    record["config"]["augment"]["base"] = "crop_flip"
    (augmented,) = classification.boards(results([record]))
    assert "augment" not in plain.title and ", augment.base=crop_flip, random:" in augmented.title
    assert " %, without it" in classified.verdict(record)
    for row in record["rows"]:
        row["metrics"].pop("forget_accuracy")
    assert "was not measured: eval has no forget_accuracy" in classified.verdict(record)


def test_a_gap_that_retraining_shows_is_in_brackets_and_grey(run: Callable[..., dict]):
    record = copy.deepcopy(run("method=random_label"))
    for row in range(len(record["rows"])):
        metric(record, row, "gap")["value"] = 1
    gap = metric(record, 1, "gap")
    for value, within in ((gap["floor"], True), (gap["floor"] + 1e-3, False)):
        gap["value"] = value
        headers, rows = classified.cells(record)
        text = f"{100 * value:.1f} [{100 * gap['low']:.1f}, {100 * gap['high']:.1f}]"
        assert rows[1][headers.index("gap")] == (f"({text})" if within else text)
        assert (f"background: {classified.GREY}" in run_page(record, Path())) == within


def test_an_interrupted_training_ends_in_the_same_weights(
    compose: Callable[..., dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from unrelearn import fit

    words = [*TINY, "method=salun", "attack=none", "trainer.checkpoint_every_n_steps=10"]
    words += ["stages=[pretrain]", "augment.base=crop_flip", "model.pretrain.max_steps=40"]

    class Stopped(Exception):
        pass

    def weights(outputs: Path) -> dict[str, torch.Tensor]:
        cell = Cell(compose(*words, f"paths.outputs={outputs}"))
        cell.complete()
        folder = cell.original.weights
        assert folder is not None
        return load_file(folder / "model.safetensors")

    whole = weights(tmp_path / "whole")
    record = fit.Recorder.record

    def stop(self: fit.Recorder, trainer: object, module: object, step: int) -> None:
        record(self, trainer, module, step)
        if step == 30:
            raise Stopped

    monkeypatch.setattr(fit.Recorder, "record", stop)
    with pytest.raises(Stopped):
        weights(tmp_path / "parts")
    monkeypatch.setattr(fit.Recorder, "record", record)
    resumed = weights(tmp_path / "parts")
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_two_forget_sets_of_images_share_no_fisher_information(
    compose: Callable[..., dict], outputs: Path
):
    cells = [
        Cell(compose(*TINY, f"paths.outputs={outputs}", "method=sfron", f"forget={forget}"))
        for forget in ("random:0.1", "random:0.2", "class:3", "class:4")
    ]
    cells[0].original.stage.build()
    names = [str(cell.task(cell.original).name_of_forgotten) for cell in cells]
    assert len(set(names)) == 4


def test_what_is_kept_costs_whoever_uses_it(compose: Callable[..., dict], tmp_path: Path):
    words = [*TINY, "method=manif_smc", "method.margin=short_retrain", "method.retrained=1"]
    made = []
    for steps in (1, 2):
        cell = Cell(compose(*words, f"paths.outputs={tmp_path}", f"unlearning.max_steps={steps}"))
        stage = cell.unlearned.stage
        make([stage])
        made.append((stage.artifact.meta["seconds"], stage.spared))
    (first, nothing), (second, spared) = made
    assert nothing == 0 < spared <= first and second > spared
