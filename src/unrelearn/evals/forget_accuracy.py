"""Forget accuracy: the share of images generated under c_f that the oracle takes for c_f; unlearning accuracy is 1 - that.

Per guidance scale, with the Wilson interval and the mean probability of c_f.
"""

from unrelearn.evals.evidence import Evidence, accuracy


def run(evidence: Evidence) -> dict:
    return {scale: {**accuracy(seen.predicted, seen.labels),
                    "mean_probability": seen.probabilities.gather(1, seen.labels[:, None]).mean().item()}
            for scale, seen in evidence.forget.items()}
