"""Several processes are one run: the same noise, losses, weights, images and artefacts. On the CPU,
with gloo.
"""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from multiprocessing.synchronize import Event
from pathlib import Path
from types import SimpleNamespace

import pytest
import several_processes
import torch
from runs import execute
from safetensors.torch import load_file
from several_processes import (
    CHUNKS,
    IN_PASSES,
    LOOKED_AT,
    TRAININGS,
    images_of,
    record,
    sharding,
    sights,
)
from small_inception import written
from tiny import SMALL, classifier_training, new_task, tensors, train

from unrelearn import distributed, launch
from unrelearn.data import to_model_range
from unrelearn.data.digits import Digits
from unrelearn.diffusion.inception import Inception

ROOT = Path(__file__).parents[1]
BUDGETS = [
    *SMALL,
    "model.pretrain.max_steps=20",
    "method.max_steps=10",
    "attack.budgets=[0,5,10]",
    "method.learning_rate=1e-4",
    "attack.learning_rate=1e-4",
    "oracle.max_steps=20",
    "sampler.num_images=11",
    "sampler.num_inference_steps=3",
    "sampler.guidance_scales=[1.0]",
    "sampler.images_per_retained_class=1",
    "trainer.log_every_n_steps=5",
]

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)


def environment() -> dict:
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    }
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    return kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}


def started(*command: object, **changes: str) -> subprocess.Popen:
    # a file: a pipe that nobody empties holds up whoever writes, and then all who wait for it
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when the process has ended
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment() | changes,
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    process.log = log
    return process


def finish(*processes: subprocess.Popen) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        for process in processes:
            process.wait(timeout=900)
    codes = [process.poll() for process in processes]  # None: it hung
    for process in processes:
        process.terminate()  # torchrun ends its workers
        process.wait()
        process.log.seek(0)
    assert codes == [0 for _ in processes], "\n".join(
        process.log.read()[-20_000:] for process in processes
    )


def environment_of_two(port: int) -> dict[str, str]:
    """Of two processes that meet at a store which is there, each alone on its node."""
    return {
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave behind."""
    folder = tmp_path_factory.mktemp("two")
    # held open here: a port that was found free and let go may be another process's by then
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = environment_of_two(store.port)
    script = Path(several_processes.__file__)
    finish(*(started(sys.executable, script, folder, RANK=str(r), **ranks) for r in (0, 1)))
    return folder


def test_processes_leave_their_group_before_they_end(two: Path):
    """Else an exit in 25 is an abort, and the job of a grid has failed when all its work is
    done.
    """
    assert not any(torch.load(two / f"ended-{rank}.pt") for rank in (0, 1))


@pytest.fixture(scope="module", params=[1, 2, 3, 8])
def shares(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of 1, 2, 3 and 8 processes says of its share; forked, as nothing of this needs a
    fresh start.
    """
    folder, fork = tmp_path_factory.mktemp("shares"), multiprocessing.get_context("fork")
    ranks = range(request.param)
    written(folder / "inception.pt")
    processes = [fork.Process(target=sharding, args=(folder, rank, len(ranks))) for rank in ranks]
    for process in processes:
        process.start()
    for process in processes:
        process.join(900)
    assert [process.exitcode for process in processes] == [0 for _ in ranks]
    return [torch.load(folder / f"{rank}.pt") for rank in ranks]


def waiting(rank: int, ranks: dict[str, str], over: Event) -> None:
    """Of two processes the first waits for the second, which is there and never comes."""
    os.environ |= {**ranks, "RANK": str(rank)}
    trainer = {"threads": 1, "devices": 1, "accelerator": "cpu", "timeout_minutes": 0.02}
    launch.processes(SimpleNamespace(**trainer))
    if rank:
        over.wait(300)
        os._exit(0)
    try:
        distributed.barrier()
    except RuntimeError:
        over.set()
        os._exit(3)


def test_a_process_that_waits_for_a_lost_one_ends():
    fork = multiprocessing.get_context("fork")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = environment_of_two(store.port)
    over = fork.Event()
    processes = [fork.Process(target=waiting, args=(rank, ranks, over)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [3, 0]


@pytest.mark.parametrize("make", TRAININGS)
def test_two_processes_train_the_model_that_one_trains(make, two: Path, tmp_path: Path):
    alone = record(train(make(), tmp_path))
    first, second = (torch.load(two / f"{make.__name__}-{rank}.pt") for rank in (0, 1))
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name])
    assert first["rows"] == second["rows"]
    for row, expected in zip(first["rows"], alone["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    assert first["mask"].keys() == alone["mask"].keys()
    assert all(torch.equal(mask, first["mask"][name]) for name, mask in alone["mask"].items())
    if (
        make is several_processes.classifier
    ):  # biases before a norm have no gradient: Adam moves them by its rounding
        compare_logits(first["weights"], alone["weights"])
        return
    tolerance = (
        1e-4 if make is several_processes.salun else 1e-5
    )  # its first gradients are small, which Adam undoes
    for name, value in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], value, rtol=0, atol=tolerance)
    assert len(alone["average"]) == len(first["average"])
    for value, expected in zip(first["average"], alone["average"], strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", IN_PASSES)
def test_two_processes_of_two_passes_take_the_steps_of_one(make, two: Path, tmp_path: Path):
    alone = record(train(make(), tmp_path))
    first, second = (torch.load(two / f"{make.__name__}-passes-{rank}.pt") for rank in (0, 1))
    assert first["rows"] == second["rows"]
    for row, expected in zip(first["rows"], alone["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    for name, value in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], value, rtol=0, atol=1e-5)
    for value, expected in zip(first["average"], alone["average"], strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)


def compare_logits(*states: dict) -> None:
    module, logits = classifier_training(), []
    for state in states:
        module.load_state_dict(state)
        logits.append(module.network.eval()(to_model_range(Digits().load().test.images[:50])))
    torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-4)


def test_the_processes_share_one_global_batch_without_repeating_anything(two: Path):
    shares = [torch.load(two / f"draw-{rank}.pt") for rank in (0, 1)]
    module = several_processes.dimum()
    whole = tensors(module.draw("retain", new_task().retain))
    for name, value in whole.items():
        assert torch.equal(torch.cat([share[name] for share in shares]), value), name
    assert [len(share["t"]) for share in shares] == [6, 6]
    assert whole["noise"].flatten(1).unique(dim=0).shape[0] == 12


def test_one_process_goes_on_where_two_were_stopped(two: Path, tmp_path: Path):
    assert (two / "stopped-0.pt").exists() and (two / "stopped-1.pt").exists()
    steps = []
    resumed = train(
        several_processes.dimum(), two / "stopped", log_row=lambda step, row: steps.append(step)
    )
    assert steps == list(range(11, 21))
    whole = record(train(several_processes.dimum(), tmp_path))
    for name, value in record(resumed)["weights"].items():
        torch.testing.assert_close(value, whole["weights"][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", CHUNKS)
def test_uneven_shares_cover_everything_once_and_come_back_in_order(n: int, shares: list[dict]):
    parts = [range(*share["slices"][n]) for share in shares]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for share in shares:
        assert torch.equal(share["gathered"][n], torch.arange(2 * n).view(n, 2))


@pytest.mark.parametrize("count", [2, 7])
def test_any_number_of_processes_draws_the_images_that_one_draws(count: int, shares: list[dict]):
    alone = images_of(count)
    for share in shares:
        assert (share["images"][count].int() - alone.int()).abs().max() <= 1
    assert alone.flatten(1).unique(dim=0).shape[0] == count


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict:
    network = Inception(written(tmp_path_factory.mktemp("alone") / "inception.pt"), "cpu")
    return {count: sights(count, network) for count in LOOKED_AT}


@pytest.mark.parametrize("count", LOOKED_AT)
def test_any_number_of_processes_sees_and_measures_what_one_does(
    count: int, shares: list[dict], alone: dict
):
    seen, metrics = alone[count]
    assert len(seen.features) == count
    for share in shares:
        theirs, measured = share["sights"][count]
        for name, value in vars(seen).items():
            assert (theirs[name] is None) is (value is None)
            if value is not None:
                torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-5)
        assert close(measured, metrics, rel=1e-4)


def test_what_the_first_process_decides_or_refuses_reaches_all(shares: list[dict]):
    assert [share["decided"] for share in shares] == [0 for _ in shares]
    assert [share["problems"] for share in shares] == [
        ["only the first process sees this"] for _ in shares
    ]


def close(a: object, b: object, rel: float = 1e-2) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key], rel) for key in a)
    return a == pytest.approx(b, rel=rel, abs=rel / 10) if isinstance(a, float) else a == b


@pytest.mark.skipif(
    (os.cpu_count() or 1) < 2, reason="one core: trainer.devices=2 is refused there"
)
def test_a_whole_run_in_two_processes_is_the_run_in_one(compose, tmp_path: Path):
    process = started(
        sys.executable,
        "run.py",
        "trainer=ddp",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "tracking=none",
        f"paths.outputs={tmp_path / 'two'}",
        *BUDGETS,
    )
    try:
        one = execute(compose(f"paths.outputs={tmp_path / 'one'}", *BUDGETS), "python run.py")
    finally:
        finish(process)
    (written,) = (tmp_path / "two" / "runs").glob("*/result.json")
    two = json.loads(written.read_text())
    assert two["name"] == one["name"] and two["config"]["trainer"]["devices"] == 2
    assert [stage["key"] for stage in two["stages"]] == [stage["key"] for stage in one["stages"]]
    for row, expected in zip(two["rows"], one["rows"], strict=True):
        assert row["evaluate"] == expected["evaluate"] and row["status"] == "finished"
        assert close(row["metrics"], expected["metrics"])
    files, same_files = (
        {
            path.relative_to(tmp_path / name)
            for path in (tmp_path / name / "artifacts").rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert files == same_files
    for file in (file for file in files if file.suffix == ".safetensors"):
        a, b = load_file(tmp_path / "one" / file), load_file(tmp_path / "two" / file)
        for name in a if "oracle" not in file.parts else ():
            difference = (a[name].float() - b[name].float()).abs().max().item()
            assert difference <= (1.0 if file.name == "samples.safetensors" else 1e-5), (file, name)
    manifests = [
        json.loads((tmp_path / "two" / file).read_text())
        for file in files
        if file.name == "manifest.json"
    ]
    assert {manifest["meta"]["processes"] for manifest in manifests} == {2}
