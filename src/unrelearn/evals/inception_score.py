"""Inception Score of the images generated under the retained classes: sure predictions, and many
different ones.

Salimans et al. 2016 (arXiv 1606.03498): exp of the mean over x of KL(p(y|x) || p(y)), with p(y) the
mean of p(y|x), in ten parts of the images; mean and standard deviation (of the ten, as in the
authors' code) over the parts. p(y|x) are the Inception network's probabilities of ImageNet classes,
so the number says little of images unlike those: it stands beside the score of as many real test
images, and grows with N. Images are shuffled first, always alike, so no part lacks a class.
"""

import torch
from torch import Tensor

from unrelearn.evals.evidence import Evidence, Predictions, spread

PARTS = 10


def inception_score(probabilities: Tensor) -> tuple[float, float]:
    """Mean and standard deviation over the parts, of probabilities (N, K) float64. KL is H(p(y))
    minus the mean H(p(y|x)).
    """
    entropy = torch.special.entr
    scores = torch.stack(
        [
            (entropy(p.mean(0)).sum() - entropy(p).sum(1).mean()).exp()
            for p in probabilities.tensor_split(min(PARTS, len(probabilities)))
        ]
    )
    return scores.mean().item(), scores.std(correction=0).item()


def probabilities_of(seen: Predictions) -> Tensor:
    if seen.inception_probabilities is None:
        raise ValueError(
            "eval.inception_score: these images were not shown to the Inception network. Leave it"
            " out of eval"
        )
    return seen.inception_probabilities.double()


def run(evidence: Evidence) -> dict:
    test, result = probabilities_of(evidence.real_test), {}
    for scale, seen in evidence.retain.items():
        n = min(len(seen.labels), len(test))
        value, std = inception_score(spread(probabilities_of(seen), n))
        result[scale] = {
            "value": value,
            "std": std,
            "n": n,
            "real": inception_score(spread(test, n))[0],
        }
    return result
