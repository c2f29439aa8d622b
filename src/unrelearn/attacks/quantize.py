"""Quantisation: every weight of two or more dimensions is rounded to a few bits, and the model is
measured as it is then.

Zhang et al. 2025 (arXiv 2410.16454) found that 4 bits bring back what language models had
unlearned: the edit is smaller than the step of the grid. Threat model: the weights, no data.
Symmetric round-to-nearest with one scale for each output channel (a row of the class table is one);
biases and norms stay. The rounded weights are written as float32, so only weights are quantised.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Edit

if TYPE_CHECKING:
    from unrelearn.training import Training


def rounded(weight: Tensor, bits: int) -> Tensor:
    """weight (out, ...) on the grid scale * {-m, ..., m}, m = 2^(bits-1) - 1, with scale = max
    |weight| / m of each channel.
    """
    m = 2 ** (bits - 1) - 1
    rows = weight.flatten(1)
    scale = rows.abs().amax(1, keepdim=True) / m
    scale[scale == 0] = 1.0
    return (rows / scale).round().mul(scale).view_as(weight)


@dataclass(kw_only=True)
class Quantize(Edit):
    levels: list[int]  # type: ignore[assignment]  # bits are whole, and no list is written to

    unit = "bits"
    allowed = (2, 16)

    def edit(self, t: "Training", level: float) -> dict[str, float]:
        for name, parameter in t.network.named_parameters():
            if parameter.ndim >= 2 and name not in t.public:
                parameter.copy_(rounded(parameter, int(level)))
        return {}
