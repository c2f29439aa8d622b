"""The leaderboard: paired statistics against closed forms and scipy, ranking, merged folders,
versions, the pages.

The records are small made-up ones in the format of ``result.json``, as in test_report.
"""

import csv
import html
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_report import (
    Page,
    make_record,
    with_levels,
    with_new_measurements,
    without_rows,
    write_run,
)
from unrelearn.report.paired import (
    IMAGES,
    SEEDS,
    difference,
    holm,
    image_difference,
    image_interval,
    over_images,
    over_seeds,
)

from unrelearn.report import board as ranking
from unrelearn.report import compare, leaderboard, matrix, site
from unrelearn.report.groups import collect, comparison, versions_line
from unrelearn.report.page import FILE_NAME, write_page

# ---- statistics
# --------------------------------------------------------------------------------------------------


def images(gained: int, lost: int, both: int = 20, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Two hit vectors of which the first alone has `gained` hits and the second alone `lost`."""
    one, other = np.zeros(n, bool), np.zeros(n, bool)
    one[:both] = other[:both] = True
    one[both : both + gained], other[both + gained : both + gained + lost] = True, True
    return one, other


def text(hits: np.ndarray) -> str:
    return "".join("01"[hit] for hit in hits.astype(int))


def test_mcnemar_is_the_binomial_test_of_the_images_that_changed():
    made = over_images([images(9, 1)])
    assert made.mean == pytest.approx(0.08) and (made.test, made.n, made.seeds) == (IMAGES, 100, 1)
    assert made.p == pytest.approx(
        2 * (1 + 10) / 2**10
    )  # P(at most 1 of 10 fair coins), both sides
    assert over_images([images(0, 0)]).p == 1 and over_images([images(7, 7)]).p == 1
    pooled = over_images([images(6, 1), images(3, 0)])  # the same changes, spread over two seeds
    assert (
        pooled.p == pytest.approx(made.p) and pooled.mean == pytest.approx(0.04) and pooled.n == 200
    )


def test_the_paired_bootstrap_is_that_of_the_images_and_is_reproducible():
    one, other = images(30, 12, n=200)
    made = over_images([(one, other)])
    theirs = stats.bootstrap(
        (one, other),
        lambda a, b, axis: (a * 1.0 - b).mean(axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (made.low, made.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert over_images([(one, other)]) == made


def test_seeds_are_resampled_each_by_itself():
    """Two seeds of opposite sign: their mean is 0 and its variance that of the images, not of the
    seeds.
    """
    made = over_images([images(40, 0, 0, 200), images(0, 40, 0, 200)])
    share = 0.2
    deviation = math.sqrt(2 * share * (1 - share) / 200) / 2
    assert made.mean == pytest.approx(0) and made.high == pytest.approx(1.96 * deviation, rel=0.1)


def test_over_seeds_is_the_paired_t_test():
    a, b = [0.31, 0.42, 0.25], [0.1, 0.05, 0.12]
    made, theirs = over_seeds(np.subtract(a, b)), stats.ttest_rel(a, b)
    assert made.p == pytest.approx(theirs.pvalue) and (made.low, made.high) == pytest.approx(
        theirs.confidence_interval(0.95)
    )
    assert (made.test, made.n, made.seeds) == (SEEDS, 3, 3)


def test_seeds_that_agree_exactly_or_one_alone_are_no_test():
    for values in ([0.205 - 0.2, 0.505 - 0.5, 0.005], [0.9]):
        made = over_seeds(values)
        assert made.p is None and made.low is None and not made.marked


def test_methods_are_compared_over_seeds_and_two_models_over_their_images():
    one, other = images(9, 1)
    mine, theirs = (
        {seed: {"value": float(np.mean(hits)), "hits": text(hits)} for seed in (0, 1)}
        for hits in (one, other)
    )
    assert image_difference(mine, theirs) == over_images([(one, other)] * 2)
    assert difference(mine, theirs).test == SEEDS, "a claim about methods"
    alone = difference(mine, {1: theirs[1], 2: theirs[1]})
    assert (alone.test, alone.seeds) == (IMAGES, 1) and "these models only" in alone.test
    few = {**theirs, 1: {**theirs[1], "starts": 10}}
    assert image_difference(mine, few) is None, (
        "images that share a start are not so many observations"
    )
    for other in ({"value": theirs[1]["value"]}, {"value": 0.5, "hits": "01"}):
        theirs[1] = other
        assert image_difference(mine, theirs) is None and difference(mine, theirs).test == SEEDS
    assert difference(mine, {7: theirs[0]}) is None


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.02, 0.05]) == pytest.approx(
        [0.05, 0.09, 0.09, 0.08, 0.09]
    )  # as R's p.adjust
    assert holm([0.9, 0.8]) == pytest.approx([1, 1]) and len(holm([])) == 0


def test_the_bootstrap_over_images_is_a_binomial():
    low, high = image_interval([{"value": 0.25, "n": 200}])
    assert (low, high) == pytest.approx(
        tuple(stats.binom.ppf([0.025, 0.975], 200, 0.25) / 200), abs=0.006
    )
    half = 1.96 * math.sqrt(0.25 * 0.75 / 200 / 3)
    assert np.diff(image_interval([{"value": 0.25, "n": 200}] * 3))[0] == pytest.approx(
        2 * half, rel=0.05
    )
    assert image_interval([0.3, {"value": 0.2, "n": 5}]) is None and image_interval([]) is None


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


def made(records: list[dict]) -> ranking.Board:
    (board,) = ranking.boards(comparison(records))
    return board


def row(board: ranking.Board, method: str, guidance: str = "1.0") -> dict[str, str]:
    headers, rows = leaderboard.cells(board, guidance)
    (found,) = [cells for cells in rows if cells[0] == method]
    return dict(zip((header.replace("\n", " ") for header in headers), found, strict=True))


def test_controls_come_first_and_then_the_lowest_recovery():
    assert [entry.method.label for entry in made(GRID).entries] == [
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


def test_the_difference_is_to_retrain_and_where_it_is_absent_to_the_method_that_holds_best():
    board = made(GRID)
    peaks, floor = np.array([0.06, 0.05, 0.08]), np.array([0.03, 0.02, 0.05])
    assert row(board, "retrain")["DiMRA minus retrain"] == "reference"
    assert row(board, "DiMUM")["DiMRA minus retrain"] == ", ".join(
        f"{100 * gap:+.1f}" for gap in peaks - floor
    )
    without = made([record for record in GRID if record["method"] != "retrain"])
    assert row(without, "DiMUM")["DiMRA minus DiMUM"] == "reference"
    assert "Minus the method that holds best." in leaderboard.caption([without])


def test_claims_are_over_seeds_and_tests_over_images_stay_in_the_csv_file():
    records = [with_hits(json.loads(json.dumps(record))) for record in GRID]
    for record in records:  # one budget: there is no choice, and all images count
        record["rows"] = [*record["rows"][:2], record["rows"][3]]
    board = made(records)
    # the hits are nested: every image that retrain has, DiMUM has too
    key = "1.0", board.main, board.entries[2].method
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
    words = leaderboard.caption([board])
    assert "McNemar" not in words and "Student" in words
    alone = leaderboard.caption([made([record for record in records if record["seed"] == 0])])
    assert "McNemar" in alone and "this one model" in alone and "Student" not in alone


def test_the_main_attack_is_dimra_in_the_settings_that_most_methods_met():
    records = json.loads(json.dumps(GRID))
    others = [run("dimum", 0.4), run("dimum", 0.3, attack="lora"), run("salun", 0.3, attack="lora")]
    for record in records:
        record["config"]["attack"]["learning_rate"] = 1e-3
    others[0]["config"]["attack"]["learning_rate"] = 3e-4
    others[0]["name"] += "-slow"
    board = made([*records, *others])
    assert (
        board.main.label == "DiMRA" and row(board, "DiMUM")["DiMRA % strongest"] == "40.0, 5.0, 8.0"
    )
    assert (
        row(board, "DiMUM")["worst case % holding nothing"] == "≥ 17.7"
    )  # 40, 5 and 8; LoRA has one seed
    others[0]["config"]["attack"]["source"] = "elsewhere"
    board = made([*records, *others])
    assert len([attack for attack in board.attacks if attack.name == "dimra"]) == 2
    assert (
        board.main.label == "DiMRA (source=absent)"
        and row(board, "DiMUM")["DiMRA % strongest"] == "6.0, 5.0, 8.0"
    )
    levels = [
        with_levels(make_record(method=m, attack="quantize"), "bits", {8: 0.5, 4: 0.1})
        for m in ("dimum", "salun")
    ]
    assert (
        made([*levels, *[make_record(attack="lora", name="l")]]).main.name == "lora"
    )  # it takes steps
    assert row(made(levels), "DiMUM")["quantisation % @ 8 bits"].startswith("50.0 [")


def test_of_two_settings_the_main_one_brings_back_more_of_what_was_unlearned():
    """Not more of the original, which a slow attack leaves as it is."""
    grid = [run("original", 0.9), run("original", 0.5), run("dimum", 0.05), run("dimum", 0.3)]
    for record, optimizer in zip(grid, ("adam", "relative", "adam", "relative"), strict=True):
        record["config"]["attack"]["optimizer"], record["name"] = (
            optimizer,
            f"{record['method']}-{optimizer}",
        )
    assert made(grid).main.label == "DiMRA (optimizer=relative)"


def test_what_is_missing_is_a_dash():
    board = made(
        [*GRID, without_rows(run("munba", 0.1), 1), make_record(method="siss", attack="none")]
    )
    assert row(board, "MUNBa")["UA %"] == "–" and row(board, "MUNBa")["seeds"] == "0"
    assert (
        row(board, "SISS")["UA %"].startswith("98.8 [")
        and row(board, "SISS")["DiMRA % strongest"] == "–"
    )
    assert [entry.method.label for entry in board.entries][-2:] == ["SISS", "MUNBa"]
    assert ranking.boards([]) == [] and made([make_record(attack="none")]).main is None


def test_files_parse_back():
    board = made([with_hits(json.loads(json.dumps(record))) for record in GRID])
    rows = list(csv.DictReader(io.StringIO(leaderboard.to_csv([board]))))
    found = {(r["method"], r["measurement"], r["guidance"]): r for r in rows}
    ua = found["dimum", "unlearning_accuracy", "1.0"]
    low, high = image_interval([{"value": 0.988, "n": 500}] * 3)
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
    comparison([mine, with_hits({**json.loads(json.dumps(mine)), "name": "again"})])
    assert caplog.messages == []  # the same numbers, with more beside them
    (group,) = comparison([mine, theirs])
    assert group.seeds == "n=1" and group.first["name"] == "theirs"
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
    ["unrelearn", "pretrain", "oracle", "unlearn", "attack", "samples", "reference", "evaluate"],
)
def test_other_versions_of_a_stage_never_share_a_table(stage):
    groups = comparison(
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
        for title, members in compare.tables(groups).items()
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
    (group,) = comparison(records)
    assert group.seeds == "n=3" and group.table == "digits, model unet_tiny, protocol fast"
    assert (
        versions_line(records)
        == "evaluate 3; torch 2.14.1 (1 run), 2.9 (1 run); pretrain 1; 1 of 3 runs do not record"
        " the versions that made them."
    )


def test_versions_of_another_data_set_are_none_of_its_business():
    other = {**versioned(0, evaluate=4), "dataset": "mnist", "name": "other"}
    groups = comparison([versioned(0, evaluate=3), versioned(1), other])
    assert [(group.seeds, "versions" in group.table) for group in groups] == [
        ("n=2", False),
        ("n=1", False),
    ]


# ---- pages
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report with two forgotten classes, two attacks, a run that diverged, and samples of one
    run.
    """
    outputs = tmp_path_factory.mktemp("outputs")
    records = [*GRID, *(run(method, 0.9, attack="few_shot") for method in ("dimum", "salun"))]
    records += [
        {**run("dimum", 0.3), "forget_classes": [3], "name": "three"},
        without_rows(run("munba", 0.1), 1),
    ]
    for record in records:
        record["config"]["method"]["_target_"] = f"unrelearn.methods.{record['method']}.Method"
        path = write_run(outputs, record, samples=record["name"] == "digits-dimum-dimra-seed1")
        if record["seed"] == 0:
            write_page(record, outputs, path.parent / FILE_NAME)
    groups, folder = comparison(collect([outputs])), outputs / "report"
    boards = ranking.boards(groups)
    pages = site.pages(
        groups, boards, matrix.to_html(matrix.matrices(groups)), folder, ["table.csv"]
    )
    for name, page in [*pages.items(), ("table.csv", "")]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page, encoding="utf-8")
    return folder


def test_every_link_leads_somewhere(report: Path):
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in report.rglob("*.html")}
    assert len(pages) == 1 + 6 + 2
    for path, page in pages.items():
        assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
        for reference in (r for r in page.references if not r.startswith("data:")):
            file, _, fragment = reference.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), (path, reference)
            assert not fragment or f'id="{fragment}"' in target.read_text(encoding="utf-8"), (
                path,
                reference,
            )


def test_every_number_of_the_leaderboard_links_to_its_runs_artefacts_and_commands(report: Path):
    front = (report / "index.html").read_text(encoding="utf-8")
    board = front.split("<h3>Class 7, guidance 1</h3>")[1].split("</table>")[0]
    cells = [
        cell
        for line in board.split("<tr>")[2:]
        for cell in re.findall(r"<td[^>]*>(.*?)</td>", line)
    ]
    numbers = [
        cell for cell in cells if re.search(r"\d", re.sub("<.*?>", "", cell)) and cell != "0"
    ]  # seeds of the diverged
    assert len(numbers) > 30 and all(
        re.match(r'<a href="methods/digits-\w+\.html#[\w-]+">', cell) for cell in numbers
    )
    page = (report / "methods" / "digits-dimum.html").read_text(encoding="utf-8")
    behind = page.split('<h3 id="runs-dimra">')[1].split("<h3")[0]
    assert behind.count("digits-dimum-dimra-seed") >= 3 and "weights/" in behind
    assert (
        "python run.py method=dimum attack=dimra seed=2" in behind
        and f"digits-dimum-dimra-seed0/{FILE_NAME}" in behind
    )


def test_the_front_page_ranks_first_and_names_what_did_not_finish(report: Path):
    front = html.unescape((report / "index.html").read_text(encoding="utf-8"))
    sections = (
        "Class 7, guidance 1",
        "Methods against attacks",
        "Best: lower right",
        "Methods: what each is",
    )
    order = [front.index(words) for words in sections]
    assert order == sorted(order) and "digits-munba-dimra-seed0: diverged" in front
    assert "do not record the versions" in front and front.count("<img") == 4


def test_the_page_of_a_method(report: Path):
    page = Page((report / "methods" / "digits-dimum.html").read_text(encoding="utf-8"))
    words = " ".join("".join(page.words).replace("\xa0", " ").split())
    assert (
        "memorise other data under its condition" in words
        and "memory_weight E_{x' in memory}" in words
    )
    assert "learning_rate0.0001" in words and "unlearn/ab12cd34ef56" in words
    # class 7 attacked by DiMRA: the seed with samples on this disk is the one that is shown
    assert "Class 7, attacked by DiMRA, seed 1." in words
    assert sum("images of the" in image["alt"] for image in page.images) == 3 * 3
    absent = "".join(
        Page((report / "methods" / "digits-esd.html").read_text(encoding="utf-8")).words
    )
    assert "The sample files this record names are not on this disk." in absent
    # retained classes go from 98.5 - 0.3 k to 98.0 - 0.3 k per cent; rows are the classes that were
    # forgotten
    damage = words.split("What forgetting damages")[1].split("Cost of")[0]
    assert (
        damage.count("-0.5") >= 2 * 9
        and "class 7-0.5, -0.5, -0.5" in damage
        and "class 3-0.5-0.5" in damage
    )


def test_a_method_that_is_not_installed_has_no_description_and_none_is_run(tmp_path, monkeypatch):
    (tmp_path / "outside.py").write_text(
        '"""What it is.\n\n    x = 1 < 2\n\nEnd.\n"""\nraise SystemError("was run")\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (
        site.what_it_is({"_target_": "outside.Method"})
        == "<h2>What it is</h2><p>What it is.</p><pre>    x&nbsp;=&nbsp;1 &lt; 2</pre><p>End.</p>"
    )
    assert "outside" not in sys.modules
    for target in ("nowhere.at.all.Method", "unrelearn.methods.nowhere.Method", "", None):
        assert site.what_it_is({"_target_": target}) == ""


def test_two_protocols_have_pages_of_their_own():
    other = [
        {**record, "protocol": "clean", "name": record["name"] + "-clean"} for record in GRID[6:9]
    ]
    groups = comparison([*GRID, *other])
    pages = site.pages(groups, ranking.boards(groups), {}, Path("report"), [])
    assert {
        "methods/digits-salun.html",
        "methods/digits-salun-2.html",
        "attacks/digits-dimra-2.html",
    } <= pages.keys()
    assert "2 tables, because numbers of other data, protocols or versions" in pages["index.html"]
    assert ("protocol clean" in pages["methods/digits-salun.html"]) != (
        "protocol clean" in pages["methods/digits-salun-2.html"]
    )


MEASURE = """<!doctype html><body><script>
const pages = %s, widths = [360, 1280], found = [];
let left = pages.length * widths.length;
for (const page of pages) for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 800; frame.src = page;
  frame.onload = () => {
    const inside = frame.contentDocument, images = [...inside.images];
    const broken = images.filter(i => !i.naturalWidth).length;
    found.push([page, width, inside.documentElement.scrollWidth, images.length, broken]);
    if (--left === 0) document.body.textContent = JSON.stringify(found);
  };
  document.body.append(frame);
}
</script></body>"""


def test_in_a_browser_no_image_is_broken_and_no_page_is_wider_than_the_screen(
    report: Path, tmp_path: Path
):
    browser = next(
        filter(
            None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))
        ),
        None,
    )
    if browser is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    run_page = next(report.parent.glob(f"runs/*/{FILE_NAME}"))
    pages = [path.as_uri() for path in (*sorted(report.rglob("*.html")), run_page)]
    wrong = (
        tmp_path / "wrong.html"
    )  # what the check is for: an image that is none, and a line that is too long
    wrong.write_text(
        '<!doctype html><p style="width: 1500px">wide</p><img src="data:image/png;base64,AAAA">'
    )
    frame = tmp_path / "frame.html"
    frame.write_text(MEASURE % json.dumps([*pages, wrong.as_uri()]))
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=30000",
        frame.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    found = json.loads(
        html.unescape(re.search(r"<body>(\[.*\])</body>", done.stdout, re.DOTALL).group(1))
    )
    expected = [[page, width] for page in [*pages, wrong.as_uri()] for width in (360, 1280)]
    assert sorted(line[:2] for line in found) == sorted(expected)
    bad = [line for line in found if line[2] > line[1] or line[4]]
    assert {line[0] for line in bad} == {wrong.as_uri()} and len(bad) == 2, bad
    assert sum(images for _, _, _, images, _ in found) > 20
