"""Test accuracy (TA): the share of test images whose class is predicted, without forgotten classes.

Jia et al. 2023 (arXiv 2304.04934), as in Unlearn-Saliency. `forgotten`: the same of test images of
the forgotten classes alone, which no model was trained on: an attack that brings them back has
found what was hidden, and not learned D_f by heart.
"""

import torch

from unrelearn.evals.answers import ClassifierEvidence
from unrelearn.evals.evidence import accuracy


def run(evidence: ClassifierEvidence) -> dict:
    _, _, test = evidence.parts
    result = accuracy(test.predicted, test.labels)
    whole, classes = evidence.test, torch.tensor(evidence.forget_classes, dtype=torch.int64)
    gone = torch.isin(whole.labels, classes)
    if gone.any():
        result["forgotten"] = accuracy(whole.predicted[gone], whole.labels[gone])
    return result
