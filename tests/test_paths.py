"""conf/ and scripts/ are found from where run.py is, however the package was installed and wherever
one stands.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment

from unrelearn import paths, slurm


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A checkout without src/, and an environment in which the package is a copy elsewhere, as `pip
    install .` makes it.
    """
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(
        ROOT / "src" / "unrelearn",
        folder / "site" / "unrelearn",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("conf", "scripts"):
        shutil.copytree(ROOT / name, folder / "checkout" / name)
    shutil.copy(ROOT / "run.py", folder / "checkout")
    return folder, environment(PYTHONPATH=str(folder / "site"), UNRELEARN_ROOT="")


def called(program: Path, *words: str, cwd: Path, env: dict) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(program), *words],
        cwd=cwd,
        env=env,
        text=True,
        capture_output=True,
        timeout=900,
    )


def test_a_run_from_another_folder_with_the_package_installed_as_a_copy(installed, tmp_path: Path):
    folder, env = installed
    yaml = folder / "checkout" / "conf" / "config.yaml"
    yaml.write_text(
        yaml.read_text().replace("\nseed: 0\n", "\nseed: 5\n")
    )  # as a user edits it: this file counts
    shown = called(folder / "checkout" / "run.py", "--cfg", "job", cwd=tmp_path, env=env)
    assert shown.returncode == 0 and shown.stdout.startswith("seed: 5\n"), shown.stderr
    planned = called(
        folder / "checkout" / "run.py", "dry_run=true", "tracking=none", cwd=tmp_path, env=env
    )
    assert planned.returncode == 0 and "to do: " in planned.stdout, planned.stderr


def test_without_conf_one_line_says_so_at_once(installed, tmp_path: Path):
    _, env = installed
    shutil.copy(ROOT / "run.py", tmp_path)
    alone = called(tmp_path / "run.py", "method=row_swap", cwd=tmp_path, env=env)
    assert alone.returncode == 2 and alone.stdout == ""
    assert len(alone.stderr.splitlines()) == 1 and alone.stderr.startswith(
        "error: conf/: not found in "
    )


def test_a_conf_of_somebody_elses_project_is_none_of_ours(tmp_path: Path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("seed: 1\n")
    assert paths.find([tmp_path, ROOT]) == ROOT and paths.find([tmp_path]) is None


def test_jobs_run_the_program_beside_conf():
    assert (
        slurm.PROGRAM.is_file()
        and paths.CONF.is_dir()
        and slurm.PROGRAM.parents[1] == paths.CONF.parent
    )


def test_no_file_looks_for_the_checkout_by_itself():
    lost = [path.name for path in (ROOT / "src").rglob("*.py") if "parents[2]" in path.read_text()]
    assert lost == ["paths.py"]


def test_the_home_folder_is_meant_by_a_tilde_in_every_script(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.given("~/out") == tmp_path / "out" and paths.given("a/~") == Path("a/~")
    scripts = [path for path in (ROOT / "scripts").glob("*.py") if "type=" in path.read_text()]
    unread = {path.name for path in scripts if "type=Path" in path.read_text()}
    # the one reads a file that it wrote, the other expands what it was given
    assert len(scripts) >= 6 and unread == {"grid.py", "fetch_data.py"}
