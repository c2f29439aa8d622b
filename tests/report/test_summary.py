"""One record in the terminal: numbers in tables, the wording of the verdict."""

import io
import re
from pathlib import Path

import pytest
from made_up import (
    before_protocols,
    make_record,
    wilson,
    with_levels,
    with_new_measurements,
    without_rows,
)
from rich.console import Console

from unrelearn.report.summary import lines, print_record, summary_cells
from unrelearn.report.verdict import before_line, oracle_line, recovery_line, verdict
from unrelearn.report.words import significant


def printed(record: dict, width: int = 110) -> str:
    console = Console(width=width, file=io.StringIO())
    print_record(record, console, Path("outputs/runs/x/report.html"))
    return console.file.getvalue()


def printed_narrow(record: dict, width: int) -> str:
    """As a real terminal of this width shows it."""
    console = Console(
        width=width, file=io.StringIO(), force_terminal=True, no_color=True, soft_wrap=True
    )
    print_record(record, console)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


def test_terminal_shows_the_numbers_and_fits_110_columns():
    text = printed(make_record())
    assert max(map(len, text.splitlines())) <= 110
    unlearned = next(line for line in text.splitlines() if line.strip().startswith("unlearned"))
    low, high = (100 * wilson(0.012)[end] for end in ("low", "high"))
    shown = f"unlearned 1.2 [{low:.1f}, {high:.1f}] 0.6 [0.2, 1.7] 0.31 98.0 9.30 0.012 1.2"
    assert unlearned.split() == shown.split()
    attacked = next(line for line in text.splitlines() if "attacked @ 25" in line)
    assert attacked.split()[-4:] == ["–"] * 4  # not measured at an intermediate budget
    assert "floor 4" in text and "N = 500" in text
    assert "ab12cd34" in text and "computed" in text and "reused" in text and "812" in text
    assert "outputs/runs/x/report.html" in text


def test_three_guidances_still_fit():
    record = make_record()
    for row in record["rows"]:
        row["metrics"]["forget_accuracy"]["4.0"] = wilson(1.0)
    text = printed(record)
    assert "guidance 4" in text and max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_narrow_terminal_gets_fewer_columns_but_whole_numbers(width):
    text = printed_narrow(make_record(), width)
    assert "…" not in text and "attacked @ 400" in text and "12.4 [" in text
    table, caption = text.split("Protocol fast.")
    assert ("KID" in table) == (width > 100)
    assert ("Left out for want of width:" in caption and "KID oracle." in caption) == (width <= 100)
    assert max(map(len, text.splitlines())) <= max(width, 70)  # a table needs 70
    assert not re.search(
        r"^%", text, flags=re.MULTILINE
    )  # no line starts with the sign of the number before


def test_every_new_measurement_has_its_column():
    record = with_new_measurements(make_record())
    record["rows"][1]["metrics"]["fid"]["1.0"]["value"] = None
    headers, rows = summary_cells(record)
    assert headers[5:-1] == [
        "FID\nN=450\nfloor 18.0",
        "FD oracle\nN=450\nfloor 4.00",
        "KID\nN=450\nfloor 0.0007",
        "KID oracle\nfloor 0.0004",
        "IS\nN=450\nreal 10.83",
        "precision\n(oracle)",
        "recall\n(oracle)",
        "density\n(oracle)",
        "coverage\n(oracle)",
    ]
    assert rows[0][5:-1] == [
        "31.3",
        "9.25",
        "0.021",
        "0.012",
        "8.91",
        "0.81",
        "0.62",
        "1.04",
        "0.93",
    ]
    assert rows[1][5] == "–"
    caption = " ".join(printed(record, width=220).split())
    assert (
        "Floor: real test images" in caption
        and "Real: the score" in caption
        and "(oracle): in the oracle's" in caption
    )
    assert "Left out" not in caption


def test_inceptions_features_need_no_name_and_what_was_not_measured_no_column():
    headers, _ = summary_cells(
        with_new_measurements(make_record(), features="inception", only=("precision_recall",))
    )
    assert headers[5:-1] == [
        "FD oracle\nN=450\nfloor 4.00",
        "KID oracle\nfloor 0.0004",
        "precision\n",
        "recall\n",
    ]
    assert "(oracle):" not in printed(make_record(), width=220) and "Real:" not in printed(
        make_record(), width=220
    )


def test_distances_of_any_size_are_whole_numbers_with_three_digits():
    shown = [significant(value) for value in (0.012345, 1, 31.27, 99.96, 312.4, 999.6, 12345.6)]
    assert shown == ["0.0123", "1.00", "31.3", "100", "312", "1000", "12346"]


@pytest.mark.parametrize(
    "width, there",
    [
        (70, ""),
        (84, "FID"),
        (110, "FID, FD oracle"),
        (140, "FID, FD oracle, IS, precision, recall"),
        (220, "FID, FD oracle, KID, KID oracle, IS, precision, recall, density, coverage"),
    ],
)
def test_a_narrow_terminal_keeps_fid_longest_and_names_what_it_left_out(width, there):
    text = printed_narrow(with_new_measurements(make_record()), width)
    table, caption = text.split("Protocol fast.")
    named = ("FID", "FD oracle", "KID oracle", "IS", "precision", "recall", "density", "coverage")
    assert [name for name in named if name in table] == [
        name for name in named if name in there.split(", ")
    ]
    left_out = (
        " ".join(caption.split())
        .partition("Left out for want of width: ")[2]
        .partition(".")[0]
        .split(", ")
    )
    assert ("Real:" in caption, "(oracle):" in caption) == ("IS" in table, "recall" in table)
    assert all((name in left_out) != (name in there.split(", ")) for name in named)
    assert max(map(len, text.splitlines())) <= width


def test_measurements_at_another_guidance_than_one_are_shown():
    record = make_record()
    for row in record["rows"]:
        for name in ("retain_accuracy", "fd_oracle", "kid_oracle", "agreement"):
            row["metrics"].pop(name, None)
    headers, rows = summary_cells(with_new_measurements(record, guidance="3.0", only=("fid",)))
    assert rows[0][headers.index("FID\nN=450\nfloor 18.0")] == "31.3"
    assert "the retained classes at 3" in " ".join(printed(record).split())


def test_a_changed_protocol_and_an_unknown_one_are_named():
    changed = "fast (sampler.num_inference_steps=20)"
    assert f"Protocol {changed}. Forget" in " ".join(
        printed(make_record(protocol=changed), width=220).split()
    )
    assert "Protocol not recorded. Forget" in printed(before_protocols(make_record()))


def test_the_stages_of_a_data_set_and_of_its_reference_are_listed():
    stage = make_record()["stages"][0]
    text = printed(
        make_record(
            stages=[
                {**stage, "stage": "dataset"},
                {**stage, "stage": "reference", "status": "reused"},
            ]
        )
    )
    assert re.search(r"dataset +ab12cd34 +computed", text) and re.search(
        r"reference +ab12cd34 +reused", text
    )
    assert "1 of 2 computed, 1 reused" in text


def test_an_empty_failed_record_prints():
    text = printed(
        make_record(
            rows=[],
            stages=[],
            recovery=None,
            oracle=None,
            status="failed",
            error="no [memory] left",
        )
    )
    assert "no [memory] left" in text


def test_retained_classes_at_another_guidance_are_shown_and_said():
    record = make_record()
    for row in record["rows"]:
        row["metrics"]["forget_accuracy"].pop("1.0")
    headers, rows = summary_cells(record)
    assert rows[0][headers.index("retain\nacc. %")] == "98.5 [97.5, 99.1]"
    assert "at guidance 2, the retained classes at 1" in " ".join(printed(record).split())


# ---- verdict


PLAIN = "(forget accuracy, guidance 1)."


@pytest.mark.parametrize(
    "record, words",
    [
        (
            make_record(),
            (
                "DiMUM took class 7 from 97 % to 1 %; DiMRA brought it back to 12 % in 400 steps"
                f" {PLAIN}"
            ),
        ),
        (
            make_record(attacked=(0.1, 0.3, 0.6, 0.9, 0.968)),
            (
                "DiMUM took class 7 from 97 % to 1 %; DiMRA brought all of it back, to 97 % in 400"
                f" steps {PLAIN}"
            ),
        ),
        (
            make_record(attacked=(0.012, 0.01, 0.014, 0.012, 0.016)),
            (
                "DiMUM took class 7 from 97 % to 1 %; DiMRA did not bring it back: 2 % after 400"
                f" steps {PLAIN}"
            ),
        ),
        (
            make_record(attacked=(0.1, 0.5, 0.3, 0.2, 0.1)),
            (
                "DiMUM took class 7 from 97 % to 1 %; DiMRA brought it back to 10 % in 400 steps, "
                f"after a peak of 50 % at 50 steps {PLAIN}"
            ),
        ),
        (
            make_record(forget=(0.97, 0.96), attacked=(0.96,) * 5),
            (
                "DiMUM did not lower class 7 beyond chance: 97 % before, 96 % after; DiMRA leaves"
                f" it at 96 % after 400 steps {PLAIN}"
            ),
        ),
        (
            make_record(attack="none"),
            f"DiMUM took class 7 from 97 % to 1 %; no attack was run {PLAIN}",
        ),
        (
            make_record(method="original", forget=(0.97, 0.97), attack="none"),
            f"Control without unlearning: class 7 stands at 97 %; no attack was run {PLAIN}",
        ),
        (
            make_record(method="retrain", forget=(0.97, 0.0), attacked=(0.0,) * 5),
            "Training from scratch without class 7 leaves it at 0 %; DiMRA did not bring it back: 0"
            " % after 400 steps " + PLAIN,
        ),
        (
            make_record(method="row_swap", attack="few_shot", forget_classes=[3, 7]),
            "Row swap took classes 3 and 7 from 97 % to 1 %; few-shot relearning brought it back to"
            " 12 % in 400 steps " + PLAIN,
        ),
        (
            without_rows(make_record(), 1),
            (
                "DiMUM diverged while unlearning class 7: there is no unlearned model to measure or"
                " attack."
            ),
        ),
        (
            without_rows(make_record(), 2),
            f"DiMUM took class 7 from 97 % to 1 %; DiMRA diverged {PLAIN}",
        ),
        (make_record(status="failed", error="disk full", rows=[]), "The run failed: disk full."),
    ],
)
def test_verdict(record, words):
    assert verdict(record) == words


BITS = with_levels(make_record(attack="quantize"), "bits", {8: 0.5, 4: 0.1})


def test_an_attack_with_levels_is_told_by_its_strongest_one_and_in_its_unit():
    assert (
        verdict(BITS)
        == "DiMUM took class 7 from 97 % to 1 %; quantisation brought it back to 50 % at 8 bits"
        f" {PLAIN}"
    )
    assert (
        recovery_line(BITS)
        == "Strongest attack at guidance 1: 50.0 % at 8 bits; at guidance 2: 25.0 % at 8 bits."
    )
    held = with_levels(
        make_record(attack="prune"), "share of weights pruned", {0.1: 0.012, 0.5: 0.01}
    )
    assert "pruning did not bring it back: 1 % at 0.1 share of weights pruned" in verdict(held)
    text = printed(BITS)
    assert (
        "attacked @ 8 bits" in text
        and "attacked @ 4 bits" in text
        and "step" not in text.split("Oracle accuracy")[1]
    )
    ruined = with_levels(
        make_record(attack="prune"), "share of weights pruned", {0.1: 0.3, 0.5: 0.1}
    )
    ruined["rows"][-1]["metrics"]["retain_accuracy"]["1.0"] |= wilson(0.4, 900)
    assert (
        "The attack at 0.5 share of weights pruned also took the retained classes from 98 % to"
        " 40 %." in verdict(ruined)
    )


def test_verdict_of_an_attack_that_diverged_on_the_way():
    record = make_record()
    record["rows"][-1].update(status="diverged", metrics={}, samples=None)
    assert "DiMRA brought it back to 9 % in 200 steps, and then it diverged" in verdict(record)
    assert "diverged" in printed(record)


def test_verdict_names_ruined_retained_classes_and_a_dissenting_classifier():
    record = make_record(retain=(0.985, 0.98, 0.4))
    assert "The attack also took the retained classes from 98 % to 40 %." in verdict(record)
    record["rows"][1]["metrics"]["agreement"]["1.0"]["held_out_forget_accuracy"] = wilson(0.5)
    assert "The held-out classifier disagrees on the unlearned model: 50 %, not 1 %." in verdict(
        record
    )


def test_lines_on_oracle_and_recovery():
    record = make_record()
    assert (
        oracle_line(record)
        == "Oracle accuracy: 98.6 % on real test images (held-out classifier: 97.8 %), 97.0 % on"
        " the original model's samples of class 7, 98.5 % on its samples of the retained"
        " classes."
    )
    assert recovery_line(record).startswith(
        "Recovery at guidance 1: area 0.210, half of the original's not reached in 400 steps; at"
        " guidance 2: "
    )
    assert "pretraining" not in recovery_line(record)  # older records do not say
    said = recovery_line(record | {"attack_share_of_pretraining": 0.4})
    assert said == recovery_line(record) + " The attack: 400 steps, 0.4 of pretraining."
    assert recovery_line(make_record(attack="none")) is None
    curve = {
        "budgets": [0, 400],
        "forget_accuracy": [0.0, 0.2],
        "area": 0.1,
        "steps_to_half": None,
        "nothing_to_recover": True,
    }
    assert (
        recovery_line(make_record(recovery={"1.0": curve}))
        == "Recovery at guidance 1: area 0.100, the original does not show the class, so there is"
        " nothing to recover."
    )


def test_an_attacked_row_that_does_not_say_its_budget_stops_no_verdict():
    record = make_record(attacked=(0.2, 0.9, 0.6, 0.3, 0.1))
    for row in record["rows"]:
        row.pop("step")
    text = verdict(record)
    assert ", after a peak of 90 % (" in text and "steps" not in text


def test_of_an_earlier_request_each_model_says_how_much_is_drawn():
    record = make_record()
    assert before_line(record) is None
    shares = (0.0, 0.05, 0.5)
    for row, share in zip(record["rows"], shares, strict=False):
        row["metrics"]["retain_accuracy"] = {"1.0": {"value": 0.9, "per_class": [0.9, 0.8, share]}}
    record |= {"forgotten_before": [2], "class_names": ["cat", "dog", "frog"]}
    line = before_line(record)
    assert line is not None and line in lines(record)
    assert line.startswith("Of class frog, forgotten before, images show (guidance 1): original")
    assert "unlearned 5.0 %" in line and "50.0 %" in line
