"""The site is built, and what its pages point at is there: files, headings, scripts, targets."""

import pkgutil
import re
import shlex
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from command import ROOT, environment

from unrelearn.config import Sweep
from unrelearn.errors import UsageError

SINGLE = ("README.md", "CONTRIBUTING.md", "outputs/README.md")
FOLDERS = ("docs", "examples")
PAGES = [ROOT / name for name in SINGLE]
PAGES += sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
MAKEFILE = (ROOT / "Makefile").read_text()


def prose(text: str) -> str:
    """A page without its code blocks, in which brackets are no links."""
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """The ids that headings get: lower case, punctuation dropped, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text()), flags=re.M)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


def test_a_heading_has_the_id_that_the_site_gives_it(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# Speed: what was `measured`?\n```\n# no heading\n```\n## Two - words\n")
    assert anchors(page) == {"speed-what-was-measured", "two-words"}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_internal_link_leads_to_a_file_and_a_heading(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(file), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_script_and_target_that_a_page_names_exists(page: Path):
    text = page.read_text()
    for script in re.findall(r"\b((?:scripts|benchmarks|examples)/[\w/]+\.py)\b", text):
        assert (ROOT / script).exists(), f"{page}: {script}"
    for target in re.findall(r"`make ([a-z-]+)`", text):
        assert re.search(rf"^([a-z-]+ )*{target}( [a-z-]+)*:", MAKEFILE, flags=re.M), target


# what a reader puts in, and what a page adds to the house
THEIRS = ("FOLDER", "theirs", "/path", "/models/sd15", "outputs/elsewhere", "PRESETS")
OWN = ("method=to_null", "method=any_class", "attack=one_class", "method=even_odds")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(script, words) of each command of ours, on a line of its own or within a sentence."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"\$\(.*?\)", "0,1", text))
    begin = r"(?:\w+=\w+ )?python\s+((?:run|scripts/\w+|benchmarks/\w+)\.py)\b"
    lines = re.findall(rf"^ {{4}}{begin}(.*?)(?: +#.*)?$", text, flags=re.M)
    lines += re.findall(rf"`{begin}([^`]*)`", text)
    return [(script, shlex.split(rest)) for script, rest in lines]


def test_commands_are_seen_over_two_lines_and_within_a_sentence():
    page = "    python run.py a=1 \\\n        b=2   # why\nor `X=1 python\nrun.py seed=$(seq 0 9)`"
    assert commands(page) == [("run.py", ["a=1", "b=2"]), ("run.py", ["seed=0,1"])]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_option_of_a_script_on_a_page_is_one(page: Path):
    for script, words in commands(page.read_text()):
        known = (ROOT / script).read_text() + '"--help" "--cfg"'
        for word in words:
            if option := re.fullmatch(r"\[?(--[\w-]+)\]?", word):
                assert f'"{option[1]}"' in known, words


def choices(script: str, words: list[str]) -> list[str] | None:
    """What a command of runs chooses; None of another command, or of what a page adds."""
    if script == "scripts/grid.py":
        words = words[1:]
        words = words[: next((n for n, w in enumerate(words) if w.startswith("--")), len(words))]
    elif script != "run.py" or {"--help", "--cfg"} & set(words) or "method=given" in words:
        return None
    words = [word for word in words if "=" in word and not word.startswith(("hydra", "dry_run"))]
    adds = any(word.startswith(OWN) for word in words)
    return None if adds else [word.replace("=all", "=none") for word in words]


COMMANDS = [command for page in PAGES for command in commands(page.read_text())]
RUNS = {" ".join(chosen): chosen for command in COMMANDS if (chosen := choices(*command))}


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
def test_every_run_of_a_page_is_one(words: list[str]):
    """The first of several; but for what only the reader has."""
    try:
        sweep = Sweep([*words, "dry_run=true"], elsewhere=True)
        sweep.compose({key: values[0] for key, values in sweep.axes.items()})
    except UsageError as error:
        assert all(any(name in line for name in THEIRS) for line in error.problems), error


def test_the_ten_types_of_the_api_page_have_docstrings():
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), flags=re.M)
    assert len(set(names)) == 10
    assert all(pkgutil.resolve_name(name).__doc__ for name in names)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=environment(NO_MKDOCS_2_WARNING="1"),
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_internal_link_of_the_built_site_leads_somewhere(site: Path):
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    ids = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    checked = 0
    for page, text in pages.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', text):
            link = urlsplit(unescape(target))
            if link.scheme or link.netloc or page.name == "404.html":
                continue
            file = (page.parent / unquote(link.path)).resolve() if link.path else page
            file = file / "index.html" if file.is_dir() else file
            assert file.exists(), f"{page}: {target}"
            anchor = unquote(link.fragment)
            assert not anchor or file not in ids or anchor in ids[file], f"{page}: {target}"
            checked += 1
    assert checked > 500


def test_no_page_of_the_site_shows_what_should_have_been_put_in_its_place(site: Path):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "8&lt;--" not in text and "::: unrelearn" not in text, page
    assert "to_null" in (site / "add-a-method" / "index.html").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation_but_for_tables_of_results():
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name.count("/") == 2 or name in nav, name
