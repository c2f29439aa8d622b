"""Dependence between columns of different parties: what no party can learn alone."""

import itertools
from typing import Any

from unrelearn.evals.published import PublishedTables, block_error


def run(evidence: PublishedTables) -> dict[str, Any]:
    """Mean |corr_real - corr_published| over pairs of columns of two parties."""
    blocks = list(itertools.combinations(evidence.parties, 2))
    return evidence.each(lambda real, table: block_error(real, table, blocks))
