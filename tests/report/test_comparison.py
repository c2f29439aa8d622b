"""Groups of runs side by side: what is averaged, what never is, and what the files hold."""

import csv
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_up import (
    before_protocols,
    make_record,
    wilson,
    with_levels,
    with_new_measurements,
    without_rows,
    write_run,
)
from report_command import Page
from rich.console import Console
from scipy import stats

from unrelearn.report import comparison, render
from unrelearn.report.page import write_page
from unrelearn.report.records import PAGE, collect, read_record
from unrelearn.report.sections import comparison_page
from unrelearn.report.stats import t_interval
from unrelearn.report.table import results


def curves(made) -> list[tuple]:
    """Recovery figures of the only table."""
    (members,) = made.tables.values()
    return comparison.recovery_figures(made, members)


def three_seeds(**options) -> list[dict]:
    values = ((0.012, 0.12), (0.02, 0.16), (0.004, 0.11))
    return [
        make_record(forget=(0.97, u), attacked=(0.02, 0.04, 0.06, 0.08, a), seed=seed, **options)
        for seed, (u, a) in enumerate(values)
    ]


def test_t_interval_against_scipy():
    values = [0.12, 0.16, 0.11, 0.3]
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(expected)


def test_mean_over_seeds_and_its_interval():
    made = results(three_seeds())
    attacked = made.estimates[0]["attacked_forget_accuracy@1.0"]
    assert (attacked.mean, attacked.low, attacked.high, attacked.n) == pytest.approx(
        (0.13, 0.11, 0.16, 3)
    )
    assert made.groups[0].seeds == "n=3" and made.groups[0].note == ""
    assert "| 12.0, 16.0, 11.0 |" in comparison.to_markdown(made), "three seeds make no interval"
    assert "> 400" in comparison.to_markdown(made)


@pytest.mark.parametrize("width, full", [(80, False), (200, True)])
def test_show_leaves_out_columns_that_a_narrow_terminal_cannot_hold(width, full):
    console = Console(width=width, file=io.StringIO())
    comparison.show(results(three_seeds()), console)
    text = console.file.getvalue()
    assert (
        ("retain %" in text) == full
        and "12.0," in text
        and max(map(len, text.splitlines())) <= width
    )


def test_one_seed_falls_back_to_wilson_and_says_so():
    made = results([make_record()])
    ends = wilson(0.124)
    assert made.groups[0].seeds == "n=1"
    assert f"12.4 [{100 * ends['low']:.1f}, {100 * ends['high']:.1f}]" in comparison.to_markdown(
        made
    )


def test_steps_to_half_counts_seeds_that_never_got_there():
    records = three_seeds()
    records[0]["recovery"]["1.0"]["steps_to_half"] = 100
    made = results(records)
    assert "100 (1 of 3)" in comparison.to_markdown(made)


@pytest.mark.parametrize(
    "change, named",
    [
        (
            lambda r: r["config"]["sampler"].update(num_inference_steps=50),
            "sampler.num_inference_steps=50",
        ),
        (lambda r: r["config"]["oracle"]["main"].update(width=64), "oracle.main.width=64"),
        (
            lambda r: r["config"]["model"]["pretrain"].update(max_steps=9),
            "model.pretrain.max_steps=9",
        ),
        (
            lambda r: r["config"]["protocol"].update(contrast_stretch=True),
            "protocol.contrast_stretch=true",
        ),
        (lambda r: r["config"].update(precision="bf16-mixed"), 'precision="bf16-mixed"'),
        (
            lambda r: [
                v.update(n=100)
                for row in r["rows"]
                for v in row["metrics"]["forget_accuracy"].values()
            ],
            "num_images=100",
        ),
    ],
)
def test_other_measurements_never_share_a_table(change, named):
    records = three_seeds()
    change(records[2])
    made = results(records)
    assert [len(group.records) for group in made.groups] in ([1, 2], [2, 1])
    assert len(made.tables) == 2
    assert sum(named in title for title in made.tables) == 1


def test_two_protocols_never_share_a_table():
    records = three_seeds()
    records[1]["config"]["protocol"].update(name="clean")
    records[1]["protocol"] = "clean"
    records[2]["protocol"] = (
        "fast (sampler.num_inference_steps=20)"  # what is called fast has changed since
    )
    records.append(before_protocols(make_record(seed=3)))
    made = results(records)
    names = ["clean", "fast", "fast (sampler.num_inference_steps=20)", "not recorded"]
    assert list(made.tables) == [f"digits, model unet_tiny, protocol {name}" for name in names]
    assert all(len(group.records) == 1 for group in made.groups)
    for text in (
        comparison.to_markdown(made),
        comparison_page(made, made.tables, Path(".")).replace("\xa0", " "),
    ):
        assert all(f"protocol {name}" in text for name in names)
    assert r"protocol fast (sampler.num\_inference\_steps=20)" in comparison.to_latex(made)
    assert {row["protocol"] for row in csv.DictReader(io.StringIO(comparison.to_csv(made)))} == set(
        names
    )


def classifier(seed: int, protocol: str, validation: dict) -> dict:
    record = make_record(seed=seed, kind="classification", protocol=protocol, forget_classes=[])
    record["config"]["protocol"]["name"] = protocol
    augment = {"base": "none", "retrain": "none"}
    record["config"] |= {"references": {"count": 4}, "augment": augment, **validation}
    return record


def test_a_title_spells_out_of_many_changes_only_those_that_tables_differ_in():
    changed = (
        "sampler.num_images={}, sampler.retain_guidance_scales=[1.0, 2.0], sampler.second=None"
    )
    few, many = (make_record(protocol=f"fast ({changed.format(n)})") for n in (96, 48))
    plain = make_record(protocol="fast", dataset="mnist")
    start = "digits, model unet_tiny, protocol fast"
    assert [*results([few]).tables] == [f"{start} (3 settings changed)"]
    assert [*results([few, many | {"name": "many"}, plain]).tables] == [
        *(f"{start} (sampler.num_images={n}, 2 more settings changed)" for n in (48, 96)),
        "mnist, model unet_tiny, protocol fast",
    ]


def test_classifiers_of_other_held_out_images_never_share_a_table():
    held = {"share": 0.1, "seed": 1, "forget_split_seed": None}
    none = {**held, "share": 0.0}
    records = [
        classifier(0, "fast", {}),  # as it was recorded before images were held out
        classifier(1, "fast", {"validation": none}),
        classifier(2, "salun", {"validation": held}),
        classifier(3, "salun", {"validation": {**held, "forget_split_seed": 2}}),
    ]
    tables = results(records).tables
    seeds = {
        title: [r["seed"] for g in groups for r in g.records] for title, groups in tables.items()
    }
    named = "digits, model unet_tiny, protocol"
    assert seeds == {
        f"{named} fast": [0, 1],
        f"{named} salun (validation.forget_split_seed=null)": [2],
        f"{named} salun (validation.forget_split_seed=2)": [3],
    }


def test_records_from_before_protocols_load_and_are_averaged(tmp_path):
    for record in three_seeds():
        write_run(tmp_path, before_protocols(record))
    made = results(collect([tmp_path]))
    assert (
        made.groups[0].seeds == "n=3"
        and made.groups[0].table == "digits, model unet_tiny, protocol not recorded"
    )


def test_records_from_before_a_key_share_the_table_of_its_default():
    old, new, other = three_seeds()
    for record, noise in ((new, 0.0), (other, 0.2)):
        record["config"]["dataset"]["label_noise"] = noise
        record["config"]["model"] |= {"kind": "unrelearn.diffusion.kind.Denoisers", "network": None}
    assert len(results([old, new]).tables) == 1
    titles = list(results([old, new, other]).tables)
    assert len(titles) == 2 and "dataset.label_noise=0.2" in "".join(titles)


def test_tables_that_differ_in_more_than_is_spelled_out_stay_apart():
    records = three_seeds()
    for index, record in enumerate(records[1:]):
        record["config"]["oracle"].update(
            a=1, b=2, c=3, d=4, e=index
        )  # both differ from the first in five settings
    titles = list(results(records).tables)
    assert len(titles) == 3 and sum("oracle.d=4, and 1 more" in title for title in titles) == 2


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda r: r["config"]["method"].update(learning_rate=1e-3), "method.learning_rate=0.001"),
        (lambda r: r["config"]["attack"].update(retain_fraction=0.1), "attack.retain_fraction=0.1"),
        (lambda r: r["rows"].pop(), "measured_budgets=[25, 50, 100, 200]"),
    ],
)
def test_other_settings_are_another_row(change, named):
    records = three_seeds()
    change(records[2])
    made = results(records)
    assert sorted(len(group.records) for group in made.groups) == [1, 2] and len(made.tables) == 1
    assert sum(named in group.note for group in made.groups) == 1


def test_rates_of_one_attack_are_one_line_however_much_else_differs():
    """What is folded of a method's many settings says nothing of the rate."""
    settings = dict.fromkeys(("ema", "steps", "weight", "cover", "batch"), 1)
    records = []
    for number, (changed, rate) in enumerate(itertools.product((0, 1), (1e-4, 1e-3))):
        record = make_record(name=str(number))
        record["config"]["method"] |= {name: value + changed for name, value in settings.items()}
        record["config"]["attack"]["learning_rate"] = rate
        records.append(record)
    groups = results(records).groups
    assert len(groups) == 4 and len({group.method_note for group in groups}) == 2
    assert {group.attack_note for group in groups} == {""}
    assert sorted("attack.learning_rate=0.001" in group.note for group in groups) == [0, 0, 1, 1]


def test_another_object_among_the_settings_is_named():
    records = three_seeds(attack="dimra_proxy")
    for record in records:
        record["config"]["attack"]["proxy"] = {
            "_target_": "unrelearn.data.mnist.MNIST",
            "root": f"data/{record['seed']}",
        }
    records[2]["config"]["attack"]["proxy"]["_target_"] = (
        "unrelearn.data.fashion_mnist.FashionMNIST"
    )
    notes = {group.note: len(group.records) for group in results(records).groups}
    assert notes == {'attack.proxy="MNIST"': 2, 'attack.proxy="FashionMNIST"': 1}


def test_levels_are_compared_at_the_last_one_and_have_no_steps_to_half():
    values = ((0.5, 0.12), (0.4, 0.16), (0.6, 0.11))
    records = [
        with_levels(make_record(attack="quantize", seed=seed), "bits", {8: first, 4: last})
        for seed, (first, last) in enumerate(values)
    ]
    made = results(records)
    assert made.groups[0].budgets == (8, 4) and made.estimates[0][
        "attacked_forget_accuracy@1.0"
    ].mean == pytest.approx(0.13)
    assert not [
        column for column in made.estimates[0] if column.startswith(("steps_to_half", "area"))
    ]
    assert "| – | – |" in comparison.to_markdown(made)


@pytest.mark.parametrize(
    "change", [{"forget_classes": [3]}, {"dataset": "mnist"}, {"class_names": list("abcdefghij")}]
)
def test_other_data_and_other_classes_are_never_averaged(change):
    records = three_seeds()
    records[2].update(change)
    assert sorted(len(group.records) for group in results(records).groups) == [1, 2]


def test_diverged_and_failed_runs_show_their_status():
    records = three_seeds()
    records[2] = without_rows(records[2], 4)
    records.append(
        make_record(
            method="salun", rows=[], recovery=None, status="failed", error="out | of memory"
        )
    )
    made = results(records)
    dimum, salun = made.groups
    assert dimum.seeds == "n=2, 1 diverged" and salun.seeds == "1 failed"
    # measured before it diverged: counted, and said; the last budget was never reached: not counted
    assert made.estimates[0]["unlearned_forget_accuracy@1.0"].n == 3
    assert made.estimates[0]["attacked_forget_accuracy@1.0"].n == 2
    text = comparison.to_markdown(made)
    assert "(n=3)" in text and "failed (out \\| of memory)" in text
    assert "failed (out | of memory)" in comparison_page(made, made.tables, Path("."))


def test_a_repeated_run_is_not_another_seed():
    again = make_record(name="again", created="2027-01-01T00:00:00+00:00")
    failed = make_record(
        name="failed", created="2028-01-01T00:00:00+00:00", status="failed", rows=[]
    )
    made = results([make_record(), again, failed])
    assert [record["name"] for record in made.groups[0].records] == ["again"]


def test_collect_names_broken_files_and_keeps_the_newest(tmp_path, caplog):
    write_run(tmp_path / "a", make_record(seconds=1.0))
    write_run(tmp_path / "b", make_record(seconds=2.0, created="2027-01-01T00:00:00+00:00"))
    broken, empty, future = (
        tmp_path / name / "result.json" for name in ("broken", "empty", "future")
    )
    for file, text in ((broken, "{"), (empty, "{}"), (future, json.dumps(make_record(version=2)))):
        file.parent.mkdir()
        file.write_text(text)
    (record,) = collect([tmp_path, tmp_path / "a"])
    assert record["seconds"] == 2.0 and record["path"].endswith("result.json")
    for file, reason in ((broken, "cannot be read"), (empty, "missing"), (future, "version 2")):
        assert any(str(file) in line and reason in line for line in caplog.messages)
    with pytest.raises(ValueError, match="missing"):
        read_record(empty)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", 7),
        ("rows", ["x"]),
        ("config", []),
        ("method", None),
        ("seed", []),
        ("name", {}),
        ("forget_classes", 7),
        ("protocol", True),
        ("recovery", 7),
        ("stages", -1.5),
        ("class_names", None),
        ("rows", [{"model": "original", "step": None, "metrics": 7}]),
        ("rows", [{"model": "original", "step": None, "metrics": {"fd_oracle": 7}}]),
    ],
)
def test_a_record_edited_by_hand_is_skipped_and_the_others_are_compared(
    tmp_path: Path, caplog, key: str, value: object
):
    write_run(tmp_path / "good", make_record())
    write_run(tmp_path / "odd", make_record(name="odd"))
    (file,) = (tmp_path / "odd").rglob("result.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert [record["name"] for record in collect([tmp_path])] == [make_record()["name"]]
    (line,) = caplog.messages
    assert str(file) in line and f"not a record: {key}" in line


def test_fid_takes_the_place_of_the_other_distance_where_every_row_has_it():
    records = [
        *map(with_new_measurements, three_seeds()),
        make_record(method="retrain", status="failed", rows=[]),
    ]
    text = comparison.to_markdown(results(records))
    assert (
        "| FID (N=450) before | FID (N=450) after |" in text
        and "| 131.3, 132.3, 133.3 |" in text
        and "FD (N" not in text
    )
    text = comparison.to_markdown(results([*records, make_record(method="salun")]))
    assert (
        "| FD (N=450) before | FD (N=450) after |" in text
        and "FID (N" not in text
        and "| 9.30 " in text
    )


def test_csv_holds_every_measurement():
    rows = csv.DictReader(
        io.StringIO(comparison.to_csv(results(list(map(with_new_measurements, three_seeds())))))
    )
    found = {row["measurement"]: row for row in rows if row["guidance"] == "1.0"}
    expected = {
        "fid": 132.27,
        "kid": 1.0212,
        "inception_score": 8.912,
        "precision_oracle": 0.811,
        "recall_oracle": 0.622,
        "density_oracle": 1.044,
        "coverage_oracle": 0.933,
        "fd_oracle": 9.3,
        "kid_oracle": 0.0123,
    }
    for name, value in expected.items():
        assert (
            float(found[f"unlearned_{name}"]["mean"]) == pytest.approx(value)
            and found[f"unlearned_{name}"]["n"] == "3"
        )
    assert float(found["fid_floor"]["mean"]) == pytest.approx(18.04)
    assert float(found["inception_score_real"]["mean"]) == pytest.approx(10.83)
    inception = [with_new_measurements(make_record(), features="inception")]
    assert "unlearned_precision," in comparison.to_csv(results(inception))


def test_csv_parses_back():
    made = results(
        [*three_seeds(), make_record(method="salun", status="failed", rows=[], recovery=None)]
    )
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv(made))))
    found = {(r["method"], r["measurement"], r["guidance"]): r for r in rows}
    attacked = found["dimum", "attacked_forget_accuracy", "1.0"]
    expected = made.estimates[0]["attacked_forget_accuracy@1.0"]
    assert [float(attacked[k]) for k in ("mean", "low", "high")] == [
        expected.mean,
        expected.low,
        expected.high,
    ]
    assert (
        attacked["protocol"] == "fast"
        and attacked["table"] == "digits, model unet_tiny, protocol fast"
    )
    assert attacked["n"] == "3" and attacked["seeds"] == "0 1 2"
    assert found["salun", "", ""]["failed"] == "1"
    assert all(None not in row and None not in row.values() for row in rows)


def test_latex_is_escaped_and_balanced():
    assert (
        render.latex(r"50% of a_b & {c} \d ~ #1 ^ $ – ±")
        == r"50\% of a\_b \& \{c\} \textbackslash{}d \textasciitilde{} \#1 \textasciicircum{} \$ --"
        r" $\pm$"
    )
    text = comparison.to_latex(results(three_seeds(dataset="50%_{x}")))
    assert text.count(r"\begin{") == text.count(r"\end{") == 2 and r"\toprule" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert (
        len({len(re.findall(r"(?<!\\)&", line)) for line in body}) == 1
    )  # header and rows: as many cells


def test_comparison_page_links_to_reports_and_escapes(tmp_path):
    record = make_record(command="python run.py <b>")
    write_run(tmp_path, record)
    write_page(record, tmp_path, tmp_path / "runs" / record["name"] / PAGE)
    made = results(collect([tmp_path / "runs"]))
    folder = tmp_path / "report" / "compare"
    folder.mkdir(parents=True)
    text = comparison_page(made, made.tables, folder)
    page = Page(text)
    links = [reference for reference in page.references if not reference.startswith(("data:", "#"))]
    assert f"#{record['name']}" in page.references and f'id="{record["name"]}"' in text
    assert links == [f"../../runs/{record['name']}/{PAGE}"]
    assert (folder / links[0]).is_file()
    assert len(page.images) == 2 and "run.py &lt;b&gt;" in text


def test_a_curve_is_the_strongest_of_the_learning_rates_at_each_budget_of_each_seed():
    peaks = {
        1e-4: ((0.1, 0.5, 0.2, 0.2, 0.2), (0.1, 0.1, 0.1, 0.1, 0.1)),
        1e-3: ((0.3, 0.1, 0.1, 0.1, 0.1), (0.2, 0.3, 0.1, 0.1, 0.1)),
    }
    records = []
    for rate, seeds in peaks.items():
        for seed, attacked in enumerate(seeds):
            records.append(make_record(attacked=attacked, seed=seed, name=f"{rate}-{seed}"))
            records[-1]["config"]["attack"]["learning_rate"] = rate
    made = results(records)
    (title, figure), _ = curves(made)
    assert title.endswith("guidance 1, strongest of 2 learning rates")
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "DiMUM, n=2"]
    assert list(line.get_ydata()) == pytest.approx([1.2, 25.0, 40.0, 15.0, 15.0, 15.0])
    assert {group.style for group in made.groups} == {0}


def test_an_attack_in_two_settings_has_two_figures_and_a_method_one_line_in_each():
    records = []
    for source in ("original", "unlearned"):
        for method in ("dimum", "salun"):
            records.append(
                make_record(method=method, attack="dimra_aux", name=f"{method}-{source}")
            )
            records[-1]["config"]["attack"]["source"] = source
    made = results([make_record(), *records])
    figures = [(title, figure) for title, figure in curves(made) if "guidance 1" in title]
    assert [title.partition(",")[0] for title, _ in figures] == [
        "DiMRA",
        'DiMRA aux (source="original")',
        'DiMRA aux (source="unlearned")',
    ]
    for _, figure in figures[1:]:
        assert [line.get_label() for line in figure.axes[0].lines if "n=" in line.get_label()] == [
            "DiMUM, n=1",
            "SalUn, n=1",
        ]
    assert {group.style for group in made.groups if group.first["method"] == "dimum"} == {0}


def test_a_method_keeps_its_colour_in_every_figure():
    records = [make_record(method=m) for m in ("dimum", "salun")] + [
        make_record(method="salun", attack="few_shot")
    ]
    made = results(records)
    colours = {}
    for _, figure in curves(made):
        for line in figure.axes[0].lines:
            if line.get_label().startswith("SalUn"):
                colours.setdefault("SalUn", set()).add(line.get_color())
    assert len(curves(made)) == 4 and len(colours["SalUn"]) == 1


def test_a_recovery_that_is_not_defined_is_in_no_mean():
    curve = {
        "budgets": [0, 400],
        "forget_accuracy": [0.0, 0.2],
        "area": 0.1,
        "steps_to_half": 100.0,
    }
    absent = curve | {"steps_to_half": None, "nothing_to_recover": True}

    def half(*curves: dict):
        records = [
            make_record(seed=seed, recovery={"1.0": curve}) for seed, curve in enumerate(curves)
        ]
        return results(records).estimates[0].get("steps_to_half@1.0")

    assert half(absent, absent) is None
    assert (half(curve, curve, absent).mean, half(curve, curve, absent).n) == (100.0, 2)
