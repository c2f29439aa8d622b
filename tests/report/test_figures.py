"""Figures of records and of groups."""

import numpy as np
import pytest
from made_up import make_record, wilson, with_levels, write_run

from unrelearn.report import comparison, figures, samples
from unrelearn.report.table import results


def test_sample_columns_are_the_same_images_in_every_row(tmp_path):
    record = make_record()
    write_run(tmp_path, record, samples=True)
    strips = samples.sample_strips(record, tmp_path, "retain", "1.0")
    assert [strip.label for strip in strips] == ["original", "unlearned", "attacked @ 400"]
    assert len({strip.names for strip in strips}) == 1
    assert set(strips[0].names) == set("012345689") and list(strips[0].names) == sorted(
        strips[0].names
    )
    forget = samples.sample_strips(record, tmp_path, "forget", "1.0")[0]
    stored = samples.load_samples(tmp_path / record["rows"][0]["samples"] / "samples.safetensors")[
        "forget/1.0"
    ]
    assert (forget.images == stored[:12].transpose(0, 2, 3, 1)).all()


def test_tiles_enlarge_pixels_to_squares():
    images = np.arange(2 * 2 * 2 * 1, dtype=np.uint8).reshape(2, 2, 2, 1)
    picture = samples.tiles(images, size=4, gap=1)
    assert picture.shape == (4, 9, 3)
    assert (picture[:, 4] == 255).all()
    assert (picture[:2, :2] == 0).all() and (picture[2:, 7:] == 7).all()


def test_every_budget_and_the_original_are_in_the_recovery_figure():
    axes = figures.recovery_figure(figures.curves_of(make_record())).axes[0]
    assert axes.get_xticks().tolist() == [400, 200, 100, 50, 25, 0]
    dashed = [
        line.get_ydata()[0]
        for line in axes.lines
        if line.get_linestyle() == "--" and len(line.get_ydata())
    ]
    assert sorted(dashed) == pytest.approx([48.5, 97.0])


@pytest.mark.parametrize(
    "levels, ticks",
    [
        ({8: 0.5, 4: 0.1}, ["unlearned", "8", "4"]),
        ({0.0: 0.02, 0.25: 0.1, 1.0: 0.9}, ["unlearned", "0", "0.25", "1"]),
    ],
)
def test_levels_are_evenly_spaced_in_their_order_and_named_with_their_unit(levels, ticks):
    record = with_levels(make_record(attack="quantize"), "bits", levels)
    axes = figures.recovery_figure(figures.curves_of(record)).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ticks
    assert axes.lines[0].get_ydata() == pytest.approx(
        [1.2, *(100 * value for value in levels.values())]
    )
    assert axes.get_xlabel() == "attack level (bits)"
    assert (
        "optimiser steps"
        in figures.recovery_figure(figures.curves_of(make_record())).axes[0].get_xlabel()
    )


def test_curves_that_lack_a_level_keep_the_others_in_their_order():
    records = [make_record(attack="quantize", method=method) for method in ("dimum", "salun")]
    records = [
        with_levels(records[0], "bits", {8: 0.5, 2: 0.1}),
        with_levels(records[1], "bits", {8: 0.5, 4: 0.3, 2: 0.1}),
    ]
    made = results(records)
    (_, figure), _ = comparison.recovery_figures(made, made.groups)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [
        "unlearned",
        "8",
        "4",
        "2",
    ]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 1, 3]


def test_many_classes_show_the_largest_and_the_worst():
    counts, per_class = [0] * 100, [0.9] * 100
    counts[7], counts[60], per_class[7], per_class[42] = 1, 499, None, 0.2
    record = make_record(class_names=[f"class {k}" for k in range(100)])
    for row in record["rows"]:
        row["metrics"]["replacement"] = {"1.0": counts}
        row["metrics"]["retain_accuracy"] = {"1.0": {**wilson(0.9), "per_class": per_class}}
    names = [
        text.get_text()
        for text in samples.replacement_figure(record, "1.0").axes[0].get_xticklabels()
    ]
    assert {"class 7", "class 60", "other"} <= set(names) and len(names) == samples.MAX_CLASSES + 1
    worst = [
        text.get_text() for text in samples.retain_figure(record, "1.0").axes[0].get_xticklabels()
    ]
    assert "class 42" in worst and "class 7" not in worst


@pytest.mark.parametrize("classes", [10, 100])
def test_what_shows_nothing_has_a_bar_of_its_own(classes: int):
    record = make_record(class_names=[f"class {k}" for k in range(classes)])
    for row in record["rows"]:
        row["metrics"]["replacement"] = {"1.0": [300] * 9 + [0] * (classes - 9) + [100]}
    axes = samples.replacement_figure(record, "1.0").axes[0]
    names = [text.get_text() for text in axes.get_xticklabels()]
    place = names.index("nothing")
    assert place == min(classes, samples.MAX_CLASSES - 1) and names[:2] == ["class 0", "class 1"]
    assert axes.containers[0][place].get_height() == pytest.approx(100 / 28)
    assert axes.containers[0][names.index("class 7")].get_height() == pytest.approx(300 / 28)


def test_samples_of_a_diverged_attack_are_those_of_the_last_budget_it_survived(tmp_path):
    record = make_record()
    write_run(tmp_path, record, samples=True)
    record["rows"][-1].update(status="diverged", metrics={}, samples=None)
    strips = samples.sample_strips(record, tmp_path, "forget", "1.0")
    assert [strip.label for strip in strips] == ["original", "unlearned", "attacked @ 200"]
