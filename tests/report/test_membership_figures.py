"""What the page of a run shows of membership."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from unrelearn.audits import bounds
from unrelearn.report import drawing, membership


def scores(folder: Path, shift: float) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    file = {
        "forget/loss": rng.normal(shift, 1, 30),
        "forget/labels": np.zeros(30),
        "held_out/loss": rng.normal(0, 1, 80),
        "held_out/labels": np.repeat([0, 1], 40),
    }
    save_file(file, folder / "scores.safetensors")


def record(*models: str) -> dict:
    measured = {"membership": {"1.0": {"scores": ["loss"], "loss": {"value": 0.9}}}}
    rows = [
        {"model": m, "step": None, "records": m, "retrained": "again", "metrics": measured}
        for m in models
    ]
    return {"rows": rows, "method": "siss", "attack": "none"}


def test_roc_is_a_staircase_whose_area_is_the_auc():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 50), rng.normal(0, 1, 70)
    fpr, tpr = membership.roc(inside, outside)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(fpr) >= 0) and np.all(np.diff(tpr) >= 0)
    assert np.trapezoid(tpr, fpr) == pytest.approx(bounds.auc(inside, outside))


def test_figures_show_every_model_whose_scores_are_on_this_disk(tmp_path: Path):
    for name, shift in (("original", 2.0), ("unlearned", 0.5), ("again", 0.0)):
        scores(tmp_path / name, shift)
    name, models = membership.told(record("original", "unlearned", "attacked"), tmp_path)
    assert name == "loss"
    assert [each.label for each in models] == ["original", "unlearned", "retrain"]
    assert all(len(each.held_out) == 40 for each in models)  # of the forgotten class
    labels = [
        text.get_text()
        for axes in membership.histograms(models, name, "scores").axes
        for text in axes.texts
    ]
    assert labels == ["original", "unlearned", "retrain"]
    words = "held out", "forgotten", "ROC"
    figure = membership.roc_figure(models, *words)
    assert drawing.svg(figure) == drawing.svg(membership.roc_figure(models, *words))
    (axes,) = figure.axes
    assert axes.get_xscale() == axes.get_yscale() == "log" and axes.get_xlim()[0] == 0.5 / 40
    assert "10 %" in [text.get_text() for text in axes.get_xticklabels()]


def test_a_run_without_membership_has_no_such_figure(tmp_path: Path):
    rows = [{"model": "original", "step": None, "metrics": {}}]
    assert membership.told({"rows": rows, "method": "original", "attack": "none"}, tmp_path) == (
        "",
        [],
    )
