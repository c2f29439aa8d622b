"""Paraphrase accuracy: concept accuracy under synonyms that whoever made the model forget never
saw: does forgetting "red" reach "crimson"?

In all, and of each wording. Empty where no caption says the forgotten word otherwise.
"""

from unrelearn.evals.concept_accuracy import shown
from unrelearn.evals.evidence import Evidence

VERSION = 2


def run(evidence: Evidence) -> dict:
    result = {}
    for scale, images in evidence.paraphrase.items():
        assert images.wording is not None  # of images drawn under another wording than the first
        parts = {w: images.where(images.wording == w) for w in images.wording.unique().tolist()}
        by_wording = {str(w): shown(evidence, part)["value"] for w, part in parts.items()}
        result[scale] = {**shown(evidence, images), "by_wording": by_wording}
    return result
