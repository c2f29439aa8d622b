"""The README and docs/add-a-method.md do what they say: their code blocks are run as they stand."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from command import ROOT, SHORT, command, environment

README, ADD_A_METHOD = (
    (ROOT / "README.md").read_text(),
    (ROOT / "docs" / "add-a-method.md").read_text(),
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
        if match := re.match(r"# ((src|conf|tests)/\S+)\n", block):
            (folder / match[1]).write_text(block)
            written.append(match[1])
    return written


def test_the_example_method_and_attack_take_one_file_and_one_yaml_each(tmp_path: Path):
    assert len(house_with(README, tmp_path, "src", "conf", "run.py")) == 4
    done = subprocess.run(
        command(
            "method=to_null",
            "attack=one_class",
            *SHORT,
            f"paths.outputs={tmp_path / 'outputs'}",
            root=tmp_path,
        ),
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path / "src")),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "outputs" / "runs").glob("digits-to_null-one_class-*/result.json"))


def test_the_method_of_the_guide_passes_its_own_test_and_the_suite_and_survives_a_run(
    tmp_path: Path,
):
    written = house_with(ADD_A_METHOD, tmp_path, "src", "conf", "tests", "run.py", "pyproject.toml")
    assert written == [
        "src/unrelearn/methods/any_class.py",
        "tests/methods/test_any_class.py",
        "conf/method/any_class.yaml",
    ]
    around = environment(PYTHONPATH=str(tmp_path / "src"), UNRELEARN_GOLDEN="write")
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
    done = subprocess.run(
        command(*SHORT, f"paths.outputs={tmp_path / 'outputs'}", "stages=[pretrain,unlearn]"),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    folder = next((tmp_path / "outputs" / "artifacts" / "unlearn").glob("*/raw"))
    example = next(text for text in blocks("python") if "UNet2DModel.from_pretrained" in text)
    check = "\nimport sys\nassert images.shape == (4, 1, 8, 8) and 'unrelearn' not in sys.modules\n"
    done = subprocess.run(
        [sys.executable, "-c", f"FOLDER = {str(folder)!r}\n{example}{check}"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr


def test_every_path_and_command_named_in_the_tree_exists():
    tree = next(text for text in blocks("") if text.startswith("run.py"))
    for name in re.findall(r"[\w/]+\.py", tree):
        assert list(ROOT.rglob(name)), name
    for group in ("methods", "attacks", "evals", "data"):
        assert f"{group}/" in tree
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
