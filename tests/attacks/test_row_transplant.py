"""The row of the original model put back."""

import torch
from formulas import at
from tiny import (
    denoising,
    network,
    new_task,
)

from unrelearn.attacks.row_transplant import RowTransplant
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING


def test_a_transplant_puts_the_rows_of_the_original_in_place_of_those_of_the_forgotten_classes():
    ours, theirs = (
        network().class_embedding.weight,
        network(5).class_embedding.weight,
    )  # new_task's original
    module = denoising(RowTransplant(levels=[0.5, 1.0]), new_task((3, 7)))
    whole, half = at(module, 1.0)[CLASS_EMBEDDING], at(module, 0.5)[CLASS_EMBEDDING]
    for c in range(11):
        assert torch.equal(whole[c], (theirs if c in (3, 7) else ours)[c])
    torch.testing.assert_close(half[3], (ours[3] + theirs[3]) / 2)
