"""The pages of a comparison: links, what stands where, and a look with a browser."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import without_rows, write_run
from report_command import Page
from test_leaderboard import GRID, run

from scripts import report as command
from unrelearn.report import method_page, render, site
from unrelearn.report.page import write_page
from unrelearn.report.records import PAGE, collect
from unrelearn.report.table import results


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
            write_page(record, outputs, path.parent / PAGE)
    folder = outputs / "report"
    pages = site.Site(results(collect([outputs])), folder, ["table.csv"]).pages
    for name, page in [*pages.items(), ("table.csv", "")]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page, encoding="utf-8")
    return folder


def test_a_page_that_fails_costs_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise OSError("no space for a picture")

    monkeypatch.setattr(command, "Site", broken)
    with pytest.raises(OSError):
        command.write(results(GRID), tmp_path)
    assert (tmp_path / "leaderboard.csv").is_file() and (tmp_path / "results.csv").is_file()


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
        and f"digits-dimum-dimra-seed0/{PAGE}" in behind
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
    paragraphs = ["What it is.", "    x = 1 < 2", "End."]
    assert method_page.what_it_is({"_target_": "outside.Method"}) == paragraphs
    values = {"settings": [], "numbers": [], "matrix": [], "damage": {"rows": []}, "cost": []}
    lists = {name: [] for name in ("differences", "figures", "grids", "runs")}
    words = ("title", "name", "table", "legend", "matrix_caption", "differences_note", "which")
    text = render.page(
        "method", description=paragraphs, **values, **lists, **dict.fromkeys(words, "")
    )
    assert "<p>What it is.</p><pre>    x\xa0=\xa01 &lt; 2</pre><p>End.</p>" in text
    assert "outside" not in sys.modules
    for target in ("nowhere.at.all.Method", "unrelearn.methods.nowhere.Method", "", None):
        assert method_page.what_it_is({"_target_": target}) == []


def test_two_protocols_have_pages_of_their_own():
    other = [
        {**record, "protocol": "clean", "name": record["name"] + "-clean"} for record in GRID[6:9]
    ]
    pages = site.Site(results([*GRID, *other]), Path("report")).pages
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
    run_page = next(report.parent.glob(f"runs/*/{PAGE}"))
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
