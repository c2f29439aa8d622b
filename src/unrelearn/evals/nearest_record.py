"""How near published rows lie to training rows, beside how near fresh real rows do."""

from typing import Any

import torch
from torch import Tensor

from unrelearn.evals.published import PublishedTables
from unrelearn.ranges import Count


def nearest(rows: Tensor, real: Tensor) -> Tensor:
    """Distance of each row to the nearest real one."""
    return torch.cat([torch.cdist(part, real).min(1).values for part in rows.split(1000)])


def run(evidence: PublishedTables, records: Count) -> dict[str, Any]:
    """Median distance of published rows to training rows, over that of test rows: far below 1 where
    rows were memorised. No value where half of the test rows are training rows too, as rows of few
    categories are. No evidence of privacy.

    records: of each table, at most.
    """

    def ratio(real: Tensor, table: Tensor) -> float:
        fresh = nearest(evidence.test[:records], real).median()
        if not table.isfinite().all() or fresh == 0:
            return float("nan")
        return (nearest(table[:records], real).median() / fresh).item()

    return evidence.each(ratio)
