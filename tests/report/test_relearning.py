"""A panel a method beside retrain."""

from dataclasses import replace

import pytest

from unrelearn.report import classification
from unrelearn.report.figures import Curve
from unrelearn.report.relearning import relearning_figure

BUDGETS = [0, 25, 100]


def curve(label: str, *middle: float, reference: float | None = 0.9) -> Curve:
    low, high = ([value + change for value in middle] for change in (-0.05, 0.05))
    return Curve(label, BUDGETS, middle, low, high, reference)


def test_each_panel_holds_its_method_retrain_and_the_original():
    back, gone = curve("comes back", 0.5, 0.8, 0.85), curve("stays away", 0.5, 0.5, 0.55)
    retrain = curve("retrain", 0.6, 0.6, 0.5)
    panels = relearning_figure([back, gone], retrain).axes
    assert [axes.get_title("left") for axes in panels[:2]] == ["stays away", "comes back"]
    for axes, shown in zip(panels, (gone, back), strict=False):
        black, orange, dashed = axes.lines
        for line, expected in ((black, retrain), (orange, shown)):
            assert line.get_xdata().tolist() == BUDGETS
            assert line.get_ydata().tolist() == pytest.approx([100 * y for y in expected.middle])
        assert list(dashed.get_ydata()) == [90, 90]
        assert len(axes.collections) == 2  # a band for each
    assert not any(axes.axison for axes in panels[2:])


def test_five_methods_take_a_second_row_whose_columns_all_have_budgets():
    curves = [curve(str(number), 0.1, 0.2, 0.1 * number) for number in range(5)]
    panels = relearning_figure(curves, curve("retrain", 0.1, 0.1, 0.1)).axes
    assert len(panels) == 8
    named = [axes.xaxis.get_tick_params()["labelbottom"] for axes in panels[:5]]
    assert named == [False, True, True, True, True]


def test_without_retrain_or_between_levels_all_curves_share_one_figure():
    back, retrain = curve("comes back", 0.5, 0.8, 0.85), curve("retrain, n=3", 0.6, 0.6, 0.5)
    assert len(classification._relearning([back, retrain], "").axes) == 4
    assert len(classification._relearning([back], "").axes) == 1
    levels = [replace(each, unit="bits") for each in (back, retrain)]
    assert len(classification._relearning(levels, "").axes) == 1
