"""The leaderboard: its numbers, the ranking, merged folders, versions."""

import csv
import io
import json

import numpy as np
import pytest
from made_up import hits_text as text
from made_up import make_record, with_levels, with_new_measurements, without_rows, write_run

from unrelearn.report import leaderboard
from unrelearn.report.panel import Panel, panels
from unrelearn.report.records import collect, versions_line
from unrelearn.report.site import ranked_first
from unrelearn.report.stats import IMAGES, SEEDS, holm, image_interval
from unrelearn.report.table import results
from unrelearn.report.verdicts import ranked

# ---- the board
# --------------------------------------------------------------------------------------------------


def run(
    method: str, peak: float, seed: int = 0, attack: str = "dimra", left: float = 0.012, **options
) -> dict:
    curve = (0.02, peak, peak / 2, peak / 4, peak / 8)
    record = make_record(
        method=method, attack=attack, forget=(0.97, left), attacked=curve, seed=seed, **options
    )
    name = f"digits-{method}-{attack}-seed{seed}"
    return {
        **record,
        "name": name,
        "attack_unit": "steps",
        "attack_sees_forgotten": attack == "few_shot",
    }


def with_hits(record: dict, offset: int = 0) -> dict:
    """The record as they are written from now on: image by image, and the versions."""
    for row in record["rows"]:
        for value in row["metrics"]["forget_accuracy"].values():
            hits = np.arange(value["n"]) < round(value["value"] * value["n"])
            value["hits"] = text(np.roll(hits, offset))
    return {
        **record,
        "versions": {"unrelearn": "0.1.0", "torch": "2.14.1", "pretrain": 1, "evaluate": 3},
    }


GRID = [
    run(method, peak + 0.01 * seed * (-1) ** seed, seed)
    for method, peak in (
        ("original", 0.97),
        ("retrain", 0.03),
        ("salun", 0.5),
        ("dimum", 0.06),
        ("esd", 0.2),
    )
    for seed in (0, 1, 2)
]


def made(records: list[dict]) -> Panel:
    (board,) = panels(results(records))
    return board


def row(board: Panel, method: str, guidance: str = "1.0") -> dict[str, str]:
    headers, rows = leaderboard.cells(board, guidance)
    (found,) = [cells for cells in rows if cells[0] == method]
    return dict(zip((header.replace("\n", " ") for header in headers), found, strict=True))


def test_controls_come_first_and_then_the_lowest_recovery():
    assert ranked_first(made(GRID)) == [
        "original",
        "retrain",
        "DiMUM",
        "ESD",
        "SalUn",
    ]


def test_the_numbers_of_a_line():
    records = [
        with_new_measurements(record, only=("fid", "kid"))
        for record in json.loads(json.dumps(GRID))
    ]
    for record in records:
        for attacked in record["rows"][2:]:
            attacked["metrics"].pop("fid")
    shown = row(made(records), "DiMUM")
    assert shown["DiMRA % strongest"] == "6.0, 5.0, 8.0" and shown["held-out"] == "–", (
        "judged at the last budget alone"
    )
    assert (
        shown["UA %"] == "98.8, 98.8, 98.8"
        and shown["retained %"] == "98.0, 98.0, 98.0"
        and shown["seeds"] == "3"
    )
    assert shown["FID N=450"] == "131.3, 132.3, 133.3" and shown["KID N=450"].startswith("1.0212")
    assert "FD (oracle) N=450" not in shown and shown["verdict"] == "not ranked: ruined", (
        "FID of 132 after 31"
    )
    assert shown["unlearn s"] == "101.2, 101.2, 101.2" and shown["area"] == "0.210, 0.210, 0.210"
    assert shown["steps to half"] == "> 400"
    assert [header for header in shown if "@" in header] == [
        f"DiMRA % @ {n} steps" for n in (25, 100, 400)
    ]
    assert row(made(records), "DiMUM", "2.0")["DiMRA % strongest"] == "3.0, 2.5, 4.0"


def test_the_difference_is_to_retrain_and_where_it_is_absent_nothing_is_subtracted():
    board = made(GRID)
    peaks, floor = np.array([0.06, 0.05, 0.08]), np.array([0.03, 0.02, 0.05])
    assert row(board, "retrain")["DiMRA minus retrain"] == "reference"
    assert row(board, "DiMUM")["DiMRA minus retrain"] == ", ".join(
        f"{100 * gap:+.1f}" for gap in peaks - floor
    )
    without = made([record for record in GRID if record["method"] != "retrain"])
    assert row(without, "DiMUM")["DiMRA minus retrain (has no result)"] == "–"
    assert not without.differences and "inus retrain" not in leaderboard.differences_csv([without])
    assert "Minus" not in leaderboard.legend([without])
    both = [ranked(panel, "1.0") for panel in (board, without)]
    assert both[1] == [method for method in both[0] if method != "retrain"]


def test_claims_are_over_seeds_and_tests_over_images_stay_in_the_csv_file():
    records = [with_hits(json.loads(json.dumps(record))) for record in GRID]
    for record in records:  # one budget: there is no choice, and all images count
        record["rows"] = [*record["rows"][:2], record["rows"][3]]
    board = made(records)
    # the hits are nested: every image that retrain has, DiMUM has too
    key = "1.0", board.main, "DiMUM"
    made_over_images, dimum = board.image_differences[key], board.differences[key]
    gained = sum(
        round(500 * a) - round(500 * b) for a, b in ((0.06, 0.03), (0.05, 0.02), (0.08, 0.05))
    )
    assert (made_over_images.test, made_over_images.n) == (IMAGES, 1500)
    assert made_over_images.p == pytest.approx(2 * 0.5**gained) and made_over_images.marked
    assert (dimum.test, dimum.n, dimum.p) == (SEEDS, 3, None), "three seeds that agree exactly"
    family = [
        m
        for (g, attack, _), m in board.image_differences.items()
        if (g, attack) == ("1.0", board.main)
    ]
    assert len(family) == 4 and [m.adjusted for m in family] == pytest.approx(
        holm([m.p for m in family])
    )
    words = leaderboard.legend([board])
    assert "McNemar" not in words and "Student" in words
    alone = leaderboard.legend([made([record for record in records if record["seed"] == 0])])
    assert "McNemar" in alone and "this one model" in alone and "Student" not in alone


def test_the_main_attack_is_dimra_in_the_settings_that_most_methods_met():
    records = json.loads(json.dumps(GRID))
    others = [run("dimum", 0.4), run("dimum", 0.3, attack="lora"), run("salun", 0.3, attack="lora")]
    for record in records:
        record["config"]["attack"]["learning_rate"] = 1e-3
    others[0]["config"]["attack"]["learning_rate"] = 3e-4
    others[0]["name"] += "-slow"
    board = made([*records, *others])
    assert board.main == "DiMRA" and row(board, "DiMUM")["DiMRA % strongest"] == "40.0, 5.0, 8.0"
    assert (
        row(board, "DiMUM")["worst case % holding nothing"] == "≥ 17.7"
    )  # 40, 5 and 8; LoRA has one seed
    others[0]["config"]["attack"]["source"] = "elsewhere"
    board = made([*records, *others])
    assert len([a for a in board.attacks if board.named.get(a, [""])[0] == "dimra"]) == 2
    assert (
        board.main == "DiMRA (source=absent)"
        and row(board, "DiMUM")["DiMRA % strongest"] == "6.0, 5.0, 8.0"
    )
    levels = [
        with_levels(make_record(method=m, attack="quantize"), "bits", {8: 0.5, 4: 0.1})
        for m in ("dimum", "salun")
    ]
    assert made([*levels, *[make_record(attack="lora", name="l")]]).main == "LoRA"  # it takes steps
    assert row(made(levels), "DiMUM")["quantisation % @ 8 bits"].startswith("50.0 [")


def test_of_two_settings_the_main_one_brings_back_more_of_what_was_unlearned():
    """Not more of the original, which a slow attack leaves as it is."""
    grid = [run("original", 0.9), run("original", 0.5), run("dimum", 0.05), run("dimum", 0.3)]
    for record, optimizer in zip(grid, ("adam", "relative", "adam", "relative"), strict=True):
        record["config"]["attack"]["optimizer"], record["name"] = (
            optimizer,
            f"{record['method']}-{optimizer}",
        )
    assert made(grid).main == "DiMRA (optimizer=relative)"


def test_what_is_missing_is_a_dash():
    board = made(
        [*GRID, without_rows(run("munba", 0.1), 1), make_record(method="siss", attack="none")]
    )
    assert row(board, "MUNBa")["UA %"] == "–" and row(board, "MUNBa")["seeds"] == "0"
    assert (
        row(board, "SISS")["UA %"].startswith("98.8 [")
        and row(board, "SISS")["DiMRA % strongest"] == "–"
    )
    assert ranked_first(board)[-2:] == ["SISS", "MUNBa"]
    assert panels(results([])) == [] and made([make_record(attack="none")]).main is None


def test_files_parse_back():
    board = made([with_hits(json.loads(json.dumps(record))) for record in GRID])
    rows = list(csv.DictReader(io.StringIO(leaderboard.to_csv([board]))))
    found = {(r["method"], r["measurement"], r["guidance"]): r for r in rows}
    ua = found["dimum", "unlearning_accuracy", "1.0"]
    low, high = image_interval([0.988] * 3, [500] * 3)
    assert float(ua["mean"]) == pytest.approx(0.988) and float(ua["images_low"]) == pytest.approx(
        low
    )
    assert float(ua["images_high"]) == pytest.approx(high)
    assert ua["runs"].split() == [f"digits-dimum-dimra-seed{seed}" for seed in range(3)]
    assert float(found["dimum", "recovery@200", "1.0"]["mean"]) == pytest.approx(
        np.mean([0.06, 0.05, 0.08]) / 4
    )
    assert {r["measurement"] for r in rows} >= {
        "retain_accuracy",
        "fd_oracle",
        "kid_oracle",
        "area",
        "unlearn_seconds",
    }
    assert found["dimum", "steps_to_half", "1.0"]["reached"] == "0"
    differences = list(csv.DictReader(io.StringIO(leaderboard.differences_csv([board]))))
    assert (
        len(differences) == 2 * 2 * 4 * 2
    )  # guidances, attacks with none, methods but the reference, tests
    assert {(r["test"], r["pairs"], r["reference"]) for r in differences} == {
        ("seeds", "3", "retrain"),
        (IMAGES, "1500", "retrain"),
        (IMAGES, "750", "retrain"),
    }  # half where there was a choice
    assert all(None not in r and None not in r.values() for r in rows + differences)
    latex = leaderboard.to_latex([board])
    assert (
        latex.count(r"\begin{") == latex.count(r"\end{") == 4
        and "≥" not in latex
        and "±" not in latex
    )
    assert "| 98.8, 98.8, 98.8 |" in leaderboard.to_markdown([board])


# ---- merging and versions
# -------------------------------------------------------------------------------------------


def test_folders_of_two_users_are_merged_and_other_numbers_are_named_not_averaged(tmp_path, caplog):
    for folder in ("a", "b"):
        write_run(tmp_path / folder, run("dimum", 0.06))
    assert len(collect([tmp_path / "a", tmp_path / "b"])) == 1 and caplog.messages == []
    newer = {**run("dimum", 0.5), "created": "2027-01-01T00:00:00+00:00"}
    paths = [
        str(write_run(tmp_path / folder, record))
        for folder, record in (("b", newer), ("c", run("salun", 0.1)))
    ]
    records = collect([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert [record["method"] for record in records] == ["dimum", "salun"]
    assert row(made(records), "DiMUM")["DiMRA % strongest"].startswith("50.0 [")
    (warning,) = caplog.messages
    assert paths[0] in warning and str(tmp_path / "a") in warning and "other numbers" in warning


def test_the_same_seed_of_two_users_is_one_seed_and_its_other_numbers_are_named(caplog):
    mine, theirs = (
        run("dimum", 0.06),
        {
            **run("dimum", 0.2),
            "name": "theirs",
            "created": "2027-01-01T00:00:00+00:00",
        },
    )
    results([mine, with_hits({**json.loads(json.dumps(mine)), "name": "again"})])
    assert caplog.messages == []  # the same numbers, with more beside them
    made_of = results([mine, theirs])
    assert made_of.groups[0].seeds == "n=1" and made_of.groups[0].first["name"] == "theirs"
    assert (
        len(caplog.messages) == 1
        and mine["name"] in caplog.messages[0]
        and "theirs" in caplog.messages[0]
    )


def versioned(seed: int, **versions) -> dict:
    return {
        **make_record(seed=seed),
        "name": f"run-{seed}",
        **({"versions": versions} if versions else {}),
    }


@pytest.mark.parametrize(
    "stage",
    [
        "unrelearn",
        "pretrain",
        "unlearn",
        "attack",
        "samples",
        "evaluate",
        "memorisation",
        "a_new_one",
    ],
)
def test_other_versions_of_a_stage_never_share_a_table(stage):
    made_of = results(
        [
            versioned(0, **{stage: 3}),
            versioned(1, **{stage: 4}),
            versioned(2, **{stage: 4}),
            versioned(3),
        ]
    )
    tables = {
        title.partition("fast")[2]: [
            record["seed"] for group in members for record in group.records
        ]
        for title, members in made_of.tables.items()
    }
    assert tables == {
        f" (versions.{stage}=3)": [0],
        f" (versions.{stage}=4)": [1, 2],
        f" (versions.{stage}=not recorded)": [3],
    }


def test_what_does_not_say_its_version_fits_any_and_torch_is_only_mentioned():
    records = [
        versioned(0),
        versioned(1, evaluate=3, torch="2.14.1"),
        versioned(2, evaluate=3, pretrain=1, torch="2.9"),
    ]
    made_of = results(records)
    assert (
        made_of.groups[0].seeds == "n=3"
        and made_of.groups[0].table == "digits, model unet_tiny, protocol fast"
    )
    assert (
        versions_line(records)
        == "evaluate 3; torch 2.14.1 (1 run), 2.9 (1 run); pretrain 1; 1 of 3 runs do not record"
        " the versions that made them."
    )


def test_versions_of_another_data_set_are_none_of_its_business():
    other = {**versioned(0, evaluate=4), "dataset": "mnist", "name": "other"}
    made_of = results([versioned(0, evaluate=3), versioned(1), other])
    assert [(group.seeds, "versions" in group.table) for group in made_of.groups] == [
        ("n=2", False),
        ("n=1", False),
    ]
