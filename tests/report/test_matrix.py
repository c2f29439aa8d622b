"""Methods against attacks: what counts as the strongest, the worst case, what is missing;
attack=all.

The records are small made-up ones in the format of ``result.json``, as in test_report.
"""

import csv
import io
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
from command import ROOT, TINY, environment
from made_up import make_record, wilson, with_levels, without_rows, write_run
from report_command import Page, report
from rich.console import Console

from unrelearn import launch
from unrelearn.config import kinds
from unrelearn.grid.account import Account
from unrelearn.report import matrix
from unrelearn.report.panel import Panel, PanelCell
from unrelearn.report.table import results


def attacked(attack="dimra", peak=0.3, seed=0, rate=1e-3, sees=None, **options) -> dict:
    """A run whose strongest budget is in the middle; runs of one seed differ in name with the
    learning rate.
    """
    name = f"digits-{options.get('method', 'dimum')}-{attack}-seed{seed}-{rate}"
    record = make_record(
        attack=attack, attacked=(0.02, 0.1, peak, 0.1, 0.05), seed=seed, name=name, **options
    )
    record["config"]["attack"]["learning_rate"] = rate
    return {**record, "attack_unit": "steps", "attack_sees_forgotten": sees}


def made(*records: dict) -> Panel:
    (panel,) = matrix.matrices(results(records))
    return panel


def mean(panel: Panel, column: str, method: str = "DiMUM", guidance: str = "1.0") -> float:
    return cell(panel, column, method, guidance).estimate.mean


def cell(
    panel: Panel, column: str, method: str = "DiMUM", guidance: str = "1.0"
) -> PanelCell | None:
    return panel.cell(guidance, method, column)


NONE = make_record(attack="none")


# ---- the strongest
# --------------------------------------------------------------------------------------------------


def test_the_strongest_budget_and_learning_rate_of_each_seed_then_the_mean_over_seeds():
    peaks = {1e-3: (0.3, 0.1, 0.5), 1e-4: (0.2, 0.4, 0.1)}
    found = made(
        NONE,
        *(
            attacked(peak=peak, seed=seed, rate=rate)
            for rate in peaks
            for seed, peak in enumerate(peaks[rate])
        ),
    )
    assert [column.label for column in found.columns] == [
        "none",
        "DiMRA",
        "nothing of the class",
        "all",
    ]
    strongest = cell(found, "DiMRA")
    e = strongest.estimate
    assert (e.mean, e.low, e.high, e.n) == pytest.approx((0.4, 0.3, 0.5, 3)), (
        "of three seeds the lowest and the highest"
    )
    seeds = strongest.seeds
    rates = [run.rsplit("-", 1)[1] for run in seeds["runs"]]
    assert list(zip(seeds["at"], rates, strict=True)) == [
        (100, "0.001"),
        (100, "0.0001"),
        (100, "0.001"),
    ]
    assert mean(found, "DiMRA", guidance="2.0") == pytest.approx(0.2) and found.scales == [
        "1.0",
        "2.0",
    ]


def test_one_seed_has_the_wilson_interval_of_its_strongest_budget():
    e = cell(made(NONE, attacked(peak=0.3)), "DiMRA").estimate
    assert (e.mean, e.low, e.high) == (0.3, wilson(0.3)["low"], wilson(0.3)["high"])


def test_other_settings_than_the_rate_are_another_column_or_row():
    records = [
        NONE,
        attacked("dimra_aux"),
        attacked("dimra_aux", peak=0.6, seed=1),
        attacked("dimra_aux", method="salun"),
    ]
    records[1]["config"]["attack"]["source"] = "original"
    records[2]["config"]["attack"]["source"] = records[3]["config"]["attack"]["source"] = (
        "unlearned"
    )
    other = attacked(seed=3)
    other["config"]["method"]["learning_rate"] = 1e-3
    found = made(*records, other)
    labels = [column.label for column in found.columns]
    assert labels[1:4] == ["DiMRA", "DiMRA aux (source=original)", "DiMRA aux (source=unlearned)"]
    assert mean(found, "DiMRA aux (source=unlearned)", "DiMUM (learning_rate=0.0001)") == 0.6
    assert found.methods == [
        "DiMUM (learning_rate=0.0001)",
        "DiMUM (learning_rate=0.001)",
        "SalUn",
    ]


def test_levels_count_like_budgets_in_whatever_order():
    bits = with_levels(make_record(attack="quantize"), "bits", {8: 0.5, 4: 0.1})
    strongest = cell(made(NONE, bits), "quantisation")
    assert strongest.estimate.mean == 0.5 and strongest.seeds["at"].tolist() == [8]


# ---- kinds of attacks and the worst case
# ----------------------------------------------------------------------------


def test_what_holds_the_class_stands_apart_and_counts_in_the_second_worst_case_only():
    found = made(
        NONE,
        attacked(peak=0.3),
        attacked("lora", peak=0.4),
        attacked("few_shot", peak=0.9, sees=True),
    )
    assert [(column.label, column.heading) for column in found.columns] == [
        ("none", ""),
        ("DiMRA", "holds nothing of the class"),
        ("LoRA", "holds nothing of the class"),
        ("few-shot relearning", "holds the class"),
        ("nothing of the class", "worst case"),
        ("all", "worst case"),
    ]
    assert mean(found, "none") == 0.012
    assert mean(found, "nothing of the class") == 0.4 and mean(found, "all") == 0.9
    assert not cell(found, "all").bound


def test_audits_that_end_at_the_original_or_the_images_are_no_worst_case():
    audits = [attacked(name, peak=0.99, sees=True) for name in ("interpolation", "context_probe")]
    found = made(NONE, attacked(peak=0.3), *audits)
    assert (
        mean(found, "context probe") == 0.99
        and mean(found, "all") == mean(found, "nothing of the class") == 0.3
    )


def test_the_worst_case_is_chosen_for_each_seed_and_doing_nothing_is_a_choice():
    records = [
        attacked(attack, peak=peak, seed=seed, forget=(0.97, 0.45 if seed == 2 else 0.01))
        for attack, peaks in (("dimra", (0.3, 0.1, 0.2)), ("lora", (0.1, 0.5, 0.3)))
        for seed, peak in enumerate(peaks)
    ]
    assert mean(made(*records), "nothing of the class") == pytest.approx(np.mean([0.3, 0.5, 0.45]))


def test_old_records_say_nothing_of_the_attack_and_few_shot_holds_the_class():
    found = made(NONE, make_record(), make_record(attack="few_shot", attacked=(0.99,) * 5))
    assert [column.heading for column in found.columns[1:3]] == [
        "holds nothing of the class",
        "holds the class",
    ]
    assert mean(found, "DiMRA") == 0.124 and mean(found, "all") == 0.99


def test_what_is_missing_is_a_dash_and_makes_the_worst_case_a_bound():
    diverged = without_rows(attacked("lora", method="salun"), 2)
    salun = [attacked(method="salun", seed=seed) for seed in (0, 1)]
    found = made(NONE, attacked(), attacked("lora", peak=0.4), *salun, diverged)
    assert cell(found, "LoRA", "SalUn") is None and not cell(found, "all").bound
    assert cell(found, "all", "SalUn").bound and mean(found, "all", "SalUn") == 0.3
    assert "| SalUn | 1.2 | 30.0 | – | ≥ 30.0 | ≥ 30.0 | 98.0 | 101.2 |" in matrix.to_markdown(
        [found]
    )
    (_, figure), _ = matrix.heat_maps(found)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [
        "1.2",
        "30.0",
        "40.0",
        "40.0",
        "40.0",
        "1.2",
        "30.0",
        "–",
        "≥30.0",
        "≥30.0",
        "holds nothing of the class",
        "worst case",
    ]


def test_seeds_that_a_cell_lacks_are_counted():
    found = made(NONE, attacked(), attacked(seed=1), attacked("lora", seed=1))
    assert "| DiMUM | 1.2 | 30.0 | 30.0 (n=1) | ≥ 30.0 |" in matrix.to_markdown([found])


def test_a_matrix_takes_two_attacks_and_holds_one_protocol_and_one_class():
    assert matrix.matrices(results([attacked(), attacked(method="salun")])) == []
    other = [{**record, "forget_classes": [3]} for record in (NONE, attacked())]
    found = matrix.matrices(
        results([NONE, attacked(), *other, attacked(method="salun", protocol="clean")])
    )
    assert [each.forgotten for each in found] == ["class 3", "class 7"]


def test_controls_come_first():
    found = made(
        *(
            attacked(attack, method=m)
            for m in ("dimum", "retrain", "esd", "original")
            for attack in ("dimra", "lora")
        )
    )
    assert found.methods == ["original", "retrain", "DiMUM", "ESD"]


# ---- tables, figures, page
# ------------------------------------------------------------------------------------------


def test_csv_has_intervals_and_names_the_strongest_runs_and_the_cost():
    records = [attacked(peak=peak, seed=seed) for seed, peak in enumerate((0.3, 0.5))] + [NONE]
    records[1]["stages"][1] = {**records[1]["stages"][1], "seconds": 51.2}
    rows = list(csv.DictReader(io.StringIO(matrix.to_csv([made(*records)]))))
    assert all(None not in row and None not in row.values() for row in rows)
    (row,) = [row for row in rows if row["attack"] == "dimra" and row["guidance"] == "1.0"]
    assert [float(row[k]) for k in ("mean", "low", "high")] == pytest.approx([0.4, 0.3, 0.5])
    assert row["values"] == "0.3 0.5" and row["broke"] == "0"
    assert row["at"] == "100 100" and row["runs"].split() == [
        record["name"] for record in records[:2]
    ]
    assert (
        float(row["retained"]) == 0.98
        and float(row["unlearn_seconds"]) == pytest.approx(76.2)
        and row["n"] == "2"
    )
    assert (row["method"], row["holds"], row["lower_bound"]) == (
        "dimum",
        "holds nothing of the class",
        "False",
    )


def test_the_trade_off_shows_every_method_that_dimra_attacked_with_names_apart():
    methods = ["original", "dimum", "salun", "esd", "siss", "sfron"]
    records = [
        attacked(method=method, peak=0.3, rate=rate) for method in methods for rate in (1e-3, 1e-4)
    ]
    found = made(*records, attacked("lora", method="munba"), attacked(method="random_weights"))
    (_, figure), _ = matrix.trade_offs(found)
    names = {text.get_text(): text.xyann[1] for text in figure.axes[0].texts}
    assert set(names) == {"original", "DiMUM", "SalUn", "ESD", "SISS", "SFR-on"}
    assert np.diff(sorted(names.values())).min() > 4  # per cent of the axis
    assert {(line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].lines} == {
        (98.0, 30.0)
    }
    assert matrix.trade_offs(made(attacked("lora"), NONE)) == []


@pytest.mark.parametrize("width", [60, 110, 220])
def test_the_terminal_shows_attacks_as_rows_and_breaks_no_number(width):
    console = Console(width=width, file=io.StringIO())
    methods = ["dimum", "selective_amnesia", "restricted_gradient", "concept_ablation"]
    found = made(
        *(
            attacked(attack, method=method, peak=0.321)
            for method in methods
            for attack in ("dimra", "few_shot")
        )
    )
    matrix.show([found], console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
    shown = [line.split() for line in lines if line.strip().startswith("DiMRA")]
    assert (
        sum(cells.count("32.1") for cells in shown) == 4
        and len(shown) == {60: 8, 110: 3, 220: 1}[width]
    )


def test_report_writes_the_matrix_where_there_is_one(tmp_path: Path):
    for record in (
        NONE,
        attacked(),
        attacked(method="salun"),
        attacked("few_shot", method="salun"),
    ):
        write_run(tmp_path / "outputs", record)
    done = report("--figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "report" / "compare"
    names = {file.name for file in folder.iterdir()}
    assert {
        "matrix.md",
        "matrix.csv",
        "matrix-2.png",
        "matrix-2.pdf",
        "trade-off-1.png",
        "trade-off-1.pdf",
    } <= names
    assert "worst case, all" in done.stdout and "≥ 30.0" in done.stdout
    page = Page((folder / "index.html").read_text())
    assert sum("guidance" in image["alt"] for image in page.images) == 4  # maps, trade-offs
    curves = [
        Page((folder / "attacks" / f"digits-{attack}.html").read_text()).images
        for attack in ("dimra", "few_shot")
    ]
    assert [len(images) for images in curves] == [2, 2]
    report("--out", "single", f"outputs/runs/{NONE['name']}", cwd=tmp_path)
    assert (
        not (tmp_path / "single" / "matrix.md").exists()
        and (tmp_path / "single" / "table.md").exists()
    )


# ---- attack=all
# --------------------------------------------------------------------------------------------------

ATTACKS = ["none", "dimra", "few_shot"]


@pytest.mark.parametrize(
    "words, expanded",
    [
        ("method=dimum attack=all", "-m method=dimum attack=none,dimra,few_shot"),
        ("-m attack=all seed=0,1", "-m -m attack=none,dimra,few_shot seed=0,1"),
        ("attack=few_shot,all", "-m attack=few_shot,none,dimra"),
        ("attack=all,dimra --multirun", "-m attack=none,dimra,few_shot --multirun"),
        ("attack=dimra", "attack=dimra"),
        ("attack=dimra,few_shot -m", "attack=dimra,few_shot -m"),
        ("attack.name=all method=all", "attack.name=all method=all"),
        ("--cfg job attack=all", "--cfg job attack=none,dimra,few_shot"),
        ("", ""),
    ],
)
def test_attack_all_is_spelled_out(words: str, expanded: str):
    assert launch.every_attack(words.split(), lambda words: ATTACKS) == expanded.split()


def test_attack_all_is_every_attack_of_a_kind_of_model():
    assert {"dimra", "lora"} <= set(kinds.every_attack_of(["method=dimum"]))
    images = kinds.every_attack_of(["experiment=classification"])
    assert "relearn" in images and "lora" not in images and "prototype" not in images
    for forget in ("class:3", "3", "[3,5]", "seven"):
        words = ["experiment=classification", f"forget={forget}"]
        assert "prototype" in kinds.every_attack_of(words)


def test_attack_all_plans_every_attack(tmp_path: Path):
    command = [
        sys.executable,
        "run.py",
        *TINY,
        "attack=all",
        "dry_run=true",
        "tracking=none",
        f"paths.outputs={tmp_path}",
    ]
    done = forked.finish(command, cwd=ROOT, env=environment())
    assert done.returncode == 0, done.stderr
    planned = kinds.every_attack_of(TINY)
    assert done.stdout.count("Nothing was computed") == len(planned)


def test_a_multirun_over_attacks_ends_with_matrix_and_page(tmp_path: Path, capsys):
    account = Account()
    account.fail("attack=dimra_proxy", "attack.proxy.root=data: missing files")
    for record in (make_record(attack="none"), attacked(), attacked("few_shot")):
        record["config"] |= {
            "paths": {"outputs": str(tmp_path)},
            "tracking": {"backend": "none", "mode": "disabled"},
        }
        write_run(tmp_path, record)
        (tmp_path / "runs" / record["name"] / "report.html").write_text("")
        account.finish(record)
    assert account.end() == 1
    captured = capsys.readouterr()
    assert (
        "few-shot relearning †" in captured.out and f"{tmp_path}/report/index.html" in captured.out
    )
    assert "1 of 4 runs failed" in captured.err
    page = Page((tmp_path / "report" / "index.html").read_text())
    links = [reference for reference in page.references if not reference.startswith(("data:", "#"))]
    assert len(links) == 3 and all((tmp_path / "report" / link).is_file() for link in links)
