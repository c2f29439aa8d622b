"""A process a party, and one of the server: the same weights as in one process, bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file
from small_federations import SETTINGS, SHAPE, WIDTHS, blocks, federation

from unrelearn.gan.designs.vertigan import VertiGAN
from unrelearn.gan.designs.vflgan import VFLGAN, Design
from unrelearn.gan.layers import Output
from unrelearn.gan.privacy.dpsgd import DPSGD
from unrelearn.gan.privacy.gs import GS
from unrelearn.gan.privacy.none import Privacy, Training
from unrelearn.gan.processes import Job, train_apart

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
    mode = privacy.prepared(Training(200, 16, 20, 5, 2, design.server))
    outputs = [Output(widths, False) for widths in WIDTHS]
    state = train_apart(Job(design, mode, settings, files, outputs, [0, 1]), tmp_path)
    trained = federation(design, privacy)
    trained.train(20)
    expected = trained.state()
    assert state.keys() == expected.keys()
    assert [name for name, value in expected.items() if not state[name].equal(value)] == []
    assert (tmp_path / "bytes.json").exists()
