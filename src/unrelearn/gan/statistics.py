"""Location and scale of columns, released with differential privacy.

Each party releases sums of its own columns; how much noise they get follows from how many columns
there are in all parties, so that together they are one Gaussian mechanism of a whole record.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unrelearn.gan.columns import Held

NARROWEST = 0.1  # of half a range: the least scale, as noise may leave no variance at all


def released(
    columns: Sequence[Held], rows: Tensor, noise_multiplier: float, g: torch.Generator
) -> list[tuple[float, float]]:
    """(location, scale) of each column, (0, 1) of a category.

    With u in [-1, 1] a value in its range, whatever is beyond being cut off, the sums of u and u^2
    of d columns get noise of deviation noise_multiplier * 2 sqrt(d): replacing a record moves them
    by (u - v)^2 (1 + (u + v)^2) <= 4 a column in squares, adding one by 2.

    rows: (N, columns), of which N is public.
    """
    places = [place for place, column in enumerate(columns) if not column.values]
    bounds = [bounds for column in columns if not column.values and (bounds := column.bounds)]
    low, high = torch.tensor(bounds, dtype=torch.float64).view(-1, 2).T
    middle, half = (low + high) / 2, (high - low) / 2
    u = ((rows[:, places].double() - middle) / half).clamp(-1, 1)
    noise = torch.randn(2, len(places), generator=g, dtype=torch.float64)
    std = noise_multiplier * 2 * len(places) ** 0.5
    mean, square = (torch.stack([u.sum(0), u.square().sum(0)]) + std * noise) / len(rows)
    mean = mean.clamp(-1, 1)
    scale = (square - mean.square()).clamp(NARROWEST**2, 1).sqrt()
    known = dict(zip(places, (middle + half * mean).tolist(), strict=True))
    scales = dict(zip(places, (half * scale).tolist(), strict=True))
    return [(known.get(i, 0.0), scales.get(i, 1.0)) for i in range(len(columns))]
