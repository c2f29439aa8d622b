"""The report: numbers in tables, wording of the verdict, the page, the comparison, the command
line.

The records here are small made-up ones in the format of ``result.json``: they test the format, they
are not results.
"""

import csv
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file
from scipy import stats
from sklearn.datasets import load_digits

from unrelearn.report import compare, figures, read_record, significant
from unrelearn.report.groups import collect, comparison, t_interval
from unrelearn.report.page import FILE_NAME, write_page
from unrelearn.report.table import oracle_line, print_record, recovery_line, summary_cells, verdict

ROOT = Path(__file__).parents[1]

BUDGETS = (25, 50, 100, 200, 400)
N = 500


def wilson(value: float, n: int = N) -> dict:
    z = 1.959964
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"value": value, "low": float(middle - half), "high": float(middle + half), "n": n}


def write_samples(folder: Path, forget_share: float, rng: np.random.Generator) -> None:
    """Digits in the place of samples: under class 7, the given share of sevens and otherwise
    threes.
    """
    digits = load_digits()
    images = np.clip(digits.images * 16, 0, 255).astype(np.uint8)[:, None]
    by_class = [images[digits.target == k] for k in range(10)]
    tensors = {}
    for guidance in ("1.0", "2.0"):
        seen = np.where(rng.random(24) < forget_share, 7, 3)
        tensors[f"forget/{guidance}"] = np.stack([by_class[k][i] for i, k in enumerate(seen)])
        tensors[f"forget/{guidance}/labels"] = np.full(24, 7, dtype=np.int64)
    labels = np.array([k for k in range(10) if k != 7] * 4, dtype=np.int64)
    tensors["retain/1.0"] = np.stack([by_class[k][i] for i, k in enumerate(labels)])
    tensors["retain/1.0/labels"] = labels
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "samples.safetensors")


def make_row(model: str, step: int | None, forget: float, retain: float | None, key: str) -> dict:
    replaced = round(N * (1 - forget))
    counts = [0, 0, 0, replaced - replaced // 4, 0, 0, 0, N - replaced, 0, replaced // 4]
    metrics = {
        "forget_accuracy": {"1.0": wilson(forget), "2.0": wilson(forget / 2)},
        "entropy": {"1.0": 0.31, "2.0": 0.2},
        "replacement": {"1.0": counts, "2.0": counts},
    }
    if retain is not None:
        per_class = [None if k == 7 else retain - 0.003 * k for k in range(10)]
        metrics["retain_accuracy"] = {"1.0": {**wilson(retain, 900), "per_class": per_class}}
        metrics["fd_oracle"] = {"1.0": {"value": 9.1 + 10 * (1 - retain), "floor": 4.0, "n": 450}}
        metrics["kid_oracle"] = {"1.0": {"value": 0.0123, "std": 0.002, "floor": 0.0004}}
        held_out = wilson(forget)
        metrics["agreement"] = {
            "1.0": {"forget": 0.97, "retain": 0.99, "held_out_forget_accuracy": held_out}
        }
    return {
        "model": model,
        "step": step,
        "evaluate": f"evaluate/{key}",
        "weights": f"weights/{key} (ema)",
        "samples": f"artifacts/samples/{key}",
        "status": "finished",
        "metrics": metrics,
    }


def make_record(
    forget=(0.97, 0.012),
    attacked=(0.016, 0.03, 0.05, 0.09, 0.124),
    method="dimum",
    attack="dimra",
    seed=0,
    retain=(0.985, 0.98, 0.975),
    **changes,
) -> dict:
    name = f"digits-{method}-{attack}-7-seed{seed}-1a2b3c4d"
    rows = [make_row("original", None, forget[0], retain[0], f"{name}-o")]
    rows.append(make_row("unlearned", None, forget[1], retain[1], f"{name}-u"))
    if attack != "none":
        for step, value in zip(BUDGETS, attacked, strict=True):
            rows.append(
                make_row(
                    "attacked",
                    step,
                    value,
                    retain[2] if step == BUDGETS[-1] else None,
                    f"{name}-{step}",
                )
            )
    curve = [forget[1], *attacked]
    recovery = {
        g: {
            "budgets": [0, *BUDGETS],
            "forget_accuracy": [v / s for v in curve],
            "area": 0.21 / s,
            "steps_to_half": 130 if curve[-1] > forget[0] / 2 else None,
        }
        for g, s in (("1.0", 1), ("2.0", 2))
    }
    stage = {
        "key": "ab12cd34ef56",
        "status": "computed",
        "seconds": 101.2,
        "peak_memory_mib": 812.0,
        "device": "cpu",
    }
    record = {
        "version": 1,
        "name": name,
        "command": f"python run.py method={method} attack={attack} seed={seed}",
        "created": f"2026-11-23T10:00:0{seed}+00:00",
        "status": "finished",
        "error": None,
        "config": {
            "seed": seed,
            "forget": 7,
            "precision": "32-true",
            "dataset": {"_target_": "unrelearn.data.digits.Digits"},
            "model": {
                "name": "unet_tiny",
                "unet": {"block_out_channels": [32, 64]},
                "pretrain": {"max_steps": 2000},
            },
            "method": {"_target_": f"unrelearn.methods.{method}.Method", "learning_rate": 1e-4},
            "attack": {"_target_": f"unrelearn.attacks.{attack}.Attack", "budgets": [0, *BUDGETS]},
            "protocol": {
                "name": "fast",
                "contrast_stretch": False,
                "reference_images_per_class": None,
            },
            "sampler": {
                "name": "ddim",
                "num_inference_steps": 20,
                "guidance_scales": [1.0, 2.0],
                "num_images": N,
            },
            "oracle": {"main": {"width": 32, "seed": 0}, "max_steps": 500},
        },
        "protocol": "fast",
        "dataset": "digits",
        "method": method,
        "attack": attack,
        "seed": seed,
        "class_names": [str(k) for k in range(10)],
        "forget_classes": [7],
        "oracle": {"test_accuracy": wilson(0.986), "held_out_test_accuracy": wilson(0.978)},
        "rows": rows,
        "stages": [
            {"stage": "pretrain", **stage},
            {"stage": "unlearn", **stage, "status": "reused"},
        ],
        "recovery": None if attack == "none" else recovery,
        "seconds": 211.0,
    }
    return {**record, **changes}


def with_levels(
    record: dict, unit: str, levels: dict[float, float], sees_forgotten: bool = False
) -> dict:
    """The record as it would be of an attack that takes no steps: forget accuracy by level, in the
    order measured.
    """
    name, curve = record["name"], list(levels.values())
    rows = record["rows"][:2] + [
        make_row("attacked", level, value, 0.97, f"{name}-{level}")
        for level, value in levels.items()
    ]
    recovery = {
        g: {
            "budgets": list(levels),
            "forget_accuracy": [v / s for v in curve],
            "area": None,
            "steps_to_half": None,
        }
        for g, s in (("1.0", 1), ("2.0", 2))
    }
    strongest = {
        g: {"value": max(curve) / s, "at": max(levels, key=levels.get)}
        for g, s in (("1.0", 1), ("2.0", 2))
    }
    return {
        **record,
        "rows": rows,
        "recovery": recovery,
        "strongest": strongest,
        "attack_unit": unit,
        "attack_sees_forgotten": sees_forgotten,
    }


NEW = ("fid", "kid", "inception_score", "precision_recall", "density_coverage")


def with_new_measurements(
    record: dict, features: str = "oracle", guidance: str = "1.0", only: tuple[str, ...] = NEW
) -> dict:
    """The record as it would be with these measurements too, made on every row."""
    for index, row in enumerate(record["rows"]):
        new = {
            "fid": {
                "value": 31.27 + 100 * index + record["seed"],
                "floor": 18.04,
                "n": 450,
                "reference_n": 1168,
            },
            "kid": {"value": 0.0212 + index, "std": 0.001, "n": 450, "floor": 0.0007},
            "inception_score": {"value": 8.912, "std": 0.2, "n": 450, "real": 10.83},
            "precision_recall": {
                "precision": 0.811,
                "recall": 0.622,
                "n": 450,
                "k": 3,
                "features": features,
            },
            "density_coverage": {
                "density": 1.044,
                "coverage": 0.933,
                "n": 450,
                "k": 5,
                "features": features,
            },
        }
        row["metrics"] |= {name: {guidance: new[name]} for name in only}
    return record


def before_protocols(record: dict) -> dict:
    """The record as it was written before results named their protocol."""
    config = {key: value for key, value in record["config"].items() if key != "protocol"}
    return {**{key: value for key, value in record.items() if key != "protocol"}, "config": config}


def write_run(outputs: Path, record: dict, samples: bool = False) -> Path:
    path = outputs / "runs" / record["name"] / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    if samples:
        for row in record["rows"]:
            forget = row["metrics"]["forget_accuracy"]["1.0"]["value"]
            write_samples(outputs / row["samples"], forget, np.random.default_rng(0))
    return path


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


def without_rows(record: dict, keep: int) -> dict:
    """The record as it would be had the run diverged after so many rows."""
    return {**record, "rows": record["rows"][:keep], "recovery": None, "status": "diverged"}


# ---- terminal
# --------------------------------------------------------------------------------------------------


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
# --------------------------------------------------------------------------------------------------

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
                "DiMUM did not lower class 7: 97 % before, 96 % after; DiMRA leaves it at 96 %"
                f" after 400 steps {PLAIN}"
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


def test_samples_of_a_diverged_attack_are_those_of_the_last_budget_it_survived(tmp_path):
    record = make_record()
    write_run(tmp_path, record, samples=True)
    record["rows"][-1].update(status="diverged", metrics={}, samples=None)
    strips = figures.sample_strips(record, tmp_path, "forget", "1.0")
    assert [strip.label for strip in strips] == ["original", "unlearned", "attacked @ 200"]


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
        (group,) = comparison(records)
        return group.estimates.get("steps_to_half@1.0")

    assert half(absent, absent) is None
    assert (half(curve, curve, absent).mean, half(curve, curve, absent).n) == (100.0, 2)


# ---- figures
# --------------------------------------------------------------------------------------------------


def test_sample_columns_are_the_same_images_in_every_row(tmp_path):
    record = make_record()
    write_run(tmp_path, record, samples=True)
    strips = figures.sample_strips(record, tmp_path, "retain", "1.0")
    assert [strip.label for strip in strips] == ["original", "unlearned", "attacked @ 400"]
    assert len({strip.names for strip in strips}) == 1
    assert set(strips[0].names) == set("012345689") and list(strips[0].names) == sorted(
        strips[0].names
    )
    forget = figures.sample_strips(record, tmp_path, "forget", "1.0")[0]
    stored = figures.load_samples(tmp_path / record["rows"][0]["samples"] / "samples.safetensors")[
        "forget/1.0"
    ]
    assert (forget.images == stored[:12].transpose(0, 2, 3, 1)).all()


def test_tiles_enlarge_pixels_to_squares():
    images = np.arange(2 * 2 * 2 * 1, dtype=np.uint8).reshape(2, 2, 2, 1)
    picture = figures.tiles(images, size=4, gap=1)
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
    (_, figure), _ = compare.recovery_figures(comparison(records))
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
        for text in figures.replacement_figure(record, "1.0").axes[0].get_xticklabels()
    ]
    assert {"class 7", "class 60", "other"} <= set(names) and len(names) == figures.MAX_CLASSES + 1
    worst = [
        text.get_text() for text in figures.retain_figure(record, "1.0").axes[0].get_xticklabels()
    ]
    assert "class 42" in worst and "class 7" not in worst


@pytest.mark.parametrize("classes", [10, 100])
def test_what_shows_nothing_has_a_bar_of_its_own(classes: int):
    record = make_record(class_names=[f"class {k}" for k in range(classes)])
    for row in record["rows"]:
        row["metrics"]["replacement"] = {"1.0": [300] * 9 + [0] * (classes - 9) + [100]}
    axes = figures.replacement_figure(record, "1.0").axes[0]
    names = [text.get_text() for text in axes.get_xticklabels()]
    place = names.index("nothing")
    assert place == min(classes, figures.MAX_CLASSES - 1) and names[:2] == ["class 0", "class 1"]
    assert axes.containers[0][place].get_height() == pytest.approx(100 / 28)
    assert axes.containers[0][names.index("class 7")].get_height() == pytest.approx(300 / 28)


# ---- page
# --------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a page refers to, and fails on tags that do not close."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.images, self.references, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        self.references += [values[key] for key in ("src", "href") if key in values]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def page_of(record: dict, outputs: Path) -> tuple[str, Page]:
    destination = outputs / "runs" / record["name"] / FILE_NAME
    write_page(record, outputs, destination)
    assert [
        file.name for file in destination.parent.glob(".*")
    ] == []  # nothing half-written is left behind
    text = destination.read_text(encoding="utf-8")
    return text, Page(text)


def test_page_is_self_contained_and_complete(tmp_path):
    record = make_record()
    write_run(tmp_path, record, samples=True)
    text, page = page_of(record, tmp_path)
    # three rows at two guidances and of the retained classes; recovery, replacement, retained
    # classes
    assert len(page.images) == 3 * 3 + 3
    assert all(
        i["src"].startswith("data:image/") and len(i["src"]) > 300 and i["alt"] for i in page.images
    )
    assert all(reference.startswith("data:") for reference in page.references)
    assert (
        "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)
        and "<script" not in text
        and "url(" not in text
    )
    words = " ".join("".join(page.words).replace("\xa0", " ").split())
    assert verdict(record) in words
    assert "seed 0 · protocol fast · 2026" in words and "Protocol fast. Forget accuracy" in words
    assert record["command"] in words and "num_inference_steps" in words and "ab12cd34" in words


def test_page_shows_and_explains_every_measurement_in_tables_that_fit(tmp_path):
    record = with_new_measurements(make_record())
    text, page = page_of(record, tmp_path)
    tables = [
        [cell.replace("<br>", " ") for cell in re.findall(r"<th(?: [^>]*)?>(.*?)</th>", table)]
        for table in text.split("<h2>Measurements</h2>")[1].split("<h2>")[0].split("<table>")[1:]
    ]
    assert [len(headers) for headers in tables] == [5, 7, 5] and {
        headers[0] for headers in tables
    } == {"model"}
    shown = [header for headers in tables for header in headers[1:]]
    assert sorted(h.replace("&nbsp;", " ") for h in shown) == sorted(
        h.replace("\n", " ") for h in summary_cells(record)[0][1:]
    )
    words = "".join(page.words).replace("\xa0", " ")
    assert "in Inception features; N = 450, reference: 1168 real training images" in words
    assert "k-th neighbour; N = 450, k = 3, features: oracle" in words
    assert "fast: contrast_stretch = false" in words
    plain, _ = page_of(make_record(), tmp_path)
    assert (
        "Inception features" not in plain
        and plain.split("<h2>Measurements</h2>")[1].split("<h2>")[0].count("<table>") == 1
    )


def test_page_of_a_diverged_row_whose_table_is_split(tmp_path):
    record = with_new_measurements(make_record(), only=("fid", "kid", "inception_score"))
    for row in record[
        "rows"
    ]:  # too many for one table, so that every kind of measurement would have its own
        row["metrics"]["forget_accuracy"] |= {f"{scale}.0": wilson(1.0) for scale in (3, 4, 5, 6)}
    record["rows"][-1].update(status="diverged", metrics={}, samples=None)
    text, _ = page_of(record, tmp_path)
    assert text.split("<h2>Measurements</h2>")[1].split("<h2>")[0].count("diverged") == 2


def test_page_of_an_attack_with_levels(tmp_path):
    _, page = page_of(BITS, tmp_path)
    words = " ".join("".join(page.words).replace("\xa0", " ").split())
    assert (
        "attacked @ 4 bits" in words
        and "50.0 % at 8 bits" in words
        and "Area:" not in words
        and "Budget 0" not in words
    )


def test_page_escapes_what_the_user_wrote(tmp_path):
    evil = "<img src=x onerror=alert(1)>\"'&"
    record = make_record(
        class_names=[evil] * 10, command=evil, error=evil, dataset=evil, protocol=evil
    )
    record["config"][evil] = evil
    write_run(tmp_path, record, samples=True)
    text, page = page_of(record, tmp_path)
    assert "<img src=x" not in text and "onerror=alert(1)&gt;" in text
    assert all("onerror" not in image for image in page.images)


@pytest.mark.parametrize(
    "record",
    [
        make_record(attack="none"),
        without_rows(make_record(), 1),
        without_rows(make_record(), 3),
        make_record(
            rows=[], stages=[], recovery=None, oracle=None, status="failed", error="disk full"
        ),
    ],
)
def test_page_of_a_partial_record_without_sample_files(tmp_path, record):
    _, page = page_of(record, tmp_path)
    assert all(image["src"].startswith("data:image/svg+xml") for image in page.images)
    assert "The sample files this record names are not on this disk." in "".join(page.words)


def test_one_missing_sample_file_is_named_not_hidden(tmp_path):
    record = make_record()
    write_run(tmp_path, record, samples=True)
    (tmp_path / record["rows"][1]["samples"] / "samples.safetensors").unlink()
    _, page = page_of(record, tmp_path)
    assert page.words.count("the sample file is not on this disk") == 3


# ---- comparison
# --------------------------------------------------------------------------------------------------


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
    (group,) = comparison(three_seeds())
    attacked = group.estimates["attacked_forget_accuracy@1.0"]
    assert (attacked.mean, attacked.low, attacked.high, attacked.n) == pytest.approx(
        (0.13, 0.11, 0.16, 3)
    )
    assert group.seeds == "n=3" and group.note == ""
    assert "| 12.0, 16.0, 11.0 |" in compare.to_markdown([group]), "three seeds make no interval"
    assert "> 400" in compare.to_markdown([group])


@pytest.mark.parametrize("width, full", [(80, False), (200, True)])
def test_show_leaves_out_columns_that_a_narrow_terminal_cannot_hold(width, full):
    console = Console(width=width, file=io.StringIO())
    compare.show(three_seeds(), console)
    text = console.file.getvalue()
    assert (
        ("retain %" in text) == full
        and "12.0," in text
        and max(map(len, text.splitlines())) <= width
    )


def test_one_seed_falls_back_to_wilson_and_says_so():
    (group,) = comparison([make_record()])
    ends = wilson(0.124)
    assert group.seeds == "n=1"
    assert f"12.4 [{100 * ends['low']:.1f}, {100 * ends['high']:.1f}]" in compare.to_markdown(
        [group]
    )


def test_steps_to_half_counts_seeds_that_never_got_there():
    records = three_seeds()
    records[0]["recovery"]["1.0"]["steps_to_half"] = 100
    (group,) = comparison(records)
    assert "100 (1 of 3)" in compare.to_markdown([group])


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
    groups = comparison(records)
    assert [len(group.records) for group in groups] in ([1, 2], [2, 1])
    assert len(compare.tables(groups)) == 2
    assert sum(named in title for title in compare.tables(groups)) == 1


def test_two_protocols_never_share_a_table():
    records = three_seeds()
    records[1]["config"]["protocol"].update(name="clean")
    records[1]["protocol"] = "clean"
    records[2]["protocol"] = (
        "fast (sampler.num_inference_steps=20)"  # what is called fast has changed since
    )
    records.append(before_protocols(make_record(seed=3)))
    groups = comparison(records)
    names = ["clean", "fast", "fast (sampler.num_inference_steps=20)", "not recorded"]
    assert list(compare.tables(groups)) == [
        f"digits, model unet_tiny, protocol {name}" for name in names
    ]
    assert all(len(group.records) == 1 for group in groups)
    for text in (
        compare.to_markdown(groups),
        compare.to_html(groups, Path(".")).replace("&nbsp;", " "),
    ):
        assert all(f"protocol {name}" in text for name in names)
    assert r"protocol fast (sampler.num\_inference\_steps=20)" in compare.to_latex(groups)
    assert {row["protocol"] for row in csv.DictReader(io.StringIO(compare.to_csv(groups)))} == set(
        names
    )


def test_records_from_before_protocols_load_and_are_averaged(tmp_path):
    for record in three_seeds():
        write_run(tmp_path, before_protocols(record))
    (group,) = comparison(collect([tmp_path]))
    assert group.seeds == "n=3" and group.table == "digits, model unet_tiny, protocol not recorded"


def test_tables_that_differ_in_more_than_is_spelled_out_stay_apart():
    records = three_seeds()
    for index, record in enumerate(records[1:]):
        record["config"]["oracle"].update(
            a=1, b=2, c=3, d=4, e=index
        )  # both differ from the first in five settings
    titles = list(compare.tables(comparison(records)))
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
    groups = comparison(records)
    assert (
        sorted(len(group.records) for group in groups) == [1, 2]
        and len(compare.tables(groups)) == 1
    )
    assert sum(named in group.note for group in groups) == 1


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
    notes = {group.note: len(group.records) for group in comparison(records)}
    assert notes == {'attack.proxy="MNIST"': 2, 'attack.proxy="FashionMNIST"': 1}


def test_levels_are_compared_at_the_last_one_and_have_no_steps_to_half():
    values = ((0.5, 0.12), (0.4, 0.16), (0.6, 0.11))
    records = [
        with_levels(make_record(attack="quantize", seed=seed), "bits", {8: first, 4: last})
        for seed, (first, last) in enumerate(values)
    ]
    (group,) = comparison(records)
    assert group.budgets == (8, 4) and group.estimates[
        "attacked_forget_accuracy@1.0"
    ].mean == pytest.approx(0.13)
    assert not [
        column for column in group.estimates if column.startswith(("steps_to_half", "area"))
    ]
    assert "| – | – |" in compare.to_markdown([group])


@pytest.mark.parametrize(
    "change", [{"forget_classes": [3]}, {"dataset": "mnist"}, {"class_names": list("abcdefghij")}]
)
def test_other_data_and_other_classes_are_never_averaged(change):
    records = three_seeds()
    records[2].update(change)
    assert sorted(len(group.records) for group in comparison(records)) == [1, 2]


def test_diverged_and_failed_runs_show_their_status():
    records = three_seeds()
    records[2] = without_rows(records[2], 4)
    records.append(
        make_record(
            method="salun", rows=[], recovery=None, status="failed", error="out | of memory"
        )
    )
    groups = comparison(records)
    dimum, salun = groups
    assert dimum.seeds == "n=2, 1 diverged" and salun.seeds == "1 failed"
    # measured before it diverged: counted, and said; the last budget was never reached: not counted
    assert dimum.estimates["unlearned_forget_accuracy@1.0"].n == 3
    assert dimum.estimates["attacked_forget_accuracy@1.0"].n == 2
    text = compare.to_markdown(groups)
    assert "(n=3)" in text and "failed (out \\| of memory)" in text
    assert "failed (out | of memory)" in compare.to_html(groups, Path("."))


def test_a_repeated_run_is_not_another_seed():
    again = make_record(name="again", created="2027-01-01T00:00:00+00:00")
    failed = make_record(
        name="failed", created="2028-01-01T00:00:00+00:00", status="failed", rows=[]
    )
    (group,) = comparison([make_record(), again, failed])
    assert [record["name"] for record in group.records] == ["again"]


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


def test_fid_takes_the_place_of_the_other_distance_where_every_row_has_it():
    records = [
        *map(with_new_measurements, three_seeds()),
        make_record(method="retrain", status="failed", rows=[]),
    ]
    text = compare.to_markdown(comparison(records))
    assert (
        "| FID (N=450) before | FID (N=450) after |" in text
        and "| 131.3, 132.3, 133.3 |" in text
        and "FD (N" not in text
    )
    text = compare.to_markdown(comparison([*records, make_record(method="salun")]))
    assert (
        "| FD (N=450) before | FD (N=450) after |" in text
        and "FID (N" not in text
        and "| 9.30 " in text
    )


def test_csv_holds_every_measurement():
    rows = csv.DictReader(
        io.StringIO(compare.to_csv(comparison(list(map(with_new_measurements, three_seeds())))))
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
    assert "unlearned_precision," in compare.to_csv(comparison(inception))


def test_csv_parses_back():
    groups = comparison(
        [*three_seeds(), make_record(method="salun", status="failed", rows=[], recovery=None)]
    )
    rows = list(csv.DictReader(io.StringIO(compare.to_csv(groups))))
    found = {(r["method"], r["measurement"], r["guidance"]): r for r in rows}
    attacked = found["dimum", "attacked_forget_accuracy", "1.0"]
    expected = groups[0].estimates["attacked_forget_accuracy@1.0"]
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
        compare.latex(r"50% of a_b & {c} \d ~ #1 ^ $ – ±")
        == r"50\% of a\_b \& \{c\} \textbackslash{}d \textasciitilde{} \#1 \textasciicircum{} \$ --"
        r" $\pm$"
    )
    text = compare.to_latex(comparison(three_seeds(dataset="50%_{x}")))
    assert text.count(r"\begin{") == text.count(r"\end{") == 2 and r"\toprule" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert (
        len({len(re.findall(r"(?<!\\)&", line)) for line in body}) == 1
    )  # header and rows: as many cells


def test_comparison_page_links_to_reports_and_escapes(tmp_path):
    record = make_record(command="python run.py <b>")
    write_run(tmp_path, record)
    write_page(record, tmp_path, tmp_path / "runs" / record["name"] / FILE_NAME)
    groups = comparison(collect([tmp_path / "runs"]))
    folder = tmp_path / "report" / "compare"
    folder.mkdir(parents=True)
    text = compare.to_html(groups, folder)
    page = Page(text)
    links = [reference for reference in page.references if not reference.startswith(("data:", "#"))]
    assert f"#{record['name']}" in page.references and f'id="{record["name"]}"' in text
    assert links == [f"../../runs/{record['name']}/{FILE_NAME}"]
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
    groups = comparison(records)
    (title, figure), _ = compare.recovery_figures(groups)
    assert title.endswith("guidance 1, strongest of 2 learning rates")
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "DiMUM, n=2"]
    assert list(line.get_ydata()) == pytest.approx([1.2, 25.0, 40.0, 15.0, 15.0, 15.0])
    assert {group.style for group in groups} == {0}


def test_an_attack_in_two_settings_has_two_figures_and_a_method_one_line_in_each():
    records = []
    for source in ("original", "unlearned"):
        for method in ("dimum", "salun"):
            records.append(
                make_record(method=method, attack="dimra_aux", name=f"{method}-{source}")
            )
            records[-1]["config"]["attack"]["source"] = source
    groups = comparison([make_record(), *records])
    figures = [
        (title, figure)
        for title, figure in compare.recovery_figures(groups)
        if "guidance 1" in title
    ]
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
    assert {group.style for group in groups if group.first["method"] == "dimum"} == {0}


def test_a_method_keeps_its_colour_in_every_figure():
    records = [make_record(method=m) for m in ("dimum", "salun")] + [
        make_record(method="salun", attack="few_shot")
    ]
    groups = comparison(records)
    colours = {}
    for _, figure in compare.recovery_figures(groups):
        for line in figure.axes[0].lines:
            if line.get_label().startswith("SalUn"):
                colours.setdefault("SalUn", set()).add(line.get_color())
    assert len(compare.recovery_figures(groups)) == 4 and len(colours["SalUn"]) == 1


# ---- command line
# --------------------------------------------------------------------------------------------------


def report(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"}
    command = [sys.executable, str(ROOT / "scripts" / "report.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )


def test_command_line(tmp_path):
    for record in three_seeds():
        write_run(tmp_path / "outputs", record, samples=record["seed"] == 0)
    (tmp_path / "outputs" / "runs" / "broken").mkdir()
    (tmp_path / "outputs" / "runs" / "broken" / "result.json").write_text("{")
    done = report("--figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "report" / "compare"
    names = {file.name for file in folder.iterdir()}
    assert {
        "table.md",
        "table.csv",
        "table.tex",
        "index.html",
        "recovery-1.pdf",
        "recovery-1.png",
    } <= names
    assert "12.0, 16.0, 11.0" in done.stdout and "index.html" in done.stdout
    assert "skipped" in done.stderr and "broken" in done.stderr and "Traceback" not in done.stderr


def test_command_line_says_what_to_type(tmp_path):
    missing = report(cwd=tmp_path)
    assert missing.returncode == 2 and missing.stdout == ""
    assert len(missing.stderr.splitlines()) == 1 and "python run.py" in missing.stderr
    (tmp_path / "empty").mkdir()
    empty = report("empty", cwd=tmp_path)
    assert empty.returncode == 2 and "no result.json below empty" in empty.stderr
