"""The whole command at a tiny size, in real processes: what comes out, what is reused, and what
survives a kill.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import forked
import pytest
from command import ROOT, SHORT, command, environment, run, weights_of
from filelock import FileLock


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The outputs of one undisturbed run; tests copy them."""
    outputs = tmp_path_factory.mktemp("finished") / "outputs"
    run(*SHORT, f"paths.outputs={outputs}")
    return outputs


@pytest.fixture
def outputs(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "outputs"))


def started(*overrides: str) -> forked.Started:
    return forked.Started(command(*overrides), cwd=ROOT, env=environment())


def record(outputs: Path, part: str = "") -> dict:
    paths = [path for path in (outputs / "runs").glob("*/result.json") if part in path.parent.name]
    return json.loads(max(paths, key=lambda path: path.stat().st_mtime).read_text())


def test_a_run_leaves_a_record_a_page_and_every_measurement(finished: Path):
    result = record(finished)
    assert [(row["model"], row["step"]) for row in result["rows"]] == [
        ("original", None),
        ("unlearned", None),
        ("attacked", 5),
        ("attacked", 10),
    ]
    for row in result["rows"]:
        assert set(row["metrics"]) == {
            "forget_accuracy",
            "entropy",
            "replacement",
            "retain_accuracy",
            "fd_oracle",
            "kid_oracle",
            "agreement",
            "other_sampler",
        }
        assert set(row["metrics"]["forget_accuracy"]) == {"1.0", "2.0"}
        assert sum(row["metrics"]["replacement"]["1.0"]) == 20
    assert set(result["recovery"]) == {"1.0", "2.0"}
    assert all(stage["seconds"] > 0 and stage["peak_memory_mib"] > 50 for stage in result["stages"])
    page = (finished / "report" / "index.html").read_text()
    assert "method=" in page or "run.py" in page
    assert (finished / "runs" / result["name"] / "report.html").read_text() == page


def test_the_same_command_computes_nothing_and_prints_the_same_table(outputs: Path):
    before = record(outputs)
    done = run(*SHORT, f"paths.outputs={outputs}")
    after = record(outputs)
    assert after["rows"] == before["rows"] and after["recovery"] == before["recovery"]
    assert {stage["status"] for stage in after["stages"]} == {"reused"}
    assert "0 of" in done.stdout and "computed" in done.stdout


def test_another_method_reuses_the_pretrained_model_and_the_classifiers(outputs: Path):
    run("method=random_label", *SHORT, f"paths.outputs={outputs}")
    status = {
        (s["stage"], s["key"]): s["status"] for s in record(outputs, "random_label")["stages"]
    }
    assert [v for (stage, _), v in status.items() if stage in ("pretrain", "oracle")] == [
        "reused"
    ] * 3
    assert [v for (stage, _), v in status.items() if stage in ("unlearn", "attack")] == [
        "computed"
    ] * 2


def test_controls_share_the_original_model_and_no_attack_shares_everything(outputs: Path):
    run("method=original", "attack=none", f"paths.outputs={outputs}")
    result = record(outputs, "original-none")
    assert (
        result["rows"][0]["evaluate"] == result["rows"][1]["evaluate"]
        and result["recovery"] is None
    )
    assert {stage["status"] for stage in result["stages"]} == {"reused"}


def test_stages_run_in_parts_and_end_the_same(finished: Path, tmp_path: Path):
    where = f"paths.outputs={tmp_path / 'outputs'}"
    run(*SHORT, where, "stages=[pretrain]")
    assert sorted(path.name for path in (tmp_path / "outputs" / "artifacts").iterdir()) == [
        "pretrain"
    ]
    run(*SHORT, where, "stages=[oracle]")
    run(*SHORT, where, "stages=[unlearn]")
    run(*SHORT, where, "stages=[attack,samples,evaluate]")
    assert weights_of(tmp_path / "outputs") == weights_of(finished)


def test_a_flipped_byte_is_named_and_rebuilt_only_when_asked(outputs: Path, finished: Path):
    damaged = next((outputs / "artifacts" / "unlearn").rglob("*.safetensors"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    done = run(*SHORT, f"paths.outputs={outputs}", expect=2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and damaged.name in lines[0] and "rebuild=true" in lines[0]
    run(*SHORT, f"paths.outputs={outputs}", "rebuild=true")
    assert weights_of(outputs) == weights_of(finished)


def test_killed_at_random_moments_the_same_command_ends_with_the_same_bits(
    finished: Path, tmp_path: Path
):
    moments, outputs = random.Random(0), tmp_path / "outputs"
    for _ in range(4):
        process = started(*SHORT, f"paths.outputs={outputs}")
        # a kill before anything is begun proves nothing: wait until there is something to lose
        while process.poll() is None and not re.search("begins|goes on at", process.output()[0]):
            time.sleep(0.05)
        time.sleep(moments.uniform(0.0, 3.0))
        process.kill()
    kept = {
        path: path.stat().st_mtime_ns
        for path in outputs.rglob("manifest.json")
        if ".partial" not in path.as_posix()
    }
    run(*SHORT, f"paths.outputs={outputs}")
    assert weights_of(outputs) == weights_of(finished)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), (
        "something finished was computed again"
    )
    assert not list(outputs.rglob("*.partial"))


def test_two_identical_commands_at_once_give_one_result(finished: Path, tmp_path: Path):
    """Both are made to wait for the first artefact, so that neither is done before the other
    begins.
    """
    outputs = tmp_path / "outputs"
    (key,) = (path.parent.name for path in finished.glob("artifacts/pretrain/*/manifest.json"))
    lock = outputs / "artifacts" / "pretrain" / f"{key}.lock"
    lock.parent.mkdir(parents=True)
    lock.with_suffix(".owner").write_text(f"pid {os.getpid()}")
    held = FileLock(lock)
    held.acquire()
    both = [started(*SHORT, f"paths.outputs={outputs}") for _ in range(2)]
    try:
        while not all("waiting for" in "".join(process.output()) for process in both):
            assert all(process.poll() is None for process in both)
            time.sleep(0.05)
        held.release()
        codes = [process.wait() for process in both]
    finally:
        for process in both:
            process.kill()
    texts = ["".join(process.output()) for process in both]
    assert codes == [0, 0], texts
    assert weights_of(outputs) == weights_of(finished)
    waits = [next(line for line in text.splitlines() if "waiting for" in line) for text in texts]
    assert all(f"pretrain/{key}" in line and f"pid {os.getpid()}" in line for line in waits)


def test_a_full_disk_gives_one_line_and_loses_nothing(outputs: Path, finished: Path):
    shutil.rmtree(outputs / "artifacts" / "attack")
    shutil.rmtree(outputs / "artifacts" / "unlearn")

    def small_files_only():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        command(*SHORT, f"paths.outputs={outputs}"),
        cwd=ROOT,
        env=environment(),
        text=True,
        capture_output=True,
        preexec_fn=small_files_only,
        timeout=900,
    )
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "disk is full" in lines[0] and "Traceback" not in done.stderr
    run(*SHORT, f"paths.outputs={outputs}")
    assert weights_of(outputs) == weights_of(finished)


def test_a_multirun_goes_on_after_a_failure_and_names_it(outputs: Path):
    weights = next((outputs / "artifacts" / "unlearn").rglob("*.safetensors"))
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    done = run("-m", *SHORT, "method=dimum", "forget=5,7,6", f"paths.outputs={outputs}", expect=1)
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "forget=7" in failed and "damaged artefact" in failed and "forget=5" not in failed
    assert "1 of 3 runs failed" in done.stderr
    records = [json.loads(path.read_text()) for path in outputs.glob("runs/*/result.json")]
    assert sorted(record["forget_classes"] for record in records) == [[5], [6], [7]]
    assert "forget" in done.stdout  # the comparison
    shown = [line for line in done.stdout.splitlines() if "report/index.html" in line]
    assert shown and done.stdout.index("forget5") < done.stdout.index("forget6")


def test_every_problem_of_every_run_is_named_before_one_starts(outputs: Path):
    before = set(outputs.rglob("*"))
    words = ["method=dimum", "forget=5,99", "seed=0,-1", "method.max_steps=-3,10"]
    done = run("-m", *SHORT[1:], *words, f"paths.outputs={outputs}", expect=2)
    assert [line.split(": ")[1] for line in sorted(done.stderr.splitlines())] == [
        "forget=99",
        "method.max_steps=-3",
        "seed=-1",
    ]
    assert set(outputs.rglob("*")) - before == {outputs / "multirun.yaml"}  # Hydra's own


def test_a_multirun_of_parts_makes_what_any_run_asks_for(tmp_path: Path):
    words = ["-m", "method=dimum,salun", "unlearning.max_steps=2", f"paths.outputs={tmp_path}"]
    done = run(*words, "stages=[unlearn],[oracle]", expect=1)
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "method=dimum" in failed and "method=salun" in failed
    assert failed.endswith("Type 'stages=[pretrain,unlearn]'") and "[oracle]" not in failed
    assert "2 of 4 runs failed" in done.stderr
    done = run(*words, "stages=[unlearn],[pretrain]")
    lines = [line.split() for line in done.stdout.splitlines()]
    made = [line[0] for line in lines if line[2:3] == ["computed,"]]
    assert sorted(made) == ["unlearn", "unlearn"]  # each once; the other runs read them
    assert len(list(tmp_path.glob("artifacts/pretrain/*/manifest.json"))) == 1


def test_several_forgotten_classes_by_name_and_index(outputs: Path):
    run(*SHORT, "forget=[2,'5']", f"paths.outputs={outputs}")
    result = record(outputs, "forget2_5")
    assert result["forget_classes"] == [2, 5]
    per_class = result["rows"][0]["metrics"]["retain_accuracy"]["1.0"]["per_class"]
    assert [c for c, value in enumerate(per_class) if value is None] == [2, 5]


@pytest.mark.parametrize("several", [[], ["-m", "seed=0,1"]], ids=["one run", "several"])
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, several: list[str]):
    process = subprocess.Popen(
        command(
            *SHORT, *several, "model.pretrain.max_steps=100000", f"paths.outputs={tmp_path / 'o'}"
        ),
        cwd=ROOT,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a background job ignores it
    while not list(tmp_path.rglob("last.ckpt")) and process.poll() is None:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    try:
        _, error = process.communicate(timeout=900)
    finally:
        process.kill()
    assert (
        process.returncode == 130 and "same command continues" in error and "Traceback" not in error
    )
