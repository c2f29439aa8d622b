"""Forget accuracy: the share of images generated under c_f that the oracle takes for c_f;
unlearning accuracy is 1 - that.

Per guidance scale, with the Wilson interval, the shares of images that show another class and that
show nothing, the mean probability of c_f, and `hits`: "1" for each image taken for its class, "0"
for the others, in order. Image i of every model starts from noise i, so that two models can be
compared image by image. `off_grid`: the share among those images that were drawn at other times,
which count in the whole as well.

An attack that starts the sampler from real images of c_f has a control: the same network, condition
and noise from images of other classes. What a half-visible c_f brings back is the difference.
Images from one start are not independent, so its interval is Welch's t over the starts' shares (two
samples: the starts are different images).
"""

import torch
from scipy.special import stdtrit
from torch import Tensor

from unrelearn.evals.answers import Answers, ClassifierEvidence
from unrelearn.evals.evidence import Evidence, Predictions, accuracy, marks, share


def shares_of_starts(seen: Predictions | Answers) -> Tensor:
    """(S,) float64: of the images from each start, how many are taken for their class."""
    assert seen.start is not None  # only the stream of an attack that starts from images
    hit = (seen.predicted == seen.labels).double()
    return torch.stack([hit[seen.start == start].mean() for start in seen.start.unique()])


def difference(own: Tensor, other: Tensor, confidence: float = 0.95) -> dict:
    """Mean of own minus mean of other, and Welch's interval if both have two values: {"value",
    "low", "high", "n_starts"}.
    """
    value, n = (own.mean() - other.mean()).item(), min(len(own), len(other))
    if n < 2:
        return {"value": value, "low": None, "high": None, "n_starts": n}
    parts = [x.var().item() / len(x) for x in (own, other)]
    variance = sum(parts)
    half = 0.0
    if variance > 0:
        freedom = variance**2 / sum(
            part**2 / (len(x) - 1) for part, x in zip(parts, (own, other), strict=True)
        )
        half = float(stdtrit(freedom, 0.5 + confidence / 2)) * variance**0.5
    return {"value": value, "low": value - half, "high": value + half, "n_starts": n}


def from_other_starts(seen: Predictions | Answers, other: Predictions) -> dict:
    own = shares_of_starts(seen)
    return {
        "other_starts": accuracy(other.predicted, other.labels),
        "starts": len(own),
        "difference": difference(own, shares_of_starts(other)),
    }


def run(evidence: Evidence | ClassifierEvidence) -> dict:
    result = {}
    for scale, seen in evidence.forget.items():
        hit, nothing = seen.predicted == seen.labels, seen.predicted == evidence.num_classes
        result[scale] = {
            **accuracy(seen.predicted, seen.labels),
            "another": share(~hit & ~nothing),
            "nothing": share(nothing),
            "hits": marks(hit),
            "mean_probability": seen.probabilities.gather(1, seen.labels[:, None]).mean().item(),
        }
        if seen.off_grid is not None and seen.off_grid.any():
            result[scale]["off_grid"] = accuracy(
                seen.predicted[seen.off_grid], seen.labels[seen.off_grid]
            )
        if seen.start is not None and scale in evidence.other_starts:
            result[scale] |= from_other_starts(seen, evidence.other_starts[scale])
    return result
