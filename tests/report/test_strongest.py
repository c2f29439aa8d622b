"""What makes a verdict: replicates inside a seed, models that count, halves of the images, the
order, the scatter.

The records are small made-up ones in the format of ``result.json``, as in test_report.
"""

import csv
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from made_up import BUDGETS, make_record, wilson

from unrelearn.report import comparison, leaderboard, matrix, pivot
from unrelearn.report.panel import Panel, panels
from unrelearn.report.render import caption
from unrelearn.report.sections import comparison_page, matrix_sections
from unrelearn.report.stats import Measurement, average, estimate, estimate_text, intact
from unrelearn.report.strongest import reported, strongest
from unrelearn.report.summary import summary_cells
from unrelearn.report.table import results
from unrelearn.report.verdict import recovery_line, verdict
from unrelearn.report.verdicts import notes, ranked
from unrelearn.report.verdicts import verdict as verdict_on
from unrelearn.report.words import BROKE

RATES = (3e-4, 1e-3)


def annealed(
    method: str,
    end,
    attack="dimra",
    seed=0,
    attack_seed=0,
    rate=1e-3,
    settings="",
    retained=0.975,
    growth=1.0,
    peak=0.9,
    **options,
) -> dict:
    """A run whose learning rate falls to nought: high in the middle, `end` at the end, judged at
    every budget.
    """
    record = make_record(
        method=method, attack=attack, attacked=(0.02, 0.1, peak, peak, end), seed=seed, **options
    )
    record["config"]["attack"] |= {
        "lr_schedule": "cosine",
        "learning_rate": rate,
        "seed": attack_seed,
    }
    record["config"]["method"]["factor"] = settings or None
    for row in record["rows"][2:]:
        judged(row, retained, growth * record["rows"][1]["metrics"]["fd_oracle"]["1.0"]["value"])
    name = f"{method}{settings}-{attack}-{seed}-{attack_seed}-{rate}"
    return {
        **record,
        "name": name,
        "attack_seed": attack_seed,
        "attack_unit": "steps",
        "attack_sees_forgotten": False,
    }


def judged(row: dict, retained: float, distance: float, n: int = 450) -> None:
    row["metrics"]["retain_accuracy"] = {"1.0": wilson(retained, 900)}
    row["metrics"]["fd_oracle"] = {"1.0": {"value": distance, "n": n}}


def with_hits(row: dict, first: float, second: float, n: int = 100) -> None:
    """So many of each half of the images."""
    halves = [np.arange(n // 2) < round(share * n / 2) for share in (first, second)]
    hits = "".join("01"[hit] for half in halves for hit in half.astype(int))
    row["metrics"]["forget_accuracy"]["1.0"] = {**wilson(hits.count("1") / n, n), "hits": hits}


def the_board(records: list[dict]) -> Panel:
    (panel,) = panels(results(records))
    return panel


def best_of(records: list[dict]):
    """The strongest at guidance 1, of one model seed."""
    best = reported(strongest(results(records).values, ["seed"]), ["seed"])
    (line,) = best[best["guidance"] == "1.0"].itertuples()
    return line


def row(found: Panel, method: str, guidance: str = "1.0") -> dict[str, str]:
    headers, rows = leaderboard.cells(found, guidance)
    (cells,) = [cells for cells in rows if cells[0] == method]
    return dict(zip((header.replace("\n", " ") for header in headers), cells, strict=True))


def matrix_line(records: list[dict], method: str = "dimum") -> dict[str, str]:
    """DiMRA at guidance 1 in matrix.csv."""
    rows = csv.DictReader(io.StringIO(matrix.to_csv(matrix.matrices(results(records)))))
    (line,) = [
        r for r in rows if (r["method"], r["attack"], r["guidance"]) == (method, "dimra", "1.0")
    ]
    return line


# ---- attack seeds
# --------------------------------------------------------------------------------------------------


def test_attack_seeds_are_replicates_inside_their_seed_and_no_setting():
    ends = {(0, 0): 0.1, (0, 1): 0.3, (0, 2): 0.2, (1, 0): 0.4, (1, 1): 0.4, (1, 2): 0.7}
    records = [annealed("dimum", end, seed=seed, attack_seed=a) for (seed, a), end in ends.items()]
    made = results(records)
    assert (
        made.groups[0].seeds == "n=2 of 3 attack seeds"
        and made.groups[0].note == ""
        and len(made.groups[0].records) == 6
    )
    assert made.estimates[0]["attacked_forget_accuracy@1.0"].values == pytest.approx((0.2, 0.5))
    assert made.estimates[0]["attacked_forget_accuracy_maximum@1.0"].values == pytest.approx(
        (0.3, 0.7)
    )
    assert made.estimates[0]["unlearned_forget_accuracy@1.0"].n == 2
    shown = row(the_board(records), "DiMUM")
    assert (
        shown["DiMRA % strongest"] == "20.0, 50.0"
        and shown["DiMRA % maximum"] == "30.0, 70.0"
        and shown["seeds"] == "2"
    )
    found = {
        r["measurement"]: r
        for r in csv.DictReader(io.StringIO(leaderboard.to_csv([the_board(records)])))
        if r["guidance"] == "1.0"
    }
    assert (
        found["recovery_maximum"]["values"] == "0.3 0.7" and found["recovery_strongest"]["n"] == "2"
    )
    line = matrix_line([*records, make_record(attack="none")])
    assert line["values"] == "0.2 0.5" and line["maximum"] == "0.7" and line["runs"].count("+") == 4
    curve = comparison.seed_curve(made, made.groups, "1.0")
    assert curve.middle[-1] == pytest.approx(0.35) and curve.label.endswith("n=2")


def test_one_seeds_attack_seeds_have_the_interval_of_all_their_images():
    values = [Measurement(0.5, n=2, hits="10"), Measurement(1.0, n=2, hits="11")]
    value, low, _, n, hits, _ = average(values)
    assert (value, n, hits) == (0.75, 4, "1011")
    assert low == pytest.approx(wilson(0.75, 4)["low"])
    without = [Measurement(share) for share in (0.5, None, 1.0)]
    assert average(without)[:3] == (0.75, None, None)
    assert average(without[1:2]) == (None,) * 6 and average(without[:1] * 2) == without[0]


# ---- which models count
# ---------------------------------------------------------------------------------------------


def test_the_end_point_of_an_annealed_attack_counts_and_not_its_peak():
    record = annealed("dimum", 0.2, peak=0.9)
    best = best_of([record])
    assert (best.value, best.at) == (0.2, 400)
    record["config"]["attack"].pop("lr_schedule")
    assert best_of([record]).value == 0.9, "records from before: any budget"
    assert best_of(
        [{**annealed("dimum", 0.2), "rows": record["rows"][:3], "status": "diverged"}]
    ).broke


@pytest.mark.parametrize("harm", [{"retained": 0.9599}, {"growth": 1.501}])
def test_a_rate_that_breaks_the_model_is_not_the_strongest(harm):
    fast, slow = (
        annealed("dimum", 0.01, rate=1e-2, peak=0.02, **harm),
        annealed("dimum", 0.005, rate=1e-4),
    )
    best = best_of([fast, slow])
    assert best.runs == slow["name"] and not best.broke
    fast["rows"][-1]["metrics"]["forget_accuracy"]["1.0"] = wilson(0.8)
    assert best_of([fast, slow]).runs == slow["name"]
    limit = annealed("dimum", 0.8, rate=1e-2, retained=0.96, growth=1.5)
    assert best_of([limit, slow]).runs == limit["name"], "as much as is allowed"


def test_of_a_cell_that_every_rate_broke_only_what_came_before_is_shown():
    records = [
        annealed(method, 0.01, rate=rate, retained=0.9)
        for method in ("dimum", "salun")
        for rate in RATES
    ]
    judged(records[0]["rows"][3], 0.98, 9.0)  # an early budget, at 10 %, was still whole
    shown = the_board(records)
    assert row(shown, "DiMUM")["DiMRA % strongest"].startswith(f"{BROKE}, 10.0")
    assert row(shown, "SalUn")["DiMRA % strongest"] == BROKE == "attack broke the model"
    found, *_ = matrix.matrices(results([*records, make_record(attack="none")]))
    text = matrix.to_markdown([found])
    assert f"| {BROKE}, 10.0 |" in text and f"| {BROKE} |" in text and "≥ 10.0" in text
    (_, figure), _ = matrix.heat_maps(found)
    assert {"(10.0)", "×"} <= {words.get_text() for words in figure.axes[0].texts}
    by_rate = pivot.to_markdown(results(records), "attack.learning_rate")
    assert by_rate.count(BROKE) > 4 and f"{BROKE}, 10.0" in by_rate
    assert f"{BROKE}, 1.0 [" in comparison.to_markdown(results(records)), (
        "a rate that broke it has a number there"
    )
    made, above = results(records), matrix_sections([found])
    assert leaderboard.to_csv([shown])
    assert comparison_page(made, made.tables, Path("."), tables=above)


def test_levels_of_an_edit_are_alternatives_and_one_that_breaks_is_none():
    record = make_record(attack="prune", attacked=(0.1, 0.2, 0.5, 0.9, 0.9))
    record = {**record, "attack_unit": "share pruned"}
    for row_, kept in zip(record["rows"][2:], (0.98, 0.97, 0.97, 0.5, 0.2), strict=True):
        judged(row_, kept, 9.0)
    best = best_of([record])
    assert (best.value, best.at, best.broke) == (0.5, BUDGETS[2], False)


def test_distances_of_other_numbers_of_images_are_not_compared():
    before, after = make_record()["rows"][1], make_record()["rows"][-1]
    judged(before, 0.98, 1.0), judged(after, 0.98, 2.0)
    assert intact([(after, before)], "1.0") is False
    judged(after, 0.98, 2.0, n=180)
    assert intact([(after, before)], "1.0") is True and intact([(None, before)], "1.0") is None


def test_distances_of_other_numbers_of_images_have_a_table_and_a_column_of_their_own():
    records = [annealed("dimum", 0.2), annealed("salun", 0.2)]
    for row_ in records[1]["rows"]:
        row_["metrics"]["fd_oracle"]["1.0"] |= {"n": 180}
    made = results(records)
    assert (
        sum("distance_images=180" in title for title in made.tables) == 1 and len(made.tables) == 2
    )
    text = comparison.to_markdown(made)
    assert "FD (N=450) before" in text and "FD (N=180) before" in text
    texts = [header for found in panels(made) for header in leaderboard.cells(found, "1.0")[0]]
    assert "FD\n(oracle)\nN=450" in texts and "FD\n(oracle)\nN=180" in texts
    assert "FD oracle\nN=180\nfloor 4.00" in summary_cells(records[1])[0]


# ---- choosing and reporting
# -----------------------------------------------------------------------------------------


def test_the_rate_is_chosen_on_one_half_of_the_images_and_reported_on_the_other():
    lucky, steady = annealed("dimum", 0.3, rate=1e-4), annealed("dimum", 0.3, rate=1e-3)
    with_hits(lucky["rows"][-1], 0.6, 0.1), with_hits(steady["rows"][-1], 0.5, 0.5)
    best = best_of([lucky, steady])
    assert best.runs == lucky["name"] and best.value == pytest.approx(0.1) and best.n == 50
    assert best_of([lucky]).n == 100, "nothing was chosen: every image counts"
    found, *_ = matrix.matrices(results([lucky, steady, make_record(attack="none")]))
    cell = next(
        cell
        for (g, _, column), cell in found.cells.items()
        if g == "1.0" and column.name == "dimra"
    )
    assert cell.estimate.mean == pytest.approx(0.1)
    assert "first half of the images" in leaderboard.legend([the_board([lucky, steady])])
    words = {"shown": ["forget accuracy"]}
    assert "first half of the images" in caption("matrix", **words)
    of_pivot = {"shown": "forget accuracy", "scales": ["1"], "first": "1", "pooled": ""}
    assert "first half of the images" in caption("pivot", **of_pivot)


def test_of_rates_that_are_equal_on_that_half_the_one_that_was_run_more_often_counts():
    once, twice = (annealed("dimum", 0.3, rate=rate) for rate in (1e-4, 1e-3))
    again = annealed("dimum", 0.3, rate=1e-3, attack_seed=1)
    for one in (once, twice, again):
        with_hits(one["rows"][-1], 0.5, 0.2)
    assert best_of([once, twice, again]).runs == f"{twice['name']}+{again['name']}"


# ---- the board
# --------------------------------------------------------------------------------------------------

WHAT = {  # DiMRA, embedding inversion: five seeds around them
    "original": (0.97, 0.98),
    "retrain": (0.012, 0.10),
    "row_swap": (0.005, 0.985),
    "projection_swap": (0.005, 0.98),
    "rescaled100": (0.3, 0.12),
    "rescaled0.03": (0.28, 0.11),
    "dimum": (0.2, 0.25),
    "random_label": (0.011, 0.1),
    "munba": (0.002, 0.01),
}


def the_records(seeds=range(3), **changes) -> list[dict]:
    records = []
    for name, values in WHAT.items():
        method = "rescaled" if name.startswith("rescaled") else name
        for attack, end in zip(("dimra", "embedding_inversion"), values, strict=True):
            for seed in seeds:
                record = annealed(
                    method,
                    max(0.0, end + 0.002 * (seed - 1)),
                    attack,
                    seed,
                    settings=name.removeprefix(method),
                    retain=(0.985, 0.58 if method == "munba" else 0.98, 0.975),
                    forget=(0.97, 0.97 if method == "original" else 0.012),
                    retained=0.58 if method == "munba" else 0.975,
                    **changes,
                )
                ratio = {"rescaled100": [1.0, 100.0], "rescaled0.03": [0.03, 1.0]}.get(
                    name, [0.9, 1.2]
                )
                record["weights"] = {
                    "norm_ratio": ratio,
                    "change": 0.06,
                    "class_rows_changed": name == "row_swap",
                    "projection_change": {
                        "forgotten": 1.0,
                        "retained": 0.01 if "projection" in name else 0.8,
                    },
                }
                records.append(record)
    return records


def test_what_hides_the_class_is_not_at_the_top_and_called_reversible():
    found = the_board(the_records())
    order = ranked(found, "1.0")
    assert order[:3] == ["original", "retrain", "random label"] and order[-1] == "MUNBa"
    assert set(order[-3:-1]) == {"row swap", "projection swap"}, "the worse of both attacks counts"
    verdicts = {method: verdict_on(found, "1.0", method) for method in found.methods}
    hiding = [label for label in verdicts if label.startswith(("row", "proj", "rescaled"))]
    assert len(hiding) == 4 and {verdicts[label] for label in hiding} == {"reversible"}
    assert verdicts["random label"] == "irreversible here" and verdicts["DiMUM"] == "reversible"
    assert verdicts["MUNBa"] == "not ranked: ruined" and verdicts["retrain"] == "reference"
    assert row(found, "projection swap")["embedding inversion minus retrain"].startswith(
        "+88.0, +88.0"
    )
    assert row(found, "projection swap")["DiMRA minus retrain"].startswith("-0.7, -0.7")


def test_notes_name_other_units_changed_rows_and_the_null_space():
    found = the_board(the_records(seeds=[0]))
    words = " ".join(notes(found))
    assert (
        "Rescaled (factor=100): weights in other units than the original's: 1 to 100 times their"
        " norms." in words
    )
    assert "Rescaled (factor=0.03)" in words and "Row swap: the class's own row" in words
    assert (
        "Projection swap: the projections of the condition changed for the forgotten class alone"
        in words
    )
    assert "DiMUM" not in words and words in leaderboard.legend([found])
    record = annealed("rescaled", 0.2) | {"weights": {"norm_ratio": [0.03, 1.0]}}
    assert "Note: weights in other units" in verdict(record)


def test_irreversible_takes_both_attacks_and_models_that_are_whole():
    every = the_records(seeds=range(2))
    alone = the_board([record for record in every if record["attack"] == "dimra"])
    assert (
        row(alone, "random label")["verdict"] == "untested"
        and row(alone, "DiMUM")["verdict"] == "reversible"
    )
    without = [
        record
        for record in every
        if (record["method"], record["attack"]) != ("random_label", "embedding_inversion")
    ]
    order = ranked(the_board(without), "1.0")
    assert (
        order[-2:] == ["random label", "MUNBa"]
        and row(the_board(without), "random label")["verdict"] == "untested"
    )
    for record in every:
        if record["method"] == "random_label" and record["seed"] == 1:
            judged(record["rows"][-1], 0.5, 9.0)
    assert row(the_board(every), "random label")["verdict"] == "untested", (
        "the attack broke one seed's model"
    )
    assert (
        row(the_board([r for r in every if r["method"] != "retrain"]), "DiMUM")["verdict"]
        == "untested"
    )


@pytest.mark.parametrize("end, blind", [(0.9, False), (0.2, True)])
def test_an_attack_that_takes_it_from_the_original_too_proves_nothing(end: float, blind: bool):
    every = [r for r in the_records(seeds=range(2)) if r["method"] != "original"]
    for attack, seed in itertools.product(("dimra", "embedding_inversion"), range(2)):
        left = end if attack == "dimra" else 0.95
        every.append(annealed("original", left, attack, seed, forget=(0.97, 0.97)))
    board = the_board(every)
    assert row(board, "random label")["verdict"] == ("untested" if blind else "irreversible here")
    words = "DiMRA takes it from the original too, 97.0 to 20.0 % at guidance 1"
    assert (words in leaderboard.legend([board])) == blind
    assert (words in leaderboard.legend([board], brief=True)) == blind


@pytest.mark.parametrize(
    "attack, changes, called",
    [
        ("dimra_relative", {}, "DiMRA, relative steps"),
        ("dimra", {"budgets": [0, 4000]}, "DiMRA (budgets=[0, 4000])"),
        ("lora", {}, None),
    ],
)
def test_irreversible_takes_every_setting_of_both_attacks(attack: str, changes: dict, called):
    every = the_records(seeds=range(2))
    for seed in range(2):
        for method, end in (("retrain", 0.01), ("random_label", 0.4)):
            other = annealed(method, end, attack, seed)
            other["config"]["attack"] |= changes
            every.append({**other, "name": f"{other['name']}-again"})
    verdict_of = row(the_board(every), "random label")["verdict"]
    assert verdict_of == (f"reversible: {called}" if called else "irreversible here")


def test_the_strongest_rate_and_the_cost_of_an_attack_stand_on_the_board():
    ends = {(1e-4, 0): 0.1, (1e-3, 0): 0.3, (1e-4, 1): 0.4, (1e-3, 1): 0.2}
    records = [annealed("dimum", e, seed=s, rate=r) for (r, s), e in ends.items()]
    records += [annealed("retrain", 0.0, seed=seed) for seed in (0, 1)]
    for record in records:
        record["attack_share_of_pretraining"] = 0.4
    board = the_board(records)
    assert row(board, "DiMUM")["at rate"] == "0.0001, 0.001"
    assert "DiMRA: 0.4 of pretraining." in leaderboard.to_brief([board])
    assert matrix_line([*records, make_record(attack="none")])["rate"] == "0.001 0.0001"
    alone = [record for record in records if record["config"]["attack"]["learning_rate"] == 1e-3]
    assert "at rate" not in row(the_board(alone), "DiMUM")


def test_old_records_have_dashes_and_no_new_columns():
    records = [
        make_record(method=method, seed=seed, name=f"{method}-{seed}")
        for method in ("retrain", "dimum")
        for seed in (0, 1)
    ]
    shown = row(the_board(records), "DiMUM")
    assert shown["DiMRA % strongest"] == "12.4, 12.4" and shown["verdict"] == "untested"
    assert not {"another %", "nothing %", "DiMRA % maximum"} & shown.keys()
    assert leaderboard.scatters(the_board(records)) == [] and notes(the_board(records)) == []


def test_five_seeds_make_an_interval_and_fewer_are_shown():
    assert (
        estimate([0.1, 0.2, 0.4]).values == (0.1, 0.2, 0.4)
        and estimate([0.1, 0.2, 0.4]).high == 0.4
    )
    assert estimate_text(estimate([0.005, 0.01, 0.02]), 100, 1, 3) == "0.5, 1.0, 2.0"
    assert estimate_text(estimate([0.0, 0.01, 0.02, 0.03, 0.04]), 100, 1, 5).startswith("2.0 ± ")


def test_shares_held_out_and_the_other_sampler_stand_beside_the_oracles_number():
    records = [annealed(method, 0.2) for method in ("retrain", "dimum")]
    for record in records:
        for row_ in record["rows"]:
            row_["metrics"]["forget_accuracy"]["1.0"] |= {"another": 0.9, "nothing": 0.088}
            row_["metrics"]["other_sampler"] = {
                "1.0": {**wilson(0.31), "nothing": 0.1, "sampler": "dpmsolver++, 13 steps"}
            }
            row_["metrics"]["agreement"] = {"1.0": {"held_out_forget_accuracy": wilson(0.25)}}
    shown = row(the_board(records), "DiMUM")
    assert (shown["another %"], shown["nothing %"]) == ("90.0", "8.8") and shown[
        "held-out / other sampler / another / nothing"
    ] == "25.0 / 31.0 / 90.0 / 8.8"
    assert shown["UA % held-out"].startswith("75.0")
    made = results([*records, make_record(attack="none")])
    line = matrix_line([*records, make_record(attack="none")])
    assert (float(line["held_out"]), float(line["other_sampler"])) == (0.25, 0.31)
    assert (float(line["another"]), float(line["nothing"])) == (0.9, 0.088)
    headers, rows = summary_cells(records[1])
    assert rows[1][headers.index("another,\nnothing %")] == "90.0, 8.8"
    assert rows[1][headers.index("other\nsampler %")].startswith("31.0 [")
    assert "Images of another sampler disagree on the unlearned model: 31 %, not 1 %." in verdict(
        records[1]
    )
    assert "| another % (s=1) | nothing % (s=1) |" in comparison.to_markdown(made)


def test_what_the_original_does_not_show_has_no_half():
    records = [make_record(forget=(0.0, 0.0), seed=seed, name=str(seed)) for seed in (0, 1)]
    for record in records:
        record["recovery"]["1.0"]["steps_to_half"] = 0.0
    made = results(records)
    assert (
        "steps_to_half@1.0" not in made.estimates[0]
        and row(the_board(records), "DiMUM")["steps to half"] == "–"
    )
    assert "the original does not show the class, so there is nothing to recover" in recovery_line(
        records[0]
    )


def test_the_context_probe_is_read_minus_other_starts():
    records = [
        make_record(method=method, attack="context_probe", name=method)
        for method in ("original", "dimum")
    ]
    for record in records:
        record |= {"attack_unit": "of the noise", "attack_sees_forgotten": True}
        for row_ in record["rows"][2:]:
            beyond = {"value": 0.024, "low": -0.1, "high": 0.1, "n_starts": 20}
            row_["metrics"]["forget_accuracy"]["1.0"] |= {
                "other_starts": wilson(0.1),
                "starts": 10,
                "difference": beyond,
            }
    found, *_ = matrix.matrices(results([*records, make_record(attack="none")]))
    assert "12.4 (+2.4)" in matrix.to_markdown([found])
    assert "+2.4 points beyond other starts" in recovery_line(records[1])


def test_the_short_table_has_six_columns():
    found = the_board(the_records())
    text = leaderboard.RENDERERS["table.md"]([found])
    heads = [line for line in text.splitlines() if line.startswith("| method")]
    assert len(heads) == 2 and {line.count("|") - 1 for line in heads} == {6}
    assert (
        "| random label | 98.8, 98.8, 98.8 | 98.0, 98.0, 98.0 |" in text
        and "| irreversible here |" in text
    )


# ---- the scatter
# --------------------------------------------------------------------------------------------------


def test_the_scatter_has_a_point_for_each_method_and_small_ones_for_its_tuning():
    records = the_records()
    for attack, end in (("dimra", 0.1), ("embedding_inversion", 0.4)):
        records.append(annealed("dimum", end, attack, settings="runner-up"))
    (title, figure), _ = leaderboard.scatters(the_board(records))
    assert title.startswith("Recovery over retrain: class 7, guidance 1")
    axes = figure.axes[0]
    names = {text.get_text() for text in axes.texts}
    assert names == {
        "original",
        "row swap",
        "projection swap",
        "rescaled (factor=100)",
        "rescaled (factor=0.03)",
        "DiMUM",
        "random label",
        "MUNBa",
    }
    large = {text.get_text(): text.xy for text in axes.texts}
    assert large["projection swap"] == pytest.approx((-0.7, 88.0), abs=0.2) and large["DiMUM"][
        0
    ] == pytest.approx(18.8)
    points = [
        line
        for line in axes.lines
        if line.get_markersize() == 7 and line.get_marker() in "Dos^pvPX"
    ]
    assert sum(line.get_marker() == "D" for line in points) == 5
    assert [line.get_markerfacecolor() for line in points].count("white") == 1, (
        "the ruined one is hollow"
    )
    assert sum(line.get_markersize() == 3.5 for line in axes.lines) == 1
    assert (
        "DiMRA minus retrain" in axes.get_xlabel()
        and "embedding inversion minus retrain" in axes.get_ylabel().replace("\n", " ")
    )


def test_records_survive_the_comparison_untouched():
    records = the_records(seeds=[0])
    before = json.dumps(records)
    the_board(records)
    assert json.dumps(records) == before
