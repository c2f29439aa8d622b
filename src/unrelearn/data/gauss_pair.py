"""Two blocks of Gaussian columns whose covariance across blocks is known: the unit of truth."""

import torch

from unrelearn.data.table import Column, TableData, Tables
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, Probability, Seed


class GaussPair(Tables):
    """Columns a_k and b_k of mean 0 and deviation 1; corr(a_k, b_k) = correlation, all else is
    independent.

    Args:
        records: training rows; a quarter as many are kept for testing.
        width: columns of a block.
    """

    def __init__(
        self,
        records: Count = 2000,
        width: Count = 3,
        correlation: Probability = 0.8,
        seed: Seed = 0,
    ):
        self.records, self.width, self.correlation, self.seed = records, width, correlation, seed
        names = [f"{block}{k}" for block in "ab" for k in range(width)]
        self.columns = tuple(Column(name, public=(0.0, 1.0), bounds=(-5.0, 5.0)) for name in names)
        self.party_columns = [names[:width], names[width:]]

    def load(self) -> TableData:
        g = generator_for(self.seed, "gauss_pair")
        count = self.records + self.records // 4
        a, noise = (torch.randn(count, self.width, generator=g) for _ in range(2))
        b = self.correlation * a + (1 - self.correlation**2) ** 0.5 * noise
        rows = torch.cat([a, b], 1)
        return TableData(rows[: self.records], rows[self.records :])
