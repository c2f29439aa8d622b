"""Pages: of a run, of many runs, and the command that writes them."""

import re
from pathlib import Path

import pytest
from made_up import make_record, wilson, with_new_measurements, without_rows, write_run
from report_command import Page, report
from test_comparison import three_seeds
from test_summary import BITS

from unrelearn.report.page import write_page
from unrelearn.report.records import PAGE
from unrelearn.report.summary import summary_cells
from unrelearn.report.verdict import verdict


def page_of(record: dict, outputs: Path) -> tuple[str, Page]:
    destination = outputs / "runs" / record["name"] / PAGE
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
    assert sorted(h.replace("\xa0", " ") for h in shown) == sorted(
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


# ---- the command


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
