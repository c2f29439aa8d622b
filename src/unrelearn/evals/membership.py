"""Membership: are forgotten images told from images of the same classes that nobody trained on?

Of each score of audits/, by this model alone: forgotten images against held-out ones, and as a
control retained images against held-out ones. `beside_retrain` is forgotten against held-out by
this model's score minus that of a model which never saw D_f: what an image is like anyway cancels
(difficulty calibration, Watson et al. 2021, arXiv 2111.08440). No row is good near 0 or 1: the
result of an unlearned model is its distance from that of `retrain`, in either direction, and the
original's is the ceiling. A record that is less likely than under retraining is exposed too.

`epsilon` takes images for the canaries of one run. Who is held out was drawn by chance, but exactly
so many of each class, where the theorem has independent coin flips: so coins are flipped here, for
fewer canaries than there are images, and each takes a forgotten or a held-out image. It is
two-sided, and left out below 500 of them; `epsilon_ceiling` is the largest that so many could show.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from unrelearn.audits import bounds, game
from unrelearn.evals.evidence import Evidence, Records
from unrelearn.randomness import generator_for

GUIDANCE = "1.0"  # the plain conditional model
GUESSED = 0.5  # share of the canaries; on the others the attack abstains
SPREAD = 6.0  # standard deviations of flips for which there are images


def run(evidence: Evidence, scores: list[Literal["loss", "secmi", "pia", "sima"]]) -> dict:
    ours, theirs = evidence.records, evidence.retrained
    if ours is None or theirs is None:
        raise ValueError("eval.membership: nobody scored the records. Type held_out.share=0.5")
    result: dict[str, Any] = {"scores": list(scores)}
    for name in scores:
        inside, outside = pair(ours, name, "forget")
        references = pair(theirs, name, "forget")
        result[name] = measured(inside, outside)
        result[f"{name}_retrain"] = measured(*references)
        result[f"{name}_retain"] = measured(*pair(ours, name, "retain"))
        if not torch.equal(inside, references[0]):  # by retrain itself there is nothing beside
            apart = inside - references[0], outside - references[1]
            result[f"{name}_beside_retrain"] = measured(*apart)
    return {GUIDANCE: result}


def pair(records: Records, name: str, part: Literal["forget", "retain"]) -> tuple[Tensor, Tensor]:
    """A score of the images of D_f or D_r, and of held-out images of the classes in it."""
    known = getattr(records, part)
    like = torch.isin(records.held_out["labels"], known["labels"])
    return known[name], records.held_out[name][like]


def measured(inside: Tensor, outside: Tensor) -> dict:
    """`bounds.shown`, as a measurement with its interval; the true positives of the other side,
    where members have the lower score; and a two-sided epsilon.
    """
    ours, theirs = (np.nan_to_num(part.double().numpy(), nan=-np.inf) for part in (inside, outside))
    ours, theirs = (np.clip(part, -1e30, 1e30) for part in (ours, theirs))
    shown = bounds.shown(ours, theirs)
    value, low, high = (shown.pop(name) for name in ("auc", "auc_low", "auc_high"))
    other_side = bounds.tpr_at_fpr(-ours, -theirs, 0.01)
    counts = {"n": len(ours), "n_out": len(theirs)}
    known = {"value": value, "low": low, "high": high, **counts, **shown}
    return {**known, "tpr_at_1_percent_low": other_side, **epsilon(ours, theirs)}


def epsilon(ours: np.ndarray, theirs: np.ndarray) -> dict:
    """Of as many of both, the larger of two attacks: members score higher, or lower."""
    scores, inside = canaries(ours, theirs)
    each = 1 - (1 - bounds.CONFIDENCE) / 2  # either may fail
    guesses = max(2, round(GUESSED * len(scores) / 2) * 2)
    sides = [game.one_run(sign * scores, inside, guesses, confidence=each) for sign in (1, -1)]
    largest = max(side["epsilon"] for side in sides)
    return {
        "canaries": len(scores),
        "epsilon": largest if len(scores) >= bounds.FEWEST_CANARIES else None,
        "epsilon_ceiling": sides[0]["epsilon_ceiling"],
    }


def canaries(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (m,), and by a coin flip each whether it is of ours, bool (m,); no image twice."""
    most = 2 * min(len(ours), len(theirs))
    count = max(2, int((math.sqrt(most + SPREAD**2 / 4) - SPREAD / 2) ** 2))
    # two flips may both ask for the one image that there is
    inside = game.canaries(count, 0) if count > 2 else np.array([True, False])
    scores = np.empty(count)
    for part, taken in ((ours, inside), (theirs, ~inside)):
        chosen = torch.randperm(len(part), generator=generator_for("canaries", len(part)))
        scores[taken] = part[chosen.numpy()[: taken.sum()]]
    return scores, inside
