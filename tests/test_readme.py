"""README, docs/start.md and docs/add-a-method.md: their code blocks are run as they stand."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, SHORT, command, environment, run

GROUPS = {"methods": "method", "attacks": "attack", "data": "dataset"}

README = (ROOT / "README.md").read_text()
START = (ROOT / "docs" / "start.md").read_text()
METHOD_PAGE, ATTACK_PAGE = (
    (ROOT / "docs" / "add-a-method.md").read_text().split("## 4. An attack\n")
)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def house_with(text: str, folder: Path, *parts: str) -> list[str]:
    """A copy of parts of the repository with the files that a text's code blocks begin by naming;
    their names.
    """
    for part in parts:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    written = []
    for block in blocks("python", text) + blocks("yaml", text):
        if match := re.match(r"(?:# @package .*\n)?# ((src|conf|tests)/\S+)\n", block):
            (folder / match[1]).write_text(block)
            written.append(match[1])
    return written


def run_in(house: Path, arguments: list[str]) -> None:
    """A command of a copy of the repository, which must end well."""
    done = subprocess.run(
        arguments,
        cwd=house,
        env=environment(PYTHONPATH=str(house / "src")),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr


def test_an_example_of_a_method_an_attack_and_a_measurement_is_one_file_and_one_yaml(
    tmp_path: Path,
):
    assert len(house_with(README + ATTACK_PAGE, tmp_path, "src", "conf", "run.py")) == 6
    words = ["method=to_null", "attack=one_class", *SHORT, f"paths.outputs={tmp_path / 'outputs'}"]
    run_in(tmp_path, command(*words, "+eval=top_two", root=tmp_path))
    runs = tmp_path / "outputs" / "runs"
    (record,) = runs.glob("digits-to_null-one_class-*/result.json")
    for row in json.loads(record.read_text())["rows"]:
        for scale, seen in row["metrics"]["forget_accuracy"].items():
            assert row["metrics"]["top_two"][scale]["share"] >= seen["value"]


def test_the_example_method_of_classifiers_takes_one_file_and_one_yaml(tmp_path: Path):
    page = (ROOT / "docs" / "classification.md").read_text()
    written = house_with(page, tmp_path, "src", "conf", "run.py")
    assert written == ["src/unrelearn/methods/even_odds.py", "conf/method/even_odds.yaml"]
    words = ["experiment=classification", "method=even_odds", "attack=none", "tracking=none"]
    words += ["model.pretrain.max_steps=20", "references.count=2", "unlearning.max_steps=2"]
    run_in(tmp_path, [sys.executable, "run.py", *words, f"paths.outputs={tmp_path / 'outputs'}"])
    assert list((tmp_path / "outputs" / "runs").glob("noisy_digits-even_odds-none-*/result.json"))


def test_the_method_of_the_guide_passes_its_own_test_and_the_suite_and_survives_a_run(
    tmp_path: Path,
):
    written = house_with(METHOD_PAGE, tmp_path, "src", "conf", "tests", "run.py", "pyproject.toml")
    assert written == [
        "src/unrelearn/methods/any_class.py",
        "tests/methods/test_any_class.py",
        "conf/method/any_class.yaml",
    ]
    here = {"PYTHONPATH": str(tmp_path / "src"), "UNRELEARN_ROOT": str(tmp_path)}
    around = environment(**here, UNRELEARN_GOLDEN="write")
    suite = [
        "tests/methods/test_any_class.py",
        "tests/test_walls.py",
        "tests/methods/test_every_method.py",
        "tests/test_golden.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *suite, "-k", "any_class or every_golden_file"],
        cwd=tmp_path,
        env=around,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "tests" / "golden" / "method-any_class.json").exists()
    done = subprocess.run(
        command(
            "method=any_class",
            "attack=none",
            *SHORT[:2],
            f"paths.outputs={tmp_path / 'outputs'}",
            root=tmp_path,
        ),
        cwd=tmp_path,
        env=around,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr


def test_an_unlearned_model_samples_with_diffusers_alone(tmp_path: Path):
    run(*SHORT, f"paths.outputs={tmp_path / 'outputs'}", "stages=[pretrain,unlearn]")
    folder = next((tmp_path / "outputs" / "artifacts" / "unlearn").glob("*/raw"))
    example = next(
        text for text in blocks("python", START) if "UNet2DModel.from_pretrained" in text
    )
    check = "\nimport sys\nassert images.shape == (4, 1, 8, 8) and 'unrelearn' not in sys.modules\n"
    done = subprocess.run(
        [sys.executable, "-c", f"FOLDER = {str(folder)!r}\n{example}{check}"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/how-it-works.md"])
def test_every_path_and_command_named_in_the_tree_exists(page: str):
    text = (ROOT / page).read_text()
    (tree,) = re.findall(r"^```\n(run\.py .*?)^```", text, flags=re.S | re.M)
    for name in re.findall(r"[\w/]+\.py", tree):
        assert list(ROOT.glob(f"[!.]*/**/{name}")) or (ROOT / name).exists(), name
    for name in re.findall(r"\b(\w+)/(?=[\s:,;])", tree.split("outputs/  ")[0]):
        assert [path for path in ROOT.glob(f"[!.]*/**/{name}") if path.is_dir()] or (
            ROOT / name
        ).is_dir(), name
    for group in ("methods", "attacks", "evals", "data"):
        assert f"{group}/" in tree


def test_every_method_and_attack_is_named_in_the_tree():
    (tree,) = re.findall(
        r"^```\n(run\.py .*?)^```", (ROOT / "docs/how-it-works.md").read_text(), flags=re.S | re.M
    )
    for group in ("methods", "attacks", "data"):
        for path in (ROOT / "src" / "unrelearn" / group).glob("[!_]*.py"):
            has_yaml = (ROOT / "conf" / GROUPS[group] / f"{path.stem}.yaml").exists()
            assert not has_yaml or re.search(rf"\b{path.stem}\b", tree), path.stem


def test_the_readme_is_short_and_narrow():
    lines = README.splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 100] == []


def tables(path: str) -> list[str]:
    """Headings and all rows of each."""
    return re.findall(r"(?:^\|.*\n)+", (ROOT / path).read_text(), flags=re.M)


def test_the_table_of_the_readme_is_the_first_that_make_results_effort_wrote():
    (written, *_) = tables("docs/results/effort/table.md")
    (shown,) = re.findall(r"<!-- board.md -->\n((?:\|.*\n)+)<!-- end -->", README)
    assert shown == written.replace(" | ", "|")
    assert shown == (ROOT / "docs/results/effort/board.md").read_text()


def test_the_table_of_classifiers_is_the_one_that_make_results_classification_wrote():
    written = tables("docs/results/classification/classification.md")
    assert tables("docs/results/classification.md") == written and len(written) == 1


def test_the_method_of_the_readme_is_the_example_outside_of_the_tree():
    code = next(text for text in blocks("python") if "to_null.py" in text).split("\n", 1)[1]
    settings = next(text for text in blocks("yaml") if "to_null.yaml" in text).split("\n", 1)[1]
    example = ROOT / "examples" / "own_method"
    assert code == (example / "to_null.py").read_text()
    outside = settings.replace("unrelearn.methods.to_null.", "to_null.")
    assert outside == (example / "method" / "to_null.yaml").read_text()
