"""Code in the key: what is not committed has its source there, what is committed is covered by the
version of its stage.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from runs import Cell

from unrelearn import circumstances, source
from unrelearn.evals import fd_oracle, fid, forget_accuracy
from unrelearn.fit import FitOptions, Recorder
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.row_swap import RowSwap

METHOD = """
from unrelearn.methods.finetune import Finetune

class Mine(Finetune):
    weight = 1.0
"""


@pytest.fixture
def fresh():
    """The caches are per process, and a test is a new one."""

    def clear() -> None:
        for cached in (source.top, source.uncommitted, source.commit):
            cached.cache_clear()

    clear()
    yield clear
    clear()


def load(path: Path, text: str):
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_method_outside_the_tree_that_is_edited_has_another_key(
    compose, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(source, "uncommitted", lambda: frozenset())
    cfg = compose("method=finetune")
    keys = [Cell(cfg, "").unlearned.stage.spec.key]
    for text in (METHOD, METHOD.replace("1.0", "2.0"), METHOD):
        load(tmp_path / "mine_method.py", text)
        pipe = Cell({**cfg, "method": {**cfg["method"], "_target_": "mine_method.Mine"}}, "")
        pipe.names["method"] = "finetune"
        keys.append(pipe.unlearned.stage.spec.key)
    assert keys[1] == keys[3] and len(set(keys)) == 3


def test_a_committed_method_keeps_its_key(compose, monkeypatch):
    monkeypatch.setattr(source, "uncommitted", lambda: frozenset())
    pipe = Cell(compose("method=dimum", "attack=dimra"), "")
    for spec in (
        pipe.unlearned.stage.spec,
        pipe.attacked[0].stage.spec,
        pipe.evaluation(pipe.original).spec,
    ):
        assert "source" not in spec.config


def test_a_file_of_the_package_that_differs_from_its_commit_is_in_the_key(compose, monkeypatch):
    file = source.PACKAGE / "methods" / "dimum.py"
    monkeypatch.setattr(
        source,
        "uncommitted",
        lambda: frozenset({file, source.PACKAGE / "evals" / "forget_accuracy.py"}),
    )
    pipe = Cell(compose("method=dimum", "attack=dimra"), "")
    assert pipe.unlearned.stage.spec.config["source"] == source.source_of(DiMUM)
    assert "source" not in pipe.attacked[0].stage.spec.config and source.source_of(RowSwap) is None
    measured = pipe.evaluation(pipe.original).spec.config
    assert measured["source"] == {"forget_accuracy": source.source_of(forget_accuracy.run)}


def test_what_a_class_derives_from_in_its_folder_counts_too(monkeypatch, tmp_path: Path):
    monkeypatch.syspath_prepend(tmp_path)
    load(tmp_path / "base_of_mine.py", "class Base:\n    a = 1\n")
    text = "from base_of_mine import Base\n\n\nclass Mine(Base):\n    pass\n"
    first = source.source_of(load(tmp_path / "derived_of_mine.py", text).Mine)
    (tmp_path / "base_of_mine.py").write_text("class Base:\n    a = 2\n")
    assert source.source_of(sys.modules["derived_of_mine"].Mine) != first


def test_what_a_measurement_calls_in_its_folder_counts_too(monkeypatch):
    """fid is fd_oracle in other features: an edit of the latter is one of both."""
    changed = {source.PACKAGE / "evals" / "fd_oracle.py"}
    monkeypatch.setattr(source, "uncommitted", lambda: frozenset(changed))
    assert source.source_of(fid.run) == source.source_of(fd_oracle.run) is not None
    assert source.source_of(forget_accuracy.run) is None and source.source_of(len) is None


def test_what_git_says(monkeypatch, fresh):
    said = {
        "ls-files": "source.py\n",
        "rev-parse": f"{source.PACKAGE.parents[1]}\n",
        "describe": "0123456789ab\n",
        "diff": "",
        "status": "",
    }
    monkeypatch.setattr(source, "git", lambda *words: said[words[0]])
    assert source.commit() == "0123456789ab" and source.source_of(DiMUM) is None
    fresh()
    said |= {
        "diff": "+caf\udce9\n",
        "status": "?? src/unrelearn/methods/mine.py\0 M src/unrelearn/methods/dimum.py\0",
    }
    assert source.commit().startswith("0123456789ab-dirty-") and len(source.commit()) == 31
    assert source.uncommitted() == {
        source.PACKAGE / "methods" / name for name in ("mine.py", "dimum.py")
    }
    assert source.source_of(DiMUM) is not None


def test_an_installed_package_has_no_commit_though_it_may_lie_in_a_repository(monkeypatch, fresh):
    monkeypatch.setattr(
        source, "git", lambda *words: None if words[0] == "ls-files" else "of somebody else"
    )
    assert (
        source.commit() is None
        and source.source_of(DiMUM) is None
        and source.source_of(print) is None
    )


def test_git_is_asked_for_changes_once(monkeypatch, fresh):
    asked = []
    monkeypatch.setattr(source, "git", lambda *words: asked.append(words[0]) or "x")
    for _ in range(3):
        source.source_of(DiMUM), source.source_of(RowSwap)
    assert sorted(asked) == ["ls-files", "rev-parse", "status"]


# ---- what a record says of its making
# ---------------------------------------------------------------------------------


def test_versions_and_circumstances():
    assert circumstances.versions().keys() == {"unrelearn", "torch", "diffusers", "lightning"}
    assert circumstances.circumstances().keys() == {
        "commit",
        "processes",
        "threads",
        "cpu",
        "python",
    }
    assert circumstances._cpu()


def test_a_package_that_was_not_installed_costs_no_record(monkeypatch):
    def version(name: str) -> str:
        raise circumstances.PackageNotFoundError(name)

    monkeypatch.setattr(circumstances, "version", version)
    assert set(circumstances.versions().values()) == {None}


def test_memory_on_systems_without_proc(monkeypatch):
    class Usage:
        RUSAGE_SELF = 0

        @staticmethod
        def getrusage(who):
            return type("Usage", (), {"ru_maxrss": 3 * 2**20})

    class NoProc:
        def __init__(self, path):
            pass

        def read_text(self, **arguments):
            raise FileNotFoundError

    monkeypatch.setattr(circumstances, "Path", NoProc)
    monkeypatch.setattr(circumstances, "resource", Usage)
    monkeypatch.setattr(circumstances.sys, "platform", "linux")
    assert circumstances.peak_memory() == 3 * 2**10  # KiB
    monkeypatch.setattr(circumstances.sys, "platform", "darwin")
    assert circumstances.peak_memory() == 3  # bytes
    monkeypatch.setattr(circumstances, "resource", None)
    assert circumstances.peak_memory() is None


@pytest.mark.parametrize(("threads", "lines"), [(7, 1), (torch.get_num_threads(), 0), (None, 0)])
def test_who_goes_on_with_other_threads_is_told(
    threads: int | None, lines: int, tmp_path: Path, capsys
):
    recorder = Recorder(tmp_path, "unlearn with dimum", FitOptions())
    recorder.load_state_dict(
        {"seconds": 0.0, "sums": {}, "threads": threads}
    )  # older checkpoints do not say
    said = capsys.readouterr().out.splitlines()
    assert len(said) == lines and all(
        "begun with 7 threads" in line and "trainer.threads=7" in line for line in said
    )
