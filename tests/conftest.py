"""Fixtures that several files share. What they are made of is in tiny.py."""

import logging
import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import tiny
import torch
from command import ROOT
from hydra.core.global_hydra import GlobalHydra

from unrelearn import config
from unrelearn.classification.classifier import Classifier

torch.set_num_threads(
    1
)  # networks this small gain nothing from threads, and sums then have one order


# half a minute each or more: begun last, they would leave one process alone with its work
LONGEST = (
    "grid/test_grid_slurm.py",
    "grid/test_grid.py",
    "test_two_nodes.py",
    "test_smoke.py",
    "test_tracking.py",
    "report/test_audit.py",
    "test_examples.py",
    "test_time_box.py",
    "test_ddp.py",
    "test_readme.py",
    "test_properties.py",
    "test_exposed.py",
    "gan/test_guarantees.py",
    "gan/test_accounting.py",
    "methods/test_processes.py",
    "gan/test_party_processes.py",
    "data/test_celeba_run.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In order of files: the longest, then the others; `make test` keeps this order."""
    files = [Path(__file__).parent / name for name in LONGEST]
    assert all(file.exists() for file in files)
    place = {file: number for number, file in enumerate(files)}
    items.sort(key=lambda item: place.get(item.path, len(files)))


def pytest_xdist_auto_num_workers() -> int:
    """Processes of `-n auto`: one more than cores, as the tests of Slurm mostly wait."""
    return min((os.cpu_count() or 1) + 1, 4)


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., dict]:
    """compose("method=salun", ...) -> the validated configuration as plain Python, as run.py makes
    it.
    """

    def composed(*overrides: str) -> dict:
        fixed = [
            "tracking=none",
            "trainer.accelerator=cpu",
            f"paths.outputs={tmp_path / 'outputs'}",
        ]
        return asdict(config.validate(config.composed([*fixed, *overrides])))

    return composed


@pytest.fixture
def complaint(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., list[str]]:
    """complaint("method=x", ...) -> the lines on stderr of the command, which must end with exit
    code 2; and nothing may be computed, unless it is said that something is.
    """

    def complained(
        *overrides: str, outputs: Path = tmp_path / "outputs", computes: bool = False
    ) -> list[str]:
        GlobalHydra.instance().clear()
        arguments = ["run.py", "tracking=none", f"paths.outputs={outputs}", *overrides]
        if "-m" in overrides:
            arguments = ["run.py", *overrides, "tracking=none", f"paths.outputs={outputs}"]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.chdir(ROOT)
        # Hydra ends all handlers, and absl's would close the file that pytest captures stderr in
        monkeypatch.setattr(logging, "shutdown", lambda *handlers: None)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        # Hydra set it, and switched off all loggers, in this process too
        logging.getLogger().setLevel(logging.WARNING)
        for logger in logging.Logger.manager.loggerDict.values():
            logger.disabled = False
        captured = capsys.readouterr()
        assert ended.value.code == 2, captured
        assert "Traceback" not in captured.err
        assert computes or not list(tmp_path.rglob("artifacts/*/*")), "something was computed"
        return captured.err.strip().splitlines()

    return complained


@pytest.fixture(scope="session")
def oracle() -> Classifier:
    return tiny.new_oracle()
