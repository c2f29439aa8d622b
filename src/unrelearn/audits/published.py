"""The audit of what replicas publish: an attacker sees their tables alone, and knows of all records
but one that they were trained on.

As released with VFLGAN (Yuan et al., PETS 2024, arXiv 2404.09722): replicas of both worlds,
features of their tables, a random forest; but with a bound, on replicas that neither the attack nor
its threshold saw.
"""

from collections.abc import Callable, Sequence

import numpy as np

from unrelearn.audits import game, scores

LARGEST = 1e30  # of a feature: a forest takes no more than float32 does


def attacked(
    inside: np.ndarray,
    outside: np.ndarray,
    target: np.ndarray,
    reference: np.ndarray,
    vectors: Sequence[np.ndarray],
    *,
    seed: int = 0,
) -> dict[str, game.Scores]:
    """Scores of each attack; forest and logistic are fitted to replicas, the others to none.

    Args:
        inside, outside: tables (R, N, D) of the replicas of both worlds, on one scale; of images
            what a classifier sees in them.
        target: the record in question, (D,).
        reference: rows (M, D) of the population that no replica saw.
        vectors: of both worlds, what each table shows (R, V), by audits.features.
    """
    worlds = inside, outside
    ours, theirs = (np.clip(part, -LARGEST, LARGEST) for part in vectors)
    near, others_near = (
        _each(world, lambda t: scores.nearest_records(t, target[None])[0]) for world in worlds
    )
    dense, others_dense = (
        _each(world, lambda t: scores.density_ratio(t, reference, target[None])[0])
        for world in worlds
    )
    return {
        "forest": game.scored(ours, theirs, scores.forest, seed=seed),
        "logistic": game.scored(ours, theirs, scores.logistic, seed=seed),
        "nearest record": game.scored(near, others_near, seed=seed),
        "density ratio": game.scored(dense, others_dense, seed=seed),
    }


def _each(tables: np.ndarray, seen: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What is seen of each table, (R, ...)."""
    return np.array([seen(table) for table in tables])
