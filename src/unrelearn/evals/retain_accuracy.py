"""Retain accuracy: the share of images of the retained classes that show what was asked for, in all
and per class.
"""

from unrelearn.evals.answers import ClassifierEvidence
from unrelearn.evals.evidence import Evidence, accuracy


def run(evidence: Evidence | ClassifierEvidence) -> dict:
    result = {}
    for scale, seen in evidence.retain.items():
        per_class = [
            (
                None
                if c in evidence.forget_classes
                else accuracy(seen.predicted[seen.labels == c], seen.labels[seen.labels == c])[
                    "value"
                ]
            )
            for c in range(evidence.num_classes)
        ]
        result[scale] = {**accuracy(seen.predicted, seen.labels), "per_class": per_class}
    return result
