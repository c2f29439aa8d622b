"""What c_f is replaced by: how many images generated under c_f the oracle takes for each class, and
last for nothing.
"""

from unrelearn.evals.evidence import Evidence


def run(evidence: Evidence) -> dict:
    return {
        scale: seen.predicted.bincount(minlength=evidence.num_classes + 1).tolist()
        for scale, seen in evidence.forget.items()
    }
