"""The average gap: mean distance to retrained classifiers in UA, RA, TA and MIA (Fan et al. 2024,
arXiv 2310.12508), each against the mean of the references.

`floor` is the same for each reference against the others: a smaller difference says nothing. The
interval is a bootstrap over images of UA, RA and TA, of one model beside fixed references; MIA is
held fixed, as each sample would take a support vector machine (18 s for 10 000 test images). The
gap misleads by itself: half of its terms hardly move, and errors on the wrong images count as
forgetting (`retrain_agreement`).
"""

from statistics import fmean

import numpy as np
import torch

from unrelearn.classification import scores
from unrelearn.evals.answers import Answers, ClassifierEvidence
from unrelearn.randomness import generator_for

RESAMPLES = 200


def components(evidence: ClassifierEvidence) -> dict[str, float]:
    """UA, RA, TA and MIA as shares."""
    forget, retain, test = evidence.parts
    confidences = [scores.confidence(p.logits.numpy(), p.labels.numpy()) for p in evidence.parts]
    correct = [scores.accuracy(p.logits.numpy(), p.labels.numpy()) for p in (forget, retain, test)]
    values = (1 - correct[0], correct[1], correct[2], scores.mia_svc(*confidences))
    return dict(zip(scores.COMPONENTS, values, strict=True))


def distance(ours: dict[str, float], theirs: list[dict[str, float]]) -> float:
    """Mean over the components of |ours - mean of theirs|."""
    means = {name: fmean(each[name] for each in theirs) for name in ours}
    return fmean(abs(ours[name] - means[name]) for name in ours)


def _resampled(part: Answers, number: int) -> float:
    """Share of right answers in a bootstrap sample."""
    g = generator_for("gap", number, len(part.labels))
    index = torch.randint(len(part.labels), (len(part.labels),), generator=g)
    return (part.predicted == part.labels)[index].float().mean().item()


def run(evidence: ClassifierEvidence) -> dict:
    ours = components(evidence)
    theirs = [components(evidence.of_reference(n)) for n in range(evidence.num_references)]
    floors = [distance(each, theirs[:n] + theirs[n + 1 :]) for n, each in enumerate(theirs)]
    draws = []
    for number in range(RESAMPLES):
        ua, ra, ta = (_resampled(part, number) for part in evidence.parts)
        draws.append(distance({**ours, "ua": 1 - ua, "ra": ra, "ta": ta}, theirs))
    return {
        "value": distance(ours, theirs),
        "low": float(np.quantile(draws, 0.025)),
        "high": float(np.quantile(draws, 0.975)),
        **ours,
        "references": theirs,
        "floor": fmean(floors),
        "floors": floors,
    }
