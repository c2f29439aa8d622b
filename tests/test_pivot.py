"""One setting against the methods: which runs a cell holds, what is pooled, and the table's place in a page."""

import runpy

import pytest
from command import ROOT
from scipy import stats
from test_matrix import attacked
from test_report import write_run

from unrelearn.report.groups import comparison
from unrelearn.report.pivot import to_markdown

PEAKS = {1e-4: (0.2, 0.4, 0.1), 1e-3: (0.3, 0.1, 0.5)}  # of the seeds 0, 1, 2


def rows(text: str) -> dict[str, dict[str, str]]:
    """Method -> heading -> what stands there at guidance 1."""
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|")
    return {line[0]: {heading: cell.partition(" / ")[0] for heading, cell in zip(head, line, strict=True)} for line in body}


def runs(**options) -> list[dict]:
    return [attacked(peak=peak, seed=seed, rate=rate, **options)
            for rate, peaks in PEAKS.items() for seed, peak in enumerate(peaks)]  # fmt: skip


def text(values: list[float]) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{100 * sum(values) / len(values):.1f} ± {100 * half:.1f}"


def test_each_value_has_a_column_and_the_strongest_is_chosen_for_each_seed():
    found = rows(to_markdown(comparison(runs()), "attack.learning_rate"))
    assert list(found["DiMUM"]) == ["method", "before", "0.0001", "0.001", "strongest", "retained before", "after"]
    assert found["DiMUM"]["0.0001"] == text([0.2, 0.4, 0.1])
    assert found["DiMUM"]["0.001"] == text([0.3, 0.1, 0.5])
    assert found["DiMUM"]["strongest"] == text([0.3, 0.4, 0.5])
    assert found["DiMUM"]["before"].endswith("± 0.0")


def test_classes_are_pooled_and_attacks_of_other_rates_stay_apart():
    made = [record for label in (3, 7) for record in runs(forget_classes=[label])]
    weak, strong = to_markdown(comparison(made), "forget").split("### ")[1:]
    assert "learning_rate=0.0001" in weak.splitlines()[0] and "class 3 and class 7" in weak.splitlines()[0]
    assert rows(weak)["DiMUM"]["class 3"] == text([0.2, 0.4, 0.1])
    assert rows(strong)["DiMUM"]["all"] == text(2 * [0.3, 0.1, 0.5])
    (pooled,) = to_markdown(comparison(made), "attack.learning_rate").split("### ")[1:]
    assert rows(pooled)["DiMUM"]["strongest"] == text(2 * [0.3, 0.4, 0.5])


def test_the_firmest_method_comes_first_and_missing_seeds_are_counted():
    made = [*runs(), *(attacked(method="salun", peak=0.06, seed=seed, rate=1e-3) for seed in range(3)),
            attacked(method="salun", peak=0.05, seed=0, rate=1e-4)]
    found = rows(to_markdown(comparison(made), "attack.learning_rate"))
    assert list(found) == ["SalUn", "DiMUM"]
    assert found["SalUn"]["0.0001"].endswith("(n=1)") and "(n=" not in found["SalUn"]["0.001"]


def test_a_table_takes_its_place_in_a_page_or_says_what_is_missing(tmp_path, capsys):
    main = runpy.run_path(str(ROOT / "scripts" / "pivot.py"))["main"]
    for record in runs():
        write_run(tmp_path / "runs", record)
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- by attack.learning_rate -->\nold\n<!-- end -->\nbelow\n")
    words = [str(tmp_path / "runs"), "--by", "attack.learning_rate"]
    assert main(words) == 0
    table = capsys.readouterr().out
    for _ in range(2):
        assert main([*words, "--into", str(page)]) == 0
        assert page.read_text() == f"above\n<!-- by attack.learning_rate -->\n{table}<!-- end -->\nbelow\n"
    assert main([str(tmp_path / "runs"), "--by", "forget", "--into", str(page)]) == 2
    assert "no line <!-- by forget -->" in capsys.readouterr().err
    assert "old" not in page.read_text()


def test_a_setting_that_nothing_has_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"--by attack\.rate: no run .* Known: forget, attack\.budgets, attack\.learning"):
        to_markdown(comparison(runs()), "attack.rate")
