"""The game of membership: worlds with and without a record, many replicas of each, one verdict.

The third world is *unlearned*: trained with the record, then made to forget it. Any two worlds can
be played: with against without is the ceiling, unlearned against without the result, without
against without the floor, which must show nothing. All are arrays with a row for each replica.

What a game says is about this record among these others, to an attacker who has all the others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from unrelearn.audits import bounds
from unrelearn.audits.bounds import CONFIDENCE, DELTA, Counts
from unrelearn.audits.twins import duplicated, twins
from unrelearn.errors import UsageError
from unrelearn.randomness import generator_for

Scorer = Callable[[np.ndarray], np.ndarray]
# fitted to features (n, F) of replicas and whether each was in, bool (n,); its result scores others
Attack = Callable[[np.ndarray, np.ndarray], Scorer]
NEIGHBOURS = 5  # of which the mean distance says how far out a record is
FEWEST = 8  # replicas of a world that can be divided at all
# of replicas: to train the attack, to choose its threshold, to bound
SHARES, UNTRAINED = (0.5, 0.25), (0.0, 0.25)


def isolation(records: np.ndarray) -> np.ndarray:
    """Mean distance of each of (N, D) records to its five nearest others, (N,): the larger, the
    easier to tell (Meeus et al. 2023, "Achilles' heels", arXiv:2306.10308).
    """
    distances, _ = cKDTree(records).query(records, NEIGHBOURS + 1)
    return distances[:, 1:].mean(1)


def ranked(records: np.ndarray) -> np.ndarray:
    """Rows without a twin, int64, the most isolated last.

    Raises:
        UsageError: one line, where every record has a twin.
    """
    alone = np.flatnonzero(~duplicated(records))
    if not len(alone):
        raise UsageError(
            "every record has a twin, so removing one removes nothing; drop_duplicates"
        )
    return alone[np.argsort(isolation(records)[alone], kind="stable")]


def targets(records: np.ndarray) -> dict[str, int]:
    """Rows to audit: `outlier`, the most isolated without a twin; `median`, a control of the middle
    without one; `duplicate`, where there is one: with its twin left in the world without it, a
    control that must show nothing.
    """
    order, twice = ranked(records), np.flatnonzero(duplicated(records))
    chosen = {"outlier": int(order[-1]), "median": int(order[len(order) // 2])}
    return {**chosen, "duplicate": int(twice[0])} if len(twice) else chosen


def stand_in(records: np.ndarray, target: int) -> int:
    """A row of the middle that takes the target's place where it is replaced."""
    others = ranked(records)
    others = others[others != target]
    return int(others[len(others) // 2])


def worlds(
    records: np.ndarray,
    target: int,
    change: str = "remove",
    other: int | None = None,
    *,
    control: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 of the world with the target and of that without it.

    remove: all rows, and all but the target. To add it is the same game.
    replace: both lack `other`, which takes the target's place in the world without it, so that both
    are as large and their number tells nothing.

    Args:
        control: the target may have a twin, which then stays in both worlds.
    Raises:
        UsageError: one line, where a twin stays though it is no control, or `other` is missing.
    """
    same, everything = twins(records, target), np.arange(len(records))
    if len(same) and not control:
        raise UsageError(
            f"target={target}: row {same[0]} is its twin, which stays when the target is removed;"
            f" type one without a twin, such as target={targets(records)['outlier']}"
        )
    if change != "replace":
        return everything, np.delete(everything, target)
    if other is None or not 0 <= other < len(records) or other in (target, *same):
        raise UsageError(
            f"other={other}: a replaced target needs another row in its place, from 0 to"
            f" {len(records) - 1}, that is neither it nor its twin"
        )
    inside: np.ndarray = np.delete(everything, other)
    return inside, np.where(inside == target, other, inside)


def parts(count: int, seed: int, shares: tuple[float, float] = SHARES) -> list[np.ndarray]:
    """Three disjoint sets of `count` replicas: that train the attack, that choose its threshold,
    and, all others, that are counted for the bound. A function of the seed.
    """
    if count < FEWEST:
        raise UsageError(f"{count} replicas of a world are too few; {FEWEST} are the fewest")
    import torch

    order = torch.randperm(count, generator=generator_for(seed, "replicas", count)).numpy()
    first = round(shares[0] * count)
    return np.split(order, [first, first + round(shares[1] * count)])


def threshold(scores_in: np.ndarray, scores_out: np.ndarray) -> float:
    """From which score up to say "in", for the largest bound of these; of equals for the largest
    advantage.
    """
    known = np.unique(np.concatenate([scores_in, scores_out]))
    cuts: np.ndarray = np.append((known[1:] + known[:-1]) / 2, known[0])

    def worth(cut: float) -> tuple[float, float]:
        counts = Counts.at(cut, scores_in, scores_out)
        wrong = counts.false_positives / counts.num_out + counts.false_negatives / counts.num_in
        return bounds.epsilon(counts), -wrong

    return float(max(cuts, key=worth))


class Scores(NamedTuple):
    """Of replicas that no attack was fitted to, (with the target, without it): of those that choose
    the threshold, and of those that are counted for the bound.
    """

    choosing: tuple[np.ndarray, np.ndarray]
    counted: tuple[np.ndarray, np.ndarray]

    @property
    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """All of them, with and without."""
        inside, outside = (np.concatenate(p) for p in zip(self.choosing, self.counted, strict=True))
        return inside, outside


def scored(
    inside: np.ndarray, outside: np.ndarray, attack: Attack | None = None, *, seed: int = 0
) -> Scores:
    """What an attack says of replicas of two worlds.

    Args:
        inside, outside: features (n, F) and (m, F) of what each replica shows; without an attack
            scores (n,) and (m,), higher: rather in.
        attack: see audits.scores. It is fitted to replicas that are neither in the threshold's set
            nor in the bound's.
        seed: of which replicas are in which set.
    """
    shares = UNTRAINED if attack is None else SHARES
    ours, theirs = (parts(len(world), seed, shares) for world in (inside, outside))
    if attack is not None:
        known: np.ndarray = np.repeat([True, False], [len(ours[0]), len(theirs[0])])
        scorer = attack(np.concatenate([inside[ours[0]], outside[theirs[0]]]), known)
        inside, outside = scorer(inside), scorer(outside)
    choosing, counted = ((inside[ours[k]], outside[theirs[k]]) for k in (1, 2))
    return Scores(choosing, counted)


def verdict(scores: Scores, delta: float = DELTA) -> dict[str, float]:
    """`bounds.shown` of replicas that no attack was fitted to; `bounds.proven` of those for which
    no threshold was chosen either, and how many of each world those are: num_in, num_out.

    delta: of the Gaussian bound; the other is of pure epsilon.
    """
    counts = Counts.at(threshold(*scores.choosing), *scores.counted)
    return {
        **bounds.shown(*scores.seen),
        **bounds.proven(counts, delta),
        "num_in": counts.num_in,
        "num_out": counts.num_out,
    }


def play(
    inside: np.ndarray, outside: np.ndarray, attack: Attack | None = None, *, seed: int = 0
) -> dict[str, float]:
    """Whether replicas of two worlds can be told apart: the `verdict` of what is `scored`."""
    return verdict(scored(inside, outside, attack, seed=seed))


def canaries(count: int, seed: int) -> np.ndarray:
    """Which of them are in, bool (count,): a coin flip each, a function of the seed."""
    import torch

    flips = torch.rand(count, generator=generator_for(seed, "canaries", count))
    return (flips < 0.5).numpy()


def one_run(
    scores: np.ndarray,
    inside: np.ndarray,
    guesses: int,
    *,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> dict[str, float]:
    """One training run with canaries (Steinke et al. 2023, arXiv:2305.08846): the highest scores
    are guessed in, the lowest out, half of the guesses each, and between them it abstains.

    Args:
        scores: (m,), higher: rather in.
        inside: (m,), the coin flips; they must be independent of anything in `scores` but training.
        guesses: how many, even, at most m, fixed before the scores were seen.
    """
    m, half = len(scores), guesses // 2
    if guesses % 2 or not 0 < guesses <= m:
        raise UsageError(f"guesses={guesses}: must be even, from 2 to the {m} canaries")
    order = np.argsort(scores, kind="stable")
    correct = int(inside[order[m - half :]].sum() + (~inside[order[:half]]).sum())
    return {
        "correct": correct,
        "guesses": guesses,
        "canaries": m,
        "epsilon": bounds.one_run_epsilon(correct, guesses, m, delta, confidence),
        "epsilon_ceiling": bounds.one_run_ceiling(guesses, m, delta, confidence),
    }
