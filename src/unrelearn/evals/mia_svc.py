"""MIA, as SalUn's tables have it: see `classification.scores.mia_svc`. The target is what retrained
classifiers get, not 1.
"""

from unrelearn.classification import scores
from unrelearn.evals.answers import ClassifierEvidence


def run(evidence: ClassifierEvidence) -> dict:
    parts = [scores.confidence(part.logits.numpy(), part.labels.numpy()) for part in evidence.parts]
    return {"value": scores.mia_svc(*parts)}
