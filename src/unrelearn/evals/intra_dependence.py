"""Dependence between columns of one party."""

from typing import Any

from unrelearn.evals.published import PublishedTables, block_error


def run(evidence: PublishedTables) -> dict[str, Any]:
    """Mean |corr_real - corr_published| over pairs of columns of one party."""
    blocks = [(part, part) for part in evidence.parties if len(part) > 1]
    return evidence.each(lambda real, table: block_error(real, table, blocks))
