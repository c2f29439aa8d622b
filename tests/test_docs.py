"""The site is built, and what its pages point at is there: files, headings, scripts, targets."""

import pkgutil
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from command import ROOT, environment

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
