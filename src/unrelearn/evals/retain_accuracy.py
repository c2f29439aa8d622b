"""Retain accuracy: the share of images of the retained classes that show what was asked for, in all
and per class.
"""

from unrelearn.evals.answers import ClassifierEvidence
from unrelearn.evals.evidence import Evidence, accuracy


def run(evidence: Evidence | ClassifierEvidence) -> dict:
    result = {}
    for scale, seen in evidence.retain.items():
        per_class: list[float | None] = [None] * evidence.num_classes
        for c in {*range(evidence.num_classes)} - {*evidence.forget_classes}:
            own = seen.labels == c
            per_class[c] = accuracy(seen.predicted[own], seen.labels[own])["value"]
        result[scale] = {**accuracy(seen.predicted, seen.labels), "per_class": per_class}
    return result
