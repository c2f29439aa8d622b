"""Another row in place of that of a forgotten class."""

from pathlib import Path

import pytest
import torch
from tiny import (
    from_yaml,
    moved,
    new_task,
    train,
    weights,
)

from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.methods.row_swap import RowSwap


@pytest.mark.parametrize(
    ("forget", "other"),
    [((7,), {7: 8}), ((9,), {9: 0}), ((3, 4), {3: 5, 4: 5}), ((0, 9), {0: 1, 9: 1})],
)
def test_row_swap_copies_the_next_retained_row_and_touches_nothing_else(
    forget, other, compose, tmp_path: Path
):
    module = from_yaml(compose, "method", "row_swap")(new_task(forget))
    assert isinstance(module.method, RowSwap)
    before = weights(module)
    train(module, tmp_path)
    after = weights(module)
    assert moved(before, after) == {CLASS_EMBEDDING}
    for c in range(11):
        assert torch.equal(after[CLASS_EMBEDDING][c], before[CLASS_EMBEDDING][other.get(c, c)])
