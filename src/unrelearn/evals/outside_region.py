"""What changes in the rest of the picture: the mean absolute difference, in grey levels of 255,
between an image under c_f and what the original model draws under c_f from the same noise, outside
a box around what was to be forgotten.

`value` is outside, with a normal interval over images; `inside` is the box itself. Two models that
were trained apart differ everywhere: read it beside retrain's. No result without the original, and
for an attack that starts from images.
"""

import torch
from torch import Tensor

from unrelearn.evals.evidence import Evidence
from unrelearn.ranges import Probability


def run(
    evidence: Evidence, left: Probability, top: Probability, right: Probability, bottom: Probability
) -> dict:
    """The box is in shares of the side."""
    result = {}
    for scale in evidence.forget:
        name = f"forget/{scale}"
        if name in evidence.original and f"{name}/start" not in evidence.drawn:
            images, originals = evidence.drawn[name].double(), evidence.original[name].double()
            difference = (images - originals).abs().mean(1)
            mask = inside((left, top, right, bottom), *difference.shape[1:])
            result[scale] = {
                **interval(difference[:, ~mask].mean(1)),
                "inside": difference[:, mask].mean().item() if mask.any() else None,
            }
    return result


def interval(values: Tensor) -> dict:
    """Mean of (N,) and a normal 95 % interval of it: {"value", "low", "high", "n"}."""
    n, value = len(values), values.mean().item()
    half = 1.96 * values.std().item() / n**0.5 if n > 1 else 0.0
    return {"value": value, "low": max(0.0, value - half), "high": value + half, "n": n}


def inside(box: tuple[float, float, float, float], height: int, width: int) -> Tensor:
    """(H, W) bool: pixels whose centre lies in the box."""
    left, top, right, bottom = box
    y, x = ((torch.arange(side) + 0.5) / side for side in (height, width))
    return ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None, :]
