"""Test accuracy (TA): the share of test images whose class is predicted, without forgotten classes.

Jia et al. 2023 (arXiv 2304.04934), as in Unlearn-Saliency.
"""

from unrelearn.evals.answers import ClassifierEvidence
from unrelearn.evals.evidence import accuracy


def run(evidence: ClassifierEvidence) -> dict:
    _, _, test = evidence.parts
    return accuracy(test.predicted, test.labels)
