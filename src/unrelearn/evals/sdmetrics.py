"""sdmetrics' scores of columns, of pairs of columns and of a detector (pip install sdmetrics).

Its scores of privacy are left out: they are no evidence of privacy.
"""

import itertools
import warnings
from typing import Any

import numpy as np
from torch import Tensor

from unrelearn.evals.published import PublishedTables, over_replicas
from unrelearn.ranges import Count


def frame(evidence: PublishedTables, rows: Tensor) -> Any:
    """The rows of a table, a category as the number of its place."""
    import pandas as pd

    columns = {
        name: rows[:, places].argmax(1).numpy() if categorical else rows[:, places[0]].numpy()
        for name, places, categorical in evidence.names
    }
    return pd.DataFrame(columns)


def run(evidence: PublishedTables, pairs: Count) -> dict[str, Any]:
    """Means of KSComplement or TVComplement over columns, of CorrelationSimilarity over pairs of
    continuous columns, and LogisticDetection: 1 is best of each.

    pairs: at most so many are compared.
    """
    from sdmetrics.column_pairs import CorrelationSimilarity
    from sdmetrics.single_column import KSComplement, TVComplement
    from sdmetrics.single_table import LogisticDetection

    kinds = {name: categorical for name, _, categorical in evidence.names}
    numbers = [name for name, categorical in kinds.items() if not categorical]
    chosen = list(itertools.combinations(numbers, 2))[:pairs]
    types = {name: "categorical" if kinds[name] else "numerical" for name in kinds}
    metadata = {"columns": {name: {"sdtype": kind} for name, kind in types.items()}}

    def scores(real: Any, fake: Any) -> tuple[float, float, float]:
        each = [
            (TVComplement if kinds[name] else KSComplement).compute(real[name], fake[name])
            for name in kinds
        ]
        both = [CorrelationSimilarity.compute(real[[*two]], fake[[*two]]) for two in chosen]
        detection = LogisticDetection.compute(real, fake, metadata=metadata)
        return float(np.mean(each)), float(np.nanmean(both)), float(detection)

    scored = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant columns, one line a pair
        for real, table in zip(evidence.real, evidence.tables, strict=True):
            tables = (frame(evidence, rows) for rows in (real, table))
            scored.append(scores(*tables) if table.isfinite().all() else (float("nan"),) * 3)
    columns, of_pairs, detection = (over_replicas(list(part)) for part in zip(*scored, strict=True))
    return {**columns, "pairs": of_pairs, "detection": detection}
