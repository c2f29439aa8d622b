"""Agreement with retrained classifiers on the forgotten images, one by one: the share that gets the
same class, the correlation of errors, and the Jensen-Shannon distance of the answers.

What an average gap can not see: a model may err on as many images as a retrained one, and on
others. `ceiling` is what retrained classifiers get among each other.
"""

from statistics import fmean

from unrelearn.classification import scores
from unrelearn.evals.answers import Answers, ClassifierEvidence


def _of(forget: Answers) -> dict[str, float]:
    logits, labels, references = forget.arrays
    return {
        "value": scores.agreement(logits, references),
        "miss_correlation": scores.correlation_of_misses(logits, references, labels),
        "jensen_shannon": scores.jensen_shannon(logits, references),
    }


def run(evidence: ClassifierEvidence) -> dict:
    forget, _, _ = evidence.parts
    among = [_of(forget.of_reference(number)) for number in range(evidence.num_references)]
    ceiling = {name: fmean(each[name] for each in among) for name in among[0]}
    return {**_of(forget), "ceiling": ceiling, "references": [each["value"] for each in among]}
