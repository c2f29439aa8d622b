"""The store: one key, one computation, and nothing half-done that looks finished. Real processes,
really killed.
"""

import contextlib
import errno
import json
import multiprocessing
import os
import random
import resource
import runpy
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from unrelearn.artifact import MANIFEST, RESUME, SHARED, Artifact, Spec, Store, write_json
from unrelearn.errors import UsageError

# not by `command`, which imports all there is: each process of this file imports this file
ROOT = Path(__file__).parents[1]
PARENTS = ("a" * 16, "b" * 16)
SPEC = Spec(
    "pretrain", 1, {"dataset": {"name": "digits", "flip": False}, "seed": 0, "rate": 1e-3}, PARENTS
)
FILES = {"raw/weights.bin", "metrics.json", MANIFEST}  # of compute() below
PARTS = 12

# a server that has loaded torch once and forks from there: processes in 20 ms, and no fork of a
# process with threads
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["unrelearn.artifact", "pytest"])


def silent(line: str) -> None:
    pass


def store(root: Path, *, rebuild: bool = False, say: Callable[[str], None] = silent) -> Store:
    return Store(root, rebuild=rebuild, say=say)


def compute(folder: Path) -> dict:
    """A stage: weights in a sub-folder, a metric, and state for resuming."""
    (folder / RESUME).mkdir(exist_ok=True)
    (folder / RESUME / "last.ckpt").write_text("state")
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / "weights.bin").write_bytes(bytes(range(256)))
    write_json(folder / "metrics.json", {"value": 0.5})
    return {"weights": "raw"}


def never(folder: Path) -> dict:
    raise AssertionError("computed although it was there")


def built(tmp_path: Path) -> Artifact:
    return store(tmp_path).build(SPEC, compute)


# ---------------------------------------------------------------------------------------------- key


@pytest.mark.parametrize(
    "other",
    [
        Spec("unlearn", SPEC.version, SPEC.config, SPEC.parents),
        Spec(SPEC.stage, 2, SPEC.config, SPEC.parents),
        Spec(SPEC.stage, SPEC.version, {**SPEC.config, "seed": 1}, SPEC.parents),
        Spec(SPEC.stage, SPEC.version, {**SPEC.config, "rate": 1.001e-3}, SPEC.parents),
        Spec(SPEC.stage, SPEC.version, {**SPEC.config, "new": None}, SPEC.parents),
        Spec(
            SPEC.stage,
            SPEC.version,
            {**SPEC.config, "dataset": {"name": "digits", "flip": True}},
            SPEC.parents,
        ),
        Spec(
            SPEC.stage,
            SPEC.version,
            {**SPEC.config, "dataset": {"name": "digits"}, "flip": False},
            SPEC.parents,
        ),
        Spec(
            SPEC.stage,
            SPEC.version,
            {k: v for k, v in SPEC.config.items() if k != "seed"},
            SPEC.parents,
        ),
        Spec(SPEC.stage, SPEC.version, SPEC.config, SPEC.parents[:1]),
        Spec(SPEC.stage, SPEC.version, SPEC.config, SPEC.parents[::-1]),
    ],
    ids=[
        "stage",
        "version",
        "seed",
        "rate",
        "new key",
        "nested value",
        "moved key",
        "key gone",
        "parent",
        "order",
    ],
)
def test_the_key_changes_with_everything_in_the_spec(other: Spec):
    assert other.key != SPEC.key


def test_the_key_changes_with_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    backwards = {"rate": 0.001, "seed": 0, "dataset": {"flip": False, "name": "digits"}}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert Spec("pretrain", 1, backwards, PARENTS).key == SPEC.key
    assert len(SPEC.key) == 16 and int(SPEC.key, 16) >= 0


def test_the_key_is_that_of_every_artefact_so_far():
    """If this fails, no artefact that anyone has will be found again."""
    assert SPEC.key == "9d8ef2b4dd0ae880"


def test_what_json_can_not_say_exactly_has_no_key():
    with pytest.raises(ValueError):
        _ = Spec("pretrain", 1, {"rate": float("nan")}).key
    with pytest.raises(TypeError):
        _ = Spec("pretrain", 1, {"root": Path("data")}).key


# ----------------------------------------------------------------------------------- build and find


def test_what_is_built_is_found_and_not_computed_again(tmp_path: Path):
    first = built(tmp_path)
    assert first.path == tmp_path / "pretrain" / SPEC.key
    assert (first.key, first.stage, first.reused) == (SPEC.key, "pretrain", False)
    assert first.meta["weights"] == "raw" and f"pid {os.getpid()}" in first.meta["by"]
    again = store(tmp_path).build(SPEC, never)
    assert again.reused and again.path == first.path and again.manifest == first.manifest
    assert store(tmp_path).find(SPEC) == again
    assert store(tmp_path).find(Spec("pretrain", 2, SPEC.config, SPEC.parents)) is None


def test_the_manifest_says_what_the_artefact_was_made_of(tmp_path: Path):
    manifest = json.loads((built(tmp_path).path / MANIFEST).read_text())
    assert (
        Spec(manifest["stage"], manifest["version"], manifest["config"], tuple(manifest["parents"]))
        == SPEC
    )


def test_what_a_library_keeps_private_others_may_read_as_the_rest(tmp_path: Path):
    def private(folder: Path) -> dict:
        (folder / "deep").mkdir()
        for name in ("weights.safetensors", "deep/weights.safetensors"):
            (folder / name).write_bytes(b"weights")
            (folder / name).chmod(0o600)
        return {}

    path = store(tmp_path).build(SPEC, private).path
    modes = {file.stat().st_mode for file in path.rglob("*") if file.is_file()}
    assert modes == {(path / "manifest.json").stat().st_mode}


def test_the_state_for_resuming_is_no_part_of_the_artefact(tmp_path: Path):
    artifact = built(tmp_path)
    assert set(artifact.manifest["files"]) == FILES
    assert not (artifact.path / RESUME).exists()


def test_a_stage_that_fails_leaves_its_work_and_the_next_build_goes_on_from_it(tmp_path: Path):
    def half(folder: Path) -> dict:
        (folder / "half.txt").write_text("first half")
        raise RuntimeError("interrupted")

    def rest(folder: Path) -> dict:
        assert (folder / "half.txt").read_text() == "first half"
        (folder / "rest.txt").write_text("second half")
        return {}

    with pytest.raises(RuntimeError, match="interrupted"):
        store(tmp_path).build(SPEC, half)
    assert (tmp_path / "pretrain" / f"{SPEC.key}.partial" / "half.txt").exists()
    assert store(tmp_path).find(SPEC) is None
    artifact = store(tmp_path).build(SPEC, rest)
    assert {p.name for p in artifact.path.iterdir()} == {"half.txt", "rest.txt", MANIFEST}
    assert not (tmp_path / "pretrain" / f"{SPEC.key}.partial").exists()


def test_unfinished_work_is_never_found_even_with_a_manifest_in_it(tmp_path: Path):
    finished = built(tmp_path)
    finished.path.rename(finished.path.with_name(f"{SPEC.key}.partial"))
    assert store(tmp_path).find(SPEC) is None
    assert store(tmp_path).build(SPEC, compute).reused is False


def test_json_is_written_whole_or_not_at_all(tmp_path: Path):
    write_json(tmp_path / "new" / "x.json", {"b": 1, "a": [1.5, None]})
    with pytest.raises(TypeError):
        write_json(tmp_path / "new" / "x.json", {"a": object()})
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {"b": 1, "a": [1.5, None]}


# ------------------------------------------------------------------------------------------- damage


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def refused(tmp_path: Path) -> str:
    """The one line with which a damaged artefact is refused; a new Store, as in a new process."""
    with pytest.raises(UsageError) as error:
        store(tmp_path).find(SPEC)
    with pytest.raises(UsageError):
        store(tmp_path).build(SPEC, never)
    assert len(error.value.problems) == 1
    assert str(tmp_path / "pretrain" / SPEC.key) in error.value.problems[0]
    assert "rebuild=true" in error.value.problems[0]
    return error.value.problems[0]


@pytest.mark.parametrize("name", ["raw/weights.bin", "metrics.json"])
@pytest.mark.parametrize("at", [0, 7, -1])
def test_one_flipped_bit_in_a_file_is_noticed_and_the_file_named(
    tmp_path: Path, name: str, at: int
):
    flip(built(tmp_path).path / name, at)
    assert f"{name} does not match" in refused(tmp_path)


@pytest.mark.parametrize("name", ["raw/weights.bin", "metrics.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    (built(tmp_path).path / name).unlink()
    assert f"{name} is missing" in refused(tmp_path)


def test_every_flipped_bit_in_the_manifest_is_noticed(tmp_path: Path):
    artifact = built(tmp_path)
    path, whole = artifact.path / MANIFEST, (artifact.path / MANIFEST).read_bytes()
    for at in range(len(whole)):
        flip(path, at)
        with pytest.raises(UsageError):
            store(tmp_path).find(SPEC)
        path.write_bytes(whole)
    assert store(tmp_path).find(SPEC).manifest == artifact.manifest


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_a_truncated_manifest_is_named(tmp_path: Path, keep: int):
    path = built(tmp_path).path / MANIFEST
    path.write_bytes(path.read_bytes()[:keep])
    assert MANIFEST in refused(tmp_path)


def test_a_missing_or_foreign_manifest_is_named(tmp_path: Path):
    artifact = built(tmp_path)
    other = store(tmp_path).build(Spec("pretrain", 9, {}), compute)
    (artifact.path / MANIFEST).write_bytes((other.path / MANIFEST).read_bytes())
    assert f"{MANIFEST} belongs to {other.key}" in refused(tmp_path)
    (artifact.path / MANIFEST).write_text("[1, 2]")
    assert MANIFEST in refused(tmp_path)
    (artifact.path / MANIFEST).unlink()
    assert MANIFEST in refused(tmp_path)


def test_rebuild_computes_again_and_keeps_the_damaged_folder(tmp_path: Path):
    artifact, lines = built(tmp_path), []
    flip(artifact.path / "metrics.json", 0)
    damaged = (artifact.path / "metrics.json").read_bytes()
    again = store(tmp_path, rebuild=True, say=lines.append).build(SPEC, compute)
    assert not again.reused and json.loads((again.path / "metrics.json").read_text()) == {
        "value": 0.5
    }
    (aside,) = (tmp_path / "pretrain").glob(f"{SPEC.key}.damaged-*")
    assert (aside / "metrics.json").read_bytes() == damaged and (
        aside / "raw" / "weights.bin"
    ).exists()
    assert len(lines) == 1 and "metrics.json" in lines[0] and aside.name in lines[0]
    assert store(tmp_path).build(SPEC, never).reused


def test_rebuild_leaves_what_is_whole_alone(tmp_path: Path):
    built(tmp_path)
    assert store(tmp_path, rebuild=True).build(SPEC, never).reused
    assert not list((tmp_path / "pretrain").glob("*.damaged-*"))


# ---------------------------------------------------------------------------------------- processes


@contextlib.contextmanager
def process(target: Callable, *arguments) -> Iterator[multiprocessing.Process]:
    running = processes.Process(target=target, args=arguments)
    running.start()
    try:
        yield running
    finally:
        running.kill()
        running.join()


def build_once_the_other_waits(root: Path, go, other_waits, results) -> None:
    lines, computed = [], []

    def say(line: str) -> None:
        lines.append(line)
        other_waits.set()

    def slowly(folder: Path) -> dict:
        computed.append(True)
        assert other_waits.wait(900)
        return compute(folder)

    go.wait(900)
    artifact = store(root, say=say).build(SPEC, slowly)
    results.put(
        {
            "pid": os.getpid(),
            "computed": len(computed),
            "lines": lines,
            "reused": artifact.reused,
            "path": artifact.path,
            "manifest": artifact.manifest,
        }
    )


def test_of_two_processes_one_computes_and_the_other_waits_and_says_for_whom(tmp_path: Path):
    go, waits, results = processes.Barrier(2), processes.Event(), processes.Queue()
    arguments = (tmp_path, go, waits, results)
    with (
        process(build_once_the_other_waits, *arguments),
        process(build_once_the_other_waits, *arguments),
    ):
        worker, waiter = sorted(
            (results.get(timeout=900) for _ in range(2)), key=lambda r: r["reused"]
        )
    assert (worker["computed"], worker["reused"], worker["lines"]) == (1, False, [])
    assert (waiter["computed"], waiter["reused"]) == (0, True)
    assert waiter["path"] == worker["path"] and waiter["manifest"] == worker["manifest"]
    (line,) = waiter["lines"]
    assert f"pretrain/{SPEC.key}" in line
    assert f"host {socket.gethostname()}, pid {worker['pid']}" in line


def test_a_lock_whose_owner_has_not_yet_said_who_it_is_is_waited_for_all_the_same(tmp_path: Path):
    lines, results = processes.Queue(), processes.Queue()
    folder = tmp_path / "pretrain" / f"{SPEC.key}.partial"
    write_json(folder / "half.txt", "first half")
    owner = folder.with_suffix(".owner")
    owner.write_text("")  # opened, and not yet written
    with FileLock(folder.with_suffix(".lock")), process(take_over, tmp_path, lines, results):
        assert lines.get(timeout=900).endswith("computed by another process")
        owner.unlink()


def compute_until_killed(root: Path, computing) -> None:
    def compute(folder: Path) -> dict:
        (folder / "half.txt").write_text("first half")
        computing.set()
        time.sleep(3600)
        raise AssertionError

    store(root).build(SPEC, compute)


def take_over(root: Path, lines, results) -> None:
    def rest(folder: Path) -> dict:
        return {"found": (folder / "half.txt").read_text()}

    results.put(store(root, say=lines.put).build(SPEC, rest).meta)


def test_a_waiting_process_takes_over_when_the_one_it_waits_for_is_killed(tmp_path: Path):
    computing, lines, results = processes.Event(), processes.Queue(), processes.Queue()
    with process(compute_until_killed, tmp_path, computing) as owner:
        assert computing.wait(900)
        with process(take_over, tmp_path, lines, results) as heir:
            assert f"pid {owner.pid}" in lines.get(timeout=900)
            os.kill(owner.pid, signal.SIGKILL)
            meta = results.get(timeout=900)
            assert meta["found"] == "first half" and f"pid {heir.pid}" in meta["by"]


def test_the_lock_of_a_killed_process_holds_up_nobody_who_comes_later(tmp_path: Path):
    computing, lines = processes.Event(), []
    with process(compute_until_killed, tmp_path, computing) as owner:
        assert computing.wait(900)
        os.kill(owner.pid, signal.SIGKILL)
        owner.join()
        artifact = store(tmp_path, say=lines.append).build(SPEC, lambda folder: {})
    assert set(artifact.manifest["files"]) == {"half.txt", MANIFEST} and lines == []


def test_a_waiting_process_computes_when_the_one_it_waits_for_fails(tmp_path: Path):
    lines, results = processes.Queue(), processes.Queue()
    with contextlib.ExitStack() as stack:

        def fail_once_someone_waits(folder: Path) -> dict:
            (folder / "half.txt").write_text("first half")
            stack.enter_context(process(take_over, tmp_path, lines, results))
            assert f"pid {os.getpid()}" in lines.get(timeout=900)
            raise RuntimeError("interrupted")

        with pytest.raises(RuntimeError, match="interrupted"):
            store(tmp_path).build(SPEC, fail_once_someone_waits)
        assert results.get(timeout=900)["found"] == "first half"


# ------------------------------------------------------------------------------------------ kill -9


def in_parts(folder: Path) -> dict:
    """Resumable work: parts one after the other, each from the one before; a big file at the
    end.
    """
    for number in range(PARTS):
        part = folder / "parts" / f"{number:02}.json"
        if not part.exists():
            before = (
                json.loads((folder / "parts" / f"{number - 1:02}.json").read_text())
                if number
                else []
            )
            write_json(part, [*before, f"part {number:02}, made from the one before"])
            time.sleep(0.002)
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 4096)
    return {"parts": PARTS}


def build_in_parts(root: Path, ready) -> None:
    ready.set()
    store(root).build(SPEC, in_parts)


def whole(artifact: Artifact) -> bool:
    expected = {f"parts/{i:02}.json" for i in range(PARTS)} | {"weights.bin", MANIFEST}
    there = {
        p.relative_to(artifact.path).as_posix() for p in artifact.path.rglob("[!.]*") if p.is_file()
    }
    return (
        set(artifact.manifest["files"]) == there == expected
        and json.loads((artifact.path / "parts" / f"{PARTS - 1:02}.json").read_text())
        == [f"part {number:02}, made from the one before" for number in range(PARTS)]
        and (artifact.path / "weights.bin").read_bytes() == bytes(range(256)) * 4096
    )


def test_killed_at_any_moment_the_same_build_finishes_with_the_right_content(tmp_path: Path):
    ready, rng = processes.Event(), random.Random(0)
    with process(build_in_parts, tmp_path / "timed", ready) as running:
        assert ready.wait(900)
        started = time.monotonic()
        running.join()
        duration = time.monotonic() - started
    killed_before_the_end = 0
    for trial in range(10):
        root = tmp_path / str(trial)
        ready.clear()
        with process(build_in_parts, root, ready) as running:
            assert ready.wait(900)
            time.sleep(duration * (trial + rng.random()) / 10)
            running.kill()
            running.join()
        found = store(root).find(SPEC)
        killed_before_the_end += found is None
        assert found is None or whole(found)
        assert whole(store(root).build(SPEC, in_parts))
        assert whole(store(root).find(SPEC))
    assert killed_before_the_end >= 1  # or nothing was tried


def die_at_call(root: Path, name: str, count: int) -> None:
    """Build, and be gone for good just before call number `count` of os.replace, os.fsync or
    os.rename.
    """
    original, calls = getattr(os, name), []

    def counted(*arguments, **options):
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(os, name, counted)
    store(root).build(SPEC, in_parts)


# 12 parts and the manifest are written aside, flushed and replaced: 13 each; then 16 files and
# folders are flushed, the folder renamed, and the folder above flushed: 30 os.fsync
LAST_MOMENTS = [
    ("replace", 1),
    ("replace", PARTS),
    ("replace", PARTS + 1),
    ("fsync", PARTS + 1),
    ("fsync", PARTS + 2),
    ("fsync", 2 * PARTS + 5),
    ("rename", 1),
    ("fsync", 2 * PARTS + 6),
]


@pytest.mark.parametrize("name, count", LAST_MOMENTS)
def test_killed_between_any_two_steps_of_finishing_it_is_finished_or_not_there(
    tmp_path: Path, name: str, count: int
):
    with process(die_at_call, tmp_path, name, count) as running:
        running.join(900)
        assert running.exitcode == -signal.SIGKILL
    found = store(tmp_path).find(SPEC)
    assert found is None if (name, count) != LAST_MOMENTS[-1] else whole(found)
    assert whole(store(tmp_path).build(SPEC, in_parts))
    assert whole(store(tmp_path).find(SPEC))


# ------------------------------------------------------------------ the same file a second time


def child(
    root: Path, meanwhile: Callable[[Path], object] = lambda parent: None
) -> tuple[Artifact, Artifact]:
    """An artefact, and one of which it is the parent: a large file is the same in both, and twice
    in the second; a small one is the same in both. meanwhile: what happens to the parent's folder.
    """

    def parent(folder: Path) -> dict:
        (folder / "large").write_bytes(bytes(SHARED))
        (folder / "small").write_bytes(bytes(9))
        return {}

    def own(folder: Path) -> dict:
        for name in ("kept", "again"):
            (folder / name).write_bytes(bytes(SHARED))
        (folder / "moved").write_bytes(bytes([1]) * SHARED)
        (folder / "small").write_bytes(bytes(9))
        meanwhile(one.path)
        return {}

    one = store(root).build(Spec("pretrain", 1, {}), parent)
    return one, store(root).build(Spec("unlearn", 1, {}, (one.key,)), own)


def test_a_large_file_of_a_parent_is_stored_once_and_outlives_it(tmp_path: Path):
    parent, made = child(tmp_path)
    inodes = {p.name: p.stat().st_ino for p in [*parent.path.iterdir(), *made.path.iterdir()]}
    assert inodes["large"] == inodes["kept"] == inodes["again"] != inodes["moved"]
    assert (made.path / "small").stat().st_nlink == (made.path / "moved").stat().st_nlink == 1
    assert store(tmp_path).find(Spec("unlearn", 1, {}, (parent.key,)))  # every sha256 is right
    shutil.rmtree(parent.path)
    assert store(tmp_path).find(Spec("unlearn", 1, {}, (parent.key,)))


def test_a_file_that_was_damaged_in_a_parent_damages_no_other(tmp_path: Path):
    parent, made = child(tmp_path, lambda one: (one / "large").write_bytes(bytes([2]) * SHARED))
    assert not (made.path / "kept").samefile(parent.path / "large")
    assert store(tmp_path).find(Spec("unlearn", 1, {}, (parent.key,)))
    with pytest.raises(UsageError, match="large does not match its sha256"):
        store(tmp_path).find(Spec("pretrain", 1, {}))


def test_a_file_of_several_names_is_freed_with_the_last(tmp_path: Path):
    parent, made = child(tmp_path)
    freed = runpy.run_path(str(ROOT / "scripts" / "gc.py"))["freed"]
    wholes = [freed(f) // SHARED for f in ([parent.path], [made.path], [parent.path, made.path])]
    assert wholes == [0, 1, 2]
    shutil.rmtree(parent.path)
    assert freed([made.path]) // SHARED == 2


def test_a_file_system_without_links_holds_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*names: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    parent, made = child(tmp_path)
    assert (made.path / "kept").stat().st_nlink == 1
    assert store(tmp_path).find(Spec("unlearn", 1, {}, (parent.key,)))


# ---------------------------------------------------------------------------------------- full disk


def build_with_files_of_at_most(limit: int, root: Path, work: Callable, results) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store(root).build(SPEC, work)
        results.put("no error")
    except OSError as error:
        results.put(error.errno)


@pytest.mark.parametrize(
    "limit, work, left",
    [
        (8, compute, []),
        (256, in_parts, ["parts/04.json"]),
        (500_000, in_parts, ["parts/11.json", "weights.bin"]),
        (512, compute, ["metrics.json", "raw/weights.bin"]),
    ],
    ids=["at the lock", "in a part", "in the weights", "in the manifest"],
)
def test_a_full_disk_is_an_oserror_and_leaves_nothing_finished(
    tmp_path: Path, limit: int, work: Callable, left: list
):
    results = processes.Queue()
    with process(build_with_files_of_at_most, limit, tmp_path, work, results):
        assert results.get(timeout=900) == errno.EFBIG
    assert store(tmp_path).find(SPEC) is None
    partial = tmp_path / "pretrain" / f"{SPEC.key}.partial"
    assert all((partial / name).exists() for name in left) and not (partial / MANIFEST).exists()
    artifact = store(tmp_path).build(SPEC, work)
    assert whole(artifact) if work is in_parts else set(artifact.manifest["files"]) == FILES
