"""A process a party, and one of the server: the same weights as in one process, bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_federations import SETTINGS, SHAPE, WIDTHS, blocks, federation
from torch.multiprocessing import spawn

from unrelearn.gan import processes
from unrelearn.gan.designs.vertigan import VertiGAN
from unrelearn.gan.designs.vflgan import VFLGAN, Design
from unrelearn.gan.layers import Output
from unrelearn.gan.privacy.dpsgd import DPSGD
from unrelearn.gan.privacy.gs import GS
from unrelearn.gan.privacy.none import AccountedTraining, Privacy
from unrelearn.gan.processes import FederationJob, train_apart

NOISED = DPSGD(epsilon=None, delta=None, noise_multiplier=1.0, clip=1.0)
TAUGHT = GS(epsilon=None, delta=None, noise_multiplier=1.0, clip=1.0, critics=2)


@pytest.mark.parametrize(
    ("design", "privacy"),
    [(VFLGAN(), NOISED), (VFLGAN(), TAUGHT), (VertiGAN(averaging_interval=2), Privacy())],
)
def test_processes_come_to_the_same_bits(design: Design, privacy: Privacy, tmp_path: Path):
    files = [tmp_path / f"party_{number}.safetensors" for number in (1, 2)]
    for file, rows in zip(files, blocks(), strict=True):
        save_file({"train": rows}, file)
    settings = replace(SETTINGS, shape=replace(SHAPE, heads=design.heads))
    mode = privacy.prepared(AccountedTraining(200, 16, 20, 5, 2, design.server))
    outputs = [Output(widths, False) for widths in WIDTHS]
    state = train_apart(FederationJob(design, mode, settings, files, outputs, [0, 1]), tmp_path)
    trained = federation(design, privacy)
    trained.train(20)
    expected = trained.state()
    assert state.keys() == expected.keys()
    assert [name for name, value in expected.items() if not state[name].equal(value)] == []
    assert (tmp_path / "bytes.json").exists()


def work(rank: int, jobs: list[FederationJob], folder: str) -> None:
    processes._work(rank, jobs[rank], folder)


def test_no_process_reads_what_another_party_holds(tmp_path: Path):
    """Each is told of files that hold nothing but NaN in the place of the others' columns."""
    files, nothing = [], []
    for number, rows in enumerate(blocks(), start=1):
        for kept, name, held in ((files, "rows", rows), (nothing, "nan", rows * torch.nan)):
            kept.append(tmp_path / f"{name}_{number}.safetensors")
            save_file({"train": held}, kept[-1])
    seen = [[files[0], nothing[1]], [nothing[0], files[1]], nothing]  # the server's the last
    outputs = [Output(widths, False) for widths in WIDTHS]
    mode = Privacy().prepared(AccountedTraining(200, 16, 6, 5, 2))
    settings = replace(SETTINGS, max_steps=6)
    jobs = [FederationJob(VFLGAN(), mode, settings, told, outputs, [0, 1]) for told in seen]
    spawn(work, (jobs, str(tmp_path)), nprocs=3)
    trained = federation(VFLGAN())
    trained.train(6)
    state = {}
    for rank in range(3):
        state |= load_file(tmp_path / f"{rank}.safetensors")
    expected = trained.state()
    assert state.keys() == expected.keys()
    assert [name for name, value in expected.items() if not state[name].equal(value)] == []
