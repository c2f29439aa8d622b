"""A training in processes of their own: one a party, which reads its own columns alone, and one of
the server. What crosses is exactly what the wire carries.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing import spawn

from unrelearn.artifact import write_json
from unrelearn.gan.designs.vflgan import Design
from unrelearn.gan.federation import Federation
from unrelearn.gan.layers import Output
from unrelearn.gan.members import Settings
from unrelearn.gan.privacy.none import Privacy
from unrelearn.gan.wire import SERVER, GlooWire


@dataclass(frozen=True)
class FederationJob:
    """
    Args:
        privacy: a mode with its noise.
        files: of each party's columns.
        outputs: what each party's generator makes.
    """

    design: Design
    privacy: Privacy
    settings: Settings
    files: list[Path]
    outputs: list[Output]
    seeds: list[int]


def _work(rank: int, job: FederationJob, folder: str) -> None:
    """What one process does; the last rank is the server's."""
    torch.set_num_threads(1)
    here, parties = Path(folder), len(job.files)
    store = dist.FileStore(str(here / "meet"), parties + 1)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=parties + 1)
    columns: list[tuple[Tensor, Output] | None] = [None] * parties
    if rank < parties:
        columns[rank] = (load_file(job.files[rank])["train"], job.outputs[rank])
    names = [f"party {number}" for number in range(1, parties + 1)]
    wire = GlooWire([*names, SERVER])
    trained = Federation(job.design, job.privacy, job.settings, columns, job.seeds, wire)
    trained.train(job.settings.max_steps)
    save_file(trained.state(), here / f"{rank}.safetensors")
    if rank == parties:
        write_json(here / "bytes.json", trained.bytes_per_step())
    dist.destroy_process_group()


def train_apart(job: FederationJob, folder: Path) -> dict[str, Tensor]:
    """The state that one process would have come to, bit for bit; bytes.json is left in a folder.

    An interrupted training starts anew.
    """
    with tempfile.TemporaryDirectory() as meeting:
        spawn(_work, (job, meeting), nprocs=len(job.files) + 1)
        state: dict[str, Tensor] = {}
        for rank in range(len(job.files) + 1):
            state |= load_file(Path(meeting) / f"{rank}.safetensors")
        (folder / "bytes.json").write_bytes((Path(meeting) / "bytes.json").read_bytes())
    return state
