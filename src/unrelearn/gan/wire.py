"""All that crosses between parties and server: tensors of a closed list of kinds, detached and
counted.

Every process of a training runs the same lines; each actor's work is done where the actor is
(`Wire.at`), and a message goes from there to its receiver. In one process all actors are here.
"""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

SERVER = "server"
KINDS = (
    "seeds",  # of the replicas: batches and latents that parties share follow from them
    "features",  # h_i of real, generated and interpolated records
    "feature_grads",  # dL/dh_i of the same
    "penalty_seed",  # v_i = dS/dh_i at the interpolates, of the joint penalty
    "penalty_norms",  # ||u_i||^2 a record
    "penalty_grads",  # dGP/d||u_i||^2 to a party, dGP/dv_i back
    "record_norms",  # ||dL_j/d theta||^2 a record, of per-record clipping
    "clip_factors",  # min(1, C / norm) a record
    "backbone",  # VertiGAN's shared layers, and their mean
)
TYPES = (torch.float32, torch.float64, torch.int64)
T = TypeVar("T")


class Wire:
    """Messages between named actors.

    Attributes:
        sent: (kind, source, destination) -> bytes.
    """

    def __init__(self) -> None:
        self.sent: Counter[tuple[str, str, str]] = Counter()

    def here(self, actor: str) -> bool:
        """Whether this process does the work of an actor."""
        return True

    def at(self, actor: str, work: Callable[[], T]) -> T | None:
        """What an actor computes; None where it is another process's."""
        return work() if self.here(actor) else None

    def send(self, kind: str, source: str, destination: str, tensor: Tensor | None) -> Tensor:
        """The tensor as the receiver has it: equal, of no graph, in memory of its own.

        Raises:
            ValueError: no message of that kind, or no tensor of a type that crosses.
        """
        if kind not in KINDS:
            raise ValueError(f"wire: no such kind of message, {kind}; allowed: {', '.join(KINDS)}")
        if self.here(source) and (tensor is None or tensor.dtype not in TYPES):
            raise ValueError(f"wire: {kind} must be a tensor of {TYPES}")
        arrived = self._carry(source, destination, None if tensor is None else tensor.detach())
        if arrived is not None:
            self.sent[kind, source, destination] += arrived.nbytes
        return arrived  # type: ignore[return-value]  # None only where nobody reads it

    def _carry(self, source: str, destination: str, tensor: Tensor | None) -> Tensor | None:
        assert tensor is not None
        return tensor.clone()


class GlooWire(Wire):
    """One process an actor, which hold each other's messages alone (torch.distributed).

    actors: by rank.
    """

    def __init__(self, actors: list[str]):
        super().__init__()
        self.ranks = {actor: rank for rank, actor in enumerate(actors)}

    def here(self, actor: str) -> bool:
        return self.ranks[actor] == dist.get_rank()

    def _carry(self, source: str, destination: str, tensor: Tensor | None) -> Tensor | None:
        if self.here(source):
            assert tensor is not None
            head = torch.zeros(8, dtype=torch.int64)  # type, dimensions, sizes
            head[:2] = torch.tensor([TYPES.index(tensor.dtype), tensor.ndim])
            head[2 : 2 + tensor.ndim] = torch.tensor(tensor.shape)
            dist.send(head, self.ranks[destination])
            dist.send(tensor.contiguous(), self.ranks[destination])
            return tensor
        if not self.here(destination):
            return None
        head = torch.zeros(8, dtype=torch.int64)
        dist.recv(head, self.ranks[source])
        kind, dimensions, *sizes = head.tolist()
        arrived = torch.empty(sizes[:dimensions], dtype=TYPES[kind])
        dist.recv(arrived, self.ranks[source])
        return arrived
