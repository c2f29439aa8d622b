"""What users name is drawn as it is, and what can not be drawn costs a line, never the numbers."""

import csv
import io
import json
import math
import os
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
from command import ROOT
from made_up import make_record, write_run
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from unrelearn import record as record_module
from unrelearn.report import drawing, figures, fonts, page, render, samples
from unrelearn.report.files import csv_text
from unrelearn.report.page import write_page

MONEY = ["EUR_$5", "US_$10", "US_$5", "100$_$bill", "$5", "a", "b", "c$x$y", "d", r"\$"]


def drawn(record: dict, folder: Path) -> str:
    write_page(record, folder, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def words_in(figure) -> set[str]:
    with matplotlib.rc_context(drawing.STYLE):
        figure.draw_without_rendering()
        return {text.get_text() for text in figure.findobj(Text)}


def test_dollar_signs_in_class_names_are_no_formula(tmp_path: Path):
    record = make_record(class_names=MONEY, forget_classes=[0, 1, 2, 3])
    write_run(tmp_path, record, samples=True)
    assert "classes EUR_$5, US_$10, US_$5 and 100$_$bill" in drawn(record, tmp_path)
    for drawn_figure in (
        samples.replacement_figure(record, "1.0"),
        samples.retain_figure(record, "1.0"),
        figures.recovery_figure(figures.curves_of(record), "What $5 and $10 bring back"),
    ):
        with matplotlib.rc_context(drawing.STYLE):  # ticks that are made only now
            texts = drawn_figure.findobj(Text)
        assert texts and not any(text.get_parse_math() for text in texts)
        drawing.save(drawn_figure, tmp_path / "figure.png")
        drawing.save(drawn_figure, tmp_path / "figure.pdf")
    assert set(MONEY) <= words_in(samples.replacement_figure(record, "1.0"))


def test_names_that_are_no_utf8_are_shown_with_the_sign_for_that(tmp_path: Path):
    record = make_record(class_names=[os.fsdecode(b"caf\xe9"), *MONEY[1:]], forget_classes=[0])
    record["command"] = os.fsdecode(b"python run.py dataset.root=/caf\xe9")
    write_run(tmp_path, record, samples=True)
    text = drawn(record, tmp_path)
    assert "class caf\N{REPLACEMENT CHARACTER}" in text and r"dataset.root=/caf\udce9" in text


def test_names_in_a_model_card_are_no_markup(tmp_path: Path):
    names = ["<b>", os.fsdecode(b"caf\xe9"), *MONEY[2:]]
    record = make_record(attack="none", class_names=names, forget_classes=[0])
    write_run(tmp_path, record)
    weights = tmp_path / "artifacts" / record["rows"][1]["weights"].removesuffix(" (ema)") / "ema"
    weights.mkdir(parents=True)
    (weights / "config.json").write_text("{}")
    main = runpy.run_path(str(ROOT / "scripts" / "export.py"))["main"]
    assert main([str(tmp_path / "runs" / record["name"]), str(tmp_path / "card")]) == 0
    text = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert r"class \<b>" in text and r"are \<b>, caf\udce9, US_$5" in text


@pytest.mark.parametrize(
    "fails",
    [ValueError("5 and US_\n      ^\nParseSyntaxException"), MemoryError(), OSError(5, "I/O")],
)
def test_what_can_not_be_drawn_costs_a_line_and_not_the_numbers(
    fails, tmp_path: Path, monkeypatch, capsys
):
    def draw(*arguments):
        raise fails

    monkeypatch.setattr(page, "replacement_figure", draw)
    record = make_record() | {
        "config": {**make_record()["config"], "tracking": {"backend": "none", "mode": "offline"}}
    }
    kept = record_module.keep(SimpleNamespace(outputs=tmp_path), record)
    folder = tmp_path / "runs" / record["name"]
    assert kept is None and [path.name for path in folder.iterdir()] == ["result.json"]
    assert json.loads((folder / "result.json").read_text()) == record
    said = capsys.readouterr().out.splitlines()
    assert (
        len(said) == 1
        and type(fails).__name__ in said[0]
        and "Type the same command again" in said[0]
    )
    monkeypatch.undo()
    assert record_module.keep(SimpleNamespace(outputs=tmp_path), record) == folder / "report.html"


def test_the_run_goes_on_without_its_page_and_its_table(tmp_path: Path, monkeypatch, capsys):
    def draw(*arguments, **more):
        raise ValueError("can not be drawn")

    monkeypatch.setattr("unrelearn.report.page.write_page", draw)
    monkeypatch.setattr("unrelearn.report.summary.print_record", draw)
    record = make_record() | {
        "config": {**make_record()["config"], "tracking": {"backend": "none", "mode": "offline"}}
    }
    cfg = SimpleNamespace(stages=["evaluate"], dry_run=False, eval={})
    run = SimpleNamespace(outputs=tmp_path, used={}, cfg=cfg)
    monkeypatch.setattr(record_module, "Run", lambda cfg, command: run)
    monkeypatch.setattr(record_module, "finish", lambda run, spent: record)
    assert record_module.execute(cfg, "python run.py") is record
    assert (tmp_path / "runs" / record["name"] / "result.json").exists()
    assert capsys.readouterr().out.count("warning: ") == 2


def test_a_spreadsheet_takes_no_cell_for_a_formula():
    cells = [
        "=cmd|'/c calc'!A1",
        "+a",
        "-b",
        "@c",
        "\td",
        "a=b",
        "-0.026",
        "+1e-3",
        -0.5,
        3,
        "–",
        None,
        "",
    ]
    read = next(csv.reader(io.StringIO(csv_text(cells, []))))
    assert read == [
        "'=cmd|'/c calc'!A1",
        "'+a",
        "'-b",
        "'@c",
        "'\td",
        "a=b",
        "-0.026",
        "+1e-3",
        "-0.5",
        "3",
        "–",
        "",
        "",
    ]


def test_numbers_are_written_as_they_are_whatever_stands_in_their_column():
    rows = [[1, 0.1 + 0.2, None], [None, math.nan, True], [2.0, 1e22, "a,b"]]
    assert csv_text("nxt", rows) == 'n,x,t\n1,0.30000000000000004,\n,nan,True\n2.0,1e+22,"a,b"\n'


def test_latex_holds_the_names_as_they_are():
    assert (
        render.latex("US_$5 & 10% #{~^\\}")
        == r"US\_\$5 \& 10\% \#\{\textasciitilde{}\textasciicircum{}\textbackslash{}\}"
    )


# ---- letters
# --------------------------------------------------------------------------------------------------

# a letter that STIXGeneral, which comes with matplotlib, has and DejaVu Sans has not
ONLY_IN_STIX = "\u1d81"


@pytest.fixture
def untold():
    fonts.covering.cache_clear()
    fonts._warn.cache_clear()
    yield
    fonts.covering.cache_clear()


def svg_of(name: str) -> bytes:
    record = make_record(class_names=["a", name, *MONEY[2:]], forget_classes=[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return drawing.svg(samples.replacement_figure(record, "1.0"))


def test_the_same_letters_that_no_font_has_are_said_once(untold, monkeypatch, capsys):
    own = [font for font in fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(fontManager, "ttflist", own)
    for name in ("猫", "猫", "猫狗"):
        svg_of(name)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "letters 猫:" in said[0] and "letters 狗 猫:" in said[1]


def test_letters_that_another_font_has_are_drawn_with_it(untold, monkeypatch, capsys):
    two = [font for font in fontManager.ttflist if font.name in ("DejaVu Sans", "STIXGeneral")]
    monkeypatch.setattr(fontManager, "ttflist", two)
    assert fonts.covering(frozenset(map(ord, ONLY_IN_STIX))) == ("STIXGeneral",)
    assert b"DejaVuSans-" in svg_of("a")
    shown = svg_of(ONLY_IN_STIX)
    assert b"STIX" in shown and capsys.readouterr().err == ""
