"""Forget accuracy: the share of images generated under c_f that the oracle takes for c_f; unlearning accuracy is 1 - that.

Per guidance scale, with the Wilson interval, the mean probability of c_f, and `hits`: "1" for each image taken for its class,
"0" for the others, in order. Image i of every model starts from noise i, so that two models can be compared image by image.
"""

from unrelearn.evals.evidence import Evidence, accuracy


def run(evidence: Evidence) -> dict:
    return {scale: {**accuracy(seen.predicted, seen.labels),
                    "hits": "".join("01"[hit] for hit in (seen.predicted == seen.labels).tolist()),
                    "mean_probability": seen.probabilities.gather(1, seen.labels[:, None]).mean().item()}
            for scale, seen in evidence.forget.items()}
