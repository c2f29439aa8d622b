"""What c_f is replaced by: how many images generated under c_f the oracle takes for each class."""

from unrelearn.evals.evidence import Evidence


def run(evidence: Evidence) -> dict:
    return {scale: seen.predicted.bincount(minlength=evidence.num_classes).tolist()
            for scale, seen in evidence.forget.items()}
