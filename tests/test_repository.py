"""What a repository needs so that strangers may use it and join."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import oldest  # noqa: E402
import sizes  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LARGEST = 2**20  # bytes of a file in git


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_the_licence_is_mit_everywhere():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert PROJECT["license"] == "MIT"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "MIT"


def test_the_citation_has_what_a_citation_needs_and_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    changes = (ROOT / "CHANGELOG.md").read_text()
    version = re.escape(PROJECT["version"])
    (day,) = re.findall(rf"^## {version} \((\d{{4}}-\d\d-\d\d)\)$", changes, flags=re.M)
    assert f"date-released: {day}" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("name", ["bug.yml", "method.yml"])
def test_a_form_for_issues_asks_for_something(name: str):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text())
    assert form["name"] and form["description"]
    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len(set(ids)) >= 3


def test_the_workflow_runs_what_decides_on_the_oldest_and_the_newest_python():
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    job = yaml.safe_load(text)["jobs"]["test"]
    pythons = {entry["python"] for entry in job["strategy"]["matrix"]["include"]}
    assert pythons == {"3.10", "3.13"}
    assert PROJECT["requires-python"] == ">=3.10"
    commands = [step["run"] for step in job["steps"] if "run" in step]
    targets = {word for line in commands for word in re.findall(r"make (\w+)", line)}
    assert targets == {"test", "lint", "docs"}


def test_hooks_run_the_linter_that_the_house_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["id"] for repository in config["repos"] for hook in repository["hooks"]]
    assert hooks == ["ruff", "ruff-format", "check-yaml", "check-added-large-files"]


def test_the_oldest_versions_are_those_of_the_project():
    found = oldest.oldest((ROOT / "pyproject.toml").read_text())
    assert found["torch"] == "2.4" and found["hydra-core"] == "1.3.2"
    bounded = [entry for entry in PROJECT["dependencies"] if ">=" in entry]
    assert len(found) == len(bounded)


def test_the_lock_has_every_dependency_and_no_index():
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {re.split("[=; ]", line)[0] for line in lock.splitlines() if line[:1].isalpha()}
    names = {re.split("[><=\\[~!]", entry)[0] for entry in PROJECT["dependencies"]}
    assert names <= pinned
    assert "://" not in lock and "index" not in lock


def test_nothing_large_is_in_git():
    assert [path for path in tracked() if path.is_file() and path.stat().st_size > LARGEST] == []


def test_outputs_are_not_in_git_but_for_the_page_that_says_what_they_are():
    inside = [path.name for path in tracked() if path.is_relative_to(ROOT / "outputs")]
    assert inside == ["README.md"]


def test_types_are_part_of_the_package():
    assert (ROOT / "src" / "unrelearn" / "py.typed").exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x = 1\n" * 401, "file of 401 lines"),
        ("class A:\n" + "    x = 1\n" * 200, "class A of 201 lines"),
        ("def f():\n" + "    x = 1\n" * 50, "f() of 51 lines"),
        ("def f(a, b, c, d, e, *, g, h):\n    pass\n", "f() takes 7"),
        (
            "def f(a):\n    for b in a:\n        if b:\n            with b:\n"
            "                if a:\n                    pass\n",
            "4 blocks deep",
        ),
    ],
)
def test_what_is_too_large_is_named(text: str, word: str):
    assert [problem for _, problem in sizes.problems(text) if word in problem]


def test_what_is_small_is_left_alone():
    text = "def f(a):\n    if a:\n        pass\n    elif not a:\n        pass\n"
    assert list(sizes.problems(text)) == []


def test_no_two_test_files_have_one_name():
    """pytest collects only one of them, where folders of tests are no packages."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names))
