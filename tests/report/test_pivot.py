"""One setting against the methods: which runs a cell holds, what is pooled, and the table's place
in a page.
"""

import re
import runpy

import pytest
from command import ROOT
from made_up import wilson, write_run
from test_matrix import attacked

from unrelearn.report.pivot import put_into, to_markdown
from unrelearn.report.table import results

PEAKS = {1e-4: (0.2, 0.4, 0.1), 1e-3: (0.3, 0.1, 0.5)}  # of the seeds 0, 1, 2


def rows(text: str) -> dict[str, dict[str, str]]:
    """Method -> heading -> what stands there at guidance 1."""
    head, _, *body = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line[:1] == "|"
    )
    return {
        line[0]: {
            heading: cell.partition(" / ")[0] for heading, cell in zip(head, line, strict=True)
        }
        for line in body
    }


UNLEARNED = (0.01, 0.02, 0.06)
KEPT = {
    1e-4: (0.96, 0.965, 0.97),
    1e-3: (0.975, 0.98, 0.985),
}  # retained after the strongest budget


def runs(**options) -> list[dict]:
    made = []
    for rate, peaks in PEAKS.items():
        for seed, peak in enumerate(peaks):
            record = attacked(
                peak=peak, seed=seed, rate=rate, forget=(0.97, UNLEARNED[seed]), **options
            )
            best = max(
                record["rows"][2:],
                key=lambda row: row["metrics"]["forget_accuracy"]["1.0"]["value"],
            )
            best["metrics"]["retain_accuracy"] = {"1.0": wilson(KEPT[rate][seed])}
            made.append(record)
    return made


def text(values: list[float]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values)  # of fewer than five seeds


def test_each_value_has_a_column_and_the_strongest_is_chosen_for_each_seed():
    found = rows(to_markdown(results(runs()), "attack.learning_rate"))
    assert list(found["DiMUM"]) == [
        "method",
        "before",
        "0.0001",
        "0.001",
        "strongest",
        "retained before",
        "after",
    ]
    assert found["DiMUM"]["0.0001"] == text([0.2, 0.4, 0.1])
    assert found["DiMUM"]["0.001"] == text([0.3, 0.1, 0.5])
    assert found["DiMUM"]["strongest"] == text([0.3, 0.4, 0.5])
    assert found["DiMUM"]["before"] == text(list(UNLEARNED)), (
        "the unlearned model counts once, whatever met it"
    )
    assert found["DiMUM"]["after"] == text([0.975, 0.965, 0.985])
    (line,) = [
        line
        for line in to_markdown(results(runs()), "attack.learning_rate").splitlines()
        if "DiMUM" in line
    ]
    assert " / ".join((text([0.3, 0.1, 0.5]), text([0.15, 0.05, 0.25]))) in line, "both guidances"


def test_classes_are_pooled_and_attacks_of_other_rates_stay_apart():
    made = [record for label in (3, 7) for record in runs(forget_classes=[label])]
    weak, strong = to_markdown(results(made), "forget").split("### ")[1:]
    assert "All: every run" not in weak and "All: every run" in strong, "one caption for both"
    assert (
        "learning_rate=0.0001" in weak.splitlines()[0]
        and "class 3 and class 7" in weak.splitlines()[0]
    )
    assert rows(weak)["DiMUM"]["class 3"] == text([0.2, 0.4, 0.1])
    assert rows(strong)["DiMUM"]["all"] == text([0.3, 0.1, 0.5]), (
        "a class more of the same seeds is no seed more"
    )
    (pooled,) = to_markdown(results(made), "attack.learning_rate").split("### ")[1:]
    assert rows(pooled)["DiMUM"]["strongest"] == text([0.3, 0.4, 0.5])


def test_the_firmest_method_comes_first_and_missing_runs_are_counted():
    made = [
        *runs(),
        *(attacked(method="salun", peak=0.12, seed=seed, rate=1e-3) for seed in range(2)),
        attacked(method="salun", peak=0.11, seed=0, rate=1e-4),
    ]
    found = rows(to_markdown(results(made), "attack.learning_rate"))
    assert list(found) == ["SalUn", "DiMUM"]
    assert found["SalUn"]["0.0001"].endswith("(1 of 3)") and found["SalUn"]["0.001"].endswith(
        "(2 of 3)"
    )
    assert found["SalUn"]["strongest"].startswith("≥ 12.0") and found["SalUn"][
        "strongest"
    ].endswith("(2 of 3)")
    assert not any("of 3)" in cell or "≥" in cell for cell in found["DiMUM"].values())


def test_of_a_setting_of_the_method_each_column_is_another_model():
    made = runs()
    for record in made:
        record["config"]["method"]["memory_class"] = (
            None if record["config"]["attack"]["learning_rate"] == 1e-4 else 3
        )
        record["config"]["attack"]["learning_rate"] = 1e-3
    found = rows(to_markdown(results(made), "method.memory_class"))
    assert found["DiMUM"] == {
        "method": "DiMUM",
        "3": text([0.3, 0.1, 0.5]),
        "null": text([0.2, 0.4, 0.1]),
    }


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
        assert (
            page.read_text()
            == f"above\n<!-- by attack.learning_rate -->\n{table}<!-- end -->\nbelow\n"
        )
    assert main([str(tmp_path / "runs"), "--by", "forget", "--into", str(page)]) == 2
    assert "no line <!-- by forget -->" in capsys.readouterr().err
    page.write_text(
        "<!-- by forget -->\nlost its end\n<!-- by attack.learning_rate -->\nold\n<!-- end -->\n"
    )
    assert main([str(tmp_path / "runs"), "--by", "forget", "--into", str(page)]) == 2
    assert (
        main([*words, "--into", str(tmp_path)]) == 2
        and main([str(ROOT / "conf"), "--by", "forget"]) == 2
    )
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())


def test_a_setting_that_nothing_has_is_named_with_those_there_are():
    assert "| [0, 25, 50, " in to_markdown(results(runs()), "attack.budgets")
    with pytest.raises(ValueError, match=r"--by attack: no run"):
        to_markdown(results(runs()), "attack")
    with pytest.raises(
        ValueError,
        match=r"--by attack\.rate: no run .* Known: forget, attack\.budgets, attack\.learning",
    ):
        to_markdown(results(runs()), "attack.rate")


def test_every_page_that_a_command_fills_has_room_for_it():
    pages = re.findall(r"--into (\S+)", (ROOT / "Makefile").read_text())
    assert "README.md" in pages
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        names = re.findall(r"<!-- (\S+\.md) -->", text)
        assert names, page
        for name in names:
            put_into(text, name, "")
