"""Expected calibration error on the test images (Guo et al. 2017, arXiv 1706.04599)."""

from unrelearn.classification import scores
from unrelearn.evals.answers import ClassifierEvidence


def run(evidence: ClassifierEvidence) -> dict:
    _, _, test = evidence.parts
    logits, labels, _ = test.arrays
    return {"value": scores.expected_calibration_error(logits, labels)}
