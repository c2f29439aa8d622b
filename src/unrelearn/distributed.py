"""Several processes as one: rank, slices, and decisions taken once. Without a process group
everything is rank 0 of 1.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def on_main(decide: Callable[[], T]) -> T:
    """Call decide() on rank 0 and hand its (picklable) answer, or its exception, to every rank."""
    if world_size() == 1:
        return decide()
    answer: list = [None, None]
    if is_main():
        try:
            answer[0] = decide()
        except (
            Exception
        ) as error:  # every rank must leave the same way, or the others wait for ever
            answer[1] = error
    dist.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def my_slice(n: int) -> slice:
    """The contiguous part of range(n) that belongs to this rank; the first n % world_size ranks get
    one more.
    """
    size, remainder = divmod(n, world_size())
    start = rank() * size + min(rank(), remainder)
    return slice(start, start + size + (rank() < remainder))


def mean(value: Tensor) -> Tensor:
    """The average of every rank's tensor, in place."""
    if world_size() > 1:
        dist.all_reduce(value)
        value /= world_size()
    return value


def gather(part: Tensor) -> Tensor:
    """Concatenate every rank's (n_r, ...) tensor, in rank order, on every rank; sizes may differ.
    CPU tensors.
    """
    if world_size() == 1:
        return part
    parts: list = [None] * world_size()
    dist.all_gather_object(parts, part.numpy())
    return torch.cat([torch.from_numpy(p) for p in parts])
