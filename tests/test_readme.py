"""The README does what it says: its code blocks are run as they stand."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from command import ROOT, SHORT, command, environment

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_the_example_method_and_attack_take_one_file_and_one_yaml_each(tmp_path: Path):
    for part in ("src", "conf", "run.py"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / part)
    written = 0
    for text in blocks("python") + blocks("yaml"):
        if match := re.match(r"# ((src|conf)/\S+)\n", text):
            (tmp_path / match[1]).write_text(text)
            written += 1
    assert written == 4
    done = subprocess.run(
        command("method=to_null", "attack=one_class", *SHORT, f"paths.outputs={tmp_path / 'outputs'}", root=tmp_path),
        cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path / "src")), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "outputs" / "runs").glob("digits-to_null-one_class-*/result.json"))


def test_an_unlearned_model_samples_with_diffusers_alone(tmp_path: Path):
    done = subprocess.run(command(*SHORT, f"paths.outputs={tmp_path / 'outputs'}", "stages=[pretrain,unlearn]"),
                          cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    folder = next((tmp_path / "outputs" / "artifacts" / "unlearn").glob("*/raw"))
    example = next(text for text in blocks("python") if "UNet2DModel.from_pretrained" in text)
    check = "\nimport sys\nassert images.shape == (4, 1, 8, 8) and 'unrelearn' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", f"FOLDER = {str(folder)!r}\n{example}{check}"],
                          capture_output=True, text=True, timeout=120)
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
