"""Tables, pages and verdicts of a forgotten word: whether the word shows, not its combination."""

import json
import runpy
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command import ROOT
from made_up import make_record, run_of, wilson, with_hits, with_word, write_run
from safetensors.numpy import save_file

from unrelearn import hosted, tracking
from unrelearn.record import recovery
from unrelearn.report import comparison, leaderboard, matrix, nearby
from unrelearn.report.figures import curves_of
from unrelearn.report.measures import measures
from unrelearn.report.page import sample_grids
from unrelearn.report.panel import panels
from unrelearn.report.samples import replacement_figure
from unrelearn.report.summary import lines, summary_caption, summary_cells
from unrelearn.report.table import results
from unrelearn.report.verdicts import verdict
from unrelearn.report.words import row_label, synonyms
from unrelearn.stages.about import prompts

ATTACKS = ("none", "dimra", "embedding_inversion")


@pytest.fixture(scope="module")
def made():
    methods = ("original", "retrain", "dimum")
    return results([with_word(with_hits(run_of(m, a))) for m in methods for a in ATTACKS])


def test_the_first_numbers_are_of_the_word_and_retrain_stands_beside(made):
    (panel,) = panels(made)
    headers, rows = leaderboard.cells(panel, "1.0")
    assert [header.split("\n")[0] for header in headers[:8]] == [
        *("method", "verdict", "concept", "paraphrase"),
        *("others kept", "in-domain", "cross-domain", "nearby"),
    ]
    own = {row[0]: dict(zip(headers, row, strict=True)) for row in rows}
    assert [row[0] for row in rows] == ["original", "retrain", "DiMUM"]
    assert own["DiMUM"]["concept\n%"].startswith("2.0 [") and "UA %" not in headers
    assert own["original"]["nearby\n%"] == "51.2" and own["DiMUM"]["nothing\n%"] == "12.5"
    assert own["DiMUM"]["held-out\n%"] == "0.5"
    assert "held-out /\nparaphrase /\nnothing" in headers
    csv = {measure.name for measure in measures(panel, "1.0")}
    assert {"unlearning_accuracy", "concept_accuracy", "nearby_damage"} <= csv


def test_what_is_retained_is_not_of_the_guidance_of_a_board():
    word = with_word(run_of("dimum", "none"))
    for row in word["rows"]:  # retained images are drawn at the main guidance alone
        for name in ("domain_accuracy", "nearby_damage", "retain_accuracy"):
            row["metrics"][name].pop("2.0", None)
    (panel,) = panels(results([word]))
    kept = {"domain_accuracy", "domain_accuracy_cross_domain", "nearby_damage"}
    main, other = ({m.name for m in measures(panel, s)} for s in ("1.0", "2.0"))
    assert kept <= main and not kept & other and "paraphrase_accuracy" in other
    assert panel.retained_at == "1.0"


def test_the_brief_table_has_what_is_retained_in_six_columns(made):
    heads = ["DiMRA minus retrain", "embedding inversion minus retrain"]
    start, retained = ["method", "concept %", "retained %"], "98.1 [96.9, 98.8]"
    for table, columns in (
        (made, [*start, *heads, "verdict"]),
        (
            results([r for r in made.records if r["attack"] in ATTACKS[:2]]),
            [*start, "paraphrase %", heads[0], "verdict"],
        ),
    ):
        lines = leaderboard.to_brief(panels(table)).splitlines()
        header, (row, *_) = lines[2], [line for line in lines if line.startswith("| DiMUM")]
        assert [cell.strip() for cell in header.strip("|").split("|")] == columns
        assert row.split("|")[3].strip() == retained


def test_what_attacks_bring_back_is_the_word_image_by_image(made):
    (panel,) = panels(made)
    cell = panel.cell("1.0", "DiMUM", "DiMRA")
    record = next(r for r in made.records if (r["method"], r["attack"]) == ("dimum", "dimra"))
    shown = [row["metrics"]["concept_accuracy"]["1.0"] for row in record["rows"]]
    hits = max(shown[2:], key=lambda each: each["hits"][:250].count("1"))["hits"][250:]
    assert cell.estimate.mean == hits.count("1") / 250
    assert cell.mean("held_out") < cell.mean("paraphrase_accuracy") < cell.estimate.mean
    assert panel.differences["1.0", "DiMRA", "DiMUM"].test.startswith("images")
    assert "Strongest concept accuracy in %" in matrix.to_markdown([panel])
    headers, rows, _ = comparison.cells(made, made.groups)
    assert {"in-domain %\nbefore", "in-domain %\nafter", "nearby %\nafter"} <= set(headers)
    assert all("another" not in header for header in headers)
    attacked = next(row for row in rows if row[1:3] == ["DiMUM", "DiMRA"])
    value = 100 * shown[-1]["value"]
    assert attacked[headers.index("attacked %\n(s=1)")].startswith(f"{value:.1f} [")


def two_synonyms(method: str, attack: str) -> dict:
    """Of classes "small red" and "large red": crimson shows in all images, scarlet in a quarter."""
    record = with_word(with_hits(run_of(method, attack)))
    rows = len(record["class_names"]) + 1
    for wording, word in ((4, "crimson"), (5, "scarlet")):
        for label, size in ((0, "small"), (2, "large")):
            said = record.setdefault("paraphrases", {})
            said[str(label + rows * wording)] = f"a photo of a {size} {word} thing"
    for row in record["rows"]:
        for value in row["metrics"]["paraphrase_accuracy"].values():
            value["by_wording"] = {"4": 1.0, "5": 0.25}
    return record


def test_each_synonym_is_named_with_what_shows_under_it():
    records = [two_synonyms(m, a) for m in ("retrain", "dimum") for a in ("none", "dimra")]
    assert synonyms(records[0]) == {"4": "crimson", "5": "scarlet"}
    (panel,) = panels(results(records))
    headers, rows = leaderboard.cells(panel, "1.0")
    place = headers.index("crimson /\nscarlet")
    assert headers[place - 1].startswith("paraphrase")
    assert {row[place] for row in rows if row[0] != "original"} == {"100.0 / 25.0"}
    headers, (_, unlearned, *_) = summary_cells(records[0])
    assert unlearned[headers.index("crimson\n%")] == "100.0"
    assert unlearned[headers.index("scarlet\n%")] == "25.0"
    records[0]["paraphrases"] = dict(list(records[0]["paraphrases"].items())[:2])
    assert "crimson\n%" not in summary_cells(records[0])[0]  # one synonym is the paraphrase


def test_a_found_prompt_stands_beside_its_model():
    record = with_word(make_record(attack="prompt_search"))
    record |= {"attack_unit": "words in place", "prompts": {"2": "scarlet blob"}}
    row = {"model": "attacked", "step": 2.0}
    assert row_label(record, row) == "attacked @ 2 words in place: scarlet blob"
    assert row_label(record, row | {"step": 1.0}) == "attacked @ 1 words in place"


def test_what_a_search_wrote_beside_a_model_is_in_the_record(tmp_path: Path):
    (tmp_path / "prompt.json").write_text('{"in_place": "scarlet"}')
    places = ((None, tmp_path / "raw"), (1.0, tmp_path / "other" / "raw"), (2.0, tmp_path / "raw"))
    models = [SimpleNamespace(step=step, weights=weights) for step, weights in places]
    assert prompts([*models, SimpleNamespace(step=3.0, weights=None)]) == {"2": "scarlet"}


def test_words_and_classes_share_a_report_but_no_table(made):
    both = results([*made.records, *(run_of(m, "dimra") for m in ("retrain", "dimum"))])
    text = leaderboard.to_markdown(panels(both))
    assert "Concept: share of images" in text and "UA: unlearning accuracy" in text
    assert len(both.tables) == 2
    (curve, *_), words = curves_of(both.records[0]), {p.presence.words for p in panels(both)}
    assert words == {"forget accuracy", "concept accuracy"} and curve.words in words


def test_one_record_speaks_of_the_word(made):
    record = next(r for r in made.records if (r["method"], r["attack"]) == ("dimum", "dimra"))
    headers, rows = summary_cells(record)
    assert headers[1] == "concept acc. %\nguidance 1" and "held-out\nconcept %" in headers
    assert not [header for header in headers if "forget" in header or "off" in header]
    assert rows[1][1].startswith("2.0 [")
    assert "(concept accuracy, guidance 1)" in lines(record)[0]
    assert summary_caption(record).count("Concept accuracy") == 1


def test_the_area_is_that_of_the_word_or_absent():
    record = with_word(make_record())
    new = recovery(record["rows"])["1.0"]
    shown = [row["metrics"]["concept_accuracy"]["1.0"]["value"] for row in record["rows"]]
    assert new["concept_accuracy"] == shown[1:] and "forget_accuracy" not in new
    older = with_word(make_record())
    for curve in older["recovery"].values():
        curve["forget_accuracy"] = curve.pop("concept_accuracy")
    assert "area" in set(results([record]).values["base"])
    assert "area" not in set(results([older]).values["base"])


def test_ten_images_of_each_prompt_from_the_same_noise(tmp_path: Path):
    record = with_word(make_record(attack="none"))
    record["paraphrases"] = {"10": "a small crimson", "12": "a large crimson"}
    labels = np.array([0, 2] * 8)
    tensors = {
        "paraphrase/1.0": np.zeros((16, 3, 4, 4), np.uint8),
        "paraphrase/1.0/labels": labels,
        "paraphrase/1.0/wording": np.full(16, 2),
        "forget/1.0": np.zeros((16, 3, 4, 4), np.uint8),
        "forget/1.0/labels": labels,
    }
    for row in record["rows"]:
        (tmp_path / row["samples"]).mkdir(parents=True)
        save_file(tensors, tmp_path / row["samples"] / "samples.safetensors")
    own, other = sample_grids(record, tmp_path)
    assert own["names"] == ("small red",) * 5 + ("large red",) * 5
    assert (
        other["title"]
        == "Generated under classes small red and large red in other words, guidance 1"
    )
    assert other["names"] == ("a small crimson", "a large crimson") * 5
    assert [strip["label"] for strip in other["strips"]] == ["original", "unlearned"]


def test_the_view_of_wandb_draws_what_is_logged_of_a_word(monkeypatch, tmp_path: Path):
    pytest.importorskip("wandb_workspaces")
    logged: list[dict] = []

    @contextmanager
    def run(*about):
        yield SimpleNamespace(
            curve=lambda points: logged.extend(point for _, point in points), summary=dict
        )

    monkeypatch.setattr(tracking, "run", run)
    record = with_word(make_record())
    record["config"]["tracking"] = {}
    tracking.result(record, tmp_path)
    view = json.loads(hosted.specification(hosted.workspace("me", "unrelearn", {})))
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    (panels,) = [section["panels"] for section in sections if section["name"] == "Recovery"]
    drawn = {name for panel in panels for name in panel["config"]["metrics"]}
    assert {f"recovery/{name}" for point in logged for name in point} <= drawn
    assert {"concept_accuracy@1", "concept_accuracy@2", "retain_accuracy@1"} == {*logged[0]}


def test_of_many_combinations_the_words_in_the_place_are_counted():
    record = with_word(make_record(attack="none"))
    colours, shapes = ("red", "green", "blue"), [f"shape{number}" for number in range(6)]
    record["class_names"] = [f"{colour} {shape}" for colour in colours for shape in shapes]
    record["forget_classes"] = list(range(6))
    for row in record["rows"]:
        row["metrics"]["replacement"] = {"1.0": [0] * 6 + [5] * 12 + [20]}
    (axes,) = replacement_figure(record, "1.0").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [*colours, "nothing"]
    assert [bar.get_height() for bar in axes.patches[:4]] == pytest.approx([0, 37.5, 37.5, 25])
    assert axes.get_xticklabels()[0].get_fontweight() == "bold"


def test_the_report_fills_the_marked_lines_of_a_page(tmp_path: Path, capsys):
    main = runpy.run_path(str(ROOT / "scripts" / "report.py"))["main"]
    for method in ("retrain", "dimum"):
        write_run(tmp_path, with_word(with_hits(run_of(method, "none"))))
    page, out = tmp_path / "page.md", tmp_path / "out"
    words = [str(tmp_path / "runs"), "--out", str(out), "--into", str(page)]
    page.write_text("above\n<!-- comparison.md -->\nold\n<!-- end -->\nbelow\n")
    assert main(words) == 0
    text = (out / "comparison.md").read_text()
    assert "| paraphrase % before |" in text
    assert page.read_text() == f"above\n<!-- comparison.md -->\n{text}<!-- end -->\nbelow\n"
    page.write_text("nothing marked")
    assert main(words) == 2
    assert "Add one of table.md or board.md or leaderboard.md" in capsys.readouterr().err


def test_a_word_that_shows_under_its_synonyms_is_not_called_forgotten():
    """Of retrain nothing shows: Wilson's interval says what may."""

    def of(method: str, before: float, after: float) -> list[dict]:
        made = []
        for attack in ATTACKS:
            record = with_word(with_hits(run_of(method, attack)))
            for row in record["rows"][1:]:
                share = before if row["model"] == "unlearned" else after
                for scale in row["metrics"]["paraphrase_accuracy"]:
                    row["metrics"]["paraphrase_accuracy"][scale] = wilson(share)
                    row["metrics"]["concept_accuracy"][scale] |= wilson(0.0) | {"hits": "0" * 500}
            made.append(record)
        return made

    retrained = of("retrain", 0.0, 0.0)
    verdicts = {}
    for name, shares in {"whole": (0.0, 0.004), "left": (0.2, 0.2), "back": (0.0, 0.3)}.items():
        (panel,) = panels(results([*retrained, *of("dimum", *shares)]))
        verdicts[name] = verdict(panel, "1.0", "DiMUM")
    assert verdicts == {
        "whole": "irreversible here",
        "left": "not forgotten: synonyms",
        "back": "reversible: synonyms",
    }


def test_what_is_damaged_nearby_stands_word_by_word():
    records = []
    for seed, green in ((0, 0.5), (1, 0.7)):
        record = with_word(make_record(method="dimum", attack="none", seed=seed))
        for row in record["rows"]:
            own = green if row["model"] == "unlearned" else 0.9
            row["metrics"]["nearby_damage"] = {"1.0": {"values": {"green": own, "blue": 0.8}}}
        records.append(record)
    text = nearby.to_markdown(panels(results(records)))
    assert "| method | green | blue |" in text and "guidance 1" in text
    assert "| original | 90.0 | 80.0 |" in text and "| DiMUM | 60.0 | 80.0 |" in text
    for record in records:
        for row in record["rows"]:
            del row["metrics"]["nearby_damage"]
    assert nearby.to_markdown(panels(results(records))) == ""
