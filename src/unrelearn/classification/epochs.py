"""The order of training images, as a function of the seed and of how many were drawn before."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from unrelearn.randomness import generator_for


def epoch_indexes(identity: tuple[Any, ...], count: int, start: int, size: int) -> Tensor:
    """Those of `size` images int64 (size,), from the one that is `start`-th of an endless row: each
    image once in every epoch of `count`, in an order of the epoch's own.

    Args:
        identity: names the row, e.g. (seed, "pretrain", "data").
    """
    epochs = range(start // count, (start + size - 1) // count + 1)
    row = torch.cat([_order(identity, count, epoch) for epoch in epochs])
    offset = start - epochs[0] * count
    return row[offset : offset + size]


@lru_cache(maxsize=64)
def _order(identity: tuple[Any, ...], count: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(*identity, "epoch", epoch))
