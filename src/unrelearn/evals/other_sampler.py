"""Forget accuracy by a second sampler: how much of the first one's number is the model's, and how
much the sampler's.

From a damaged network one sampler may draw the class in a quarter of its images, and another in
four out of five. Images, noise and times are the second sampler's own (`sampler.second`). No result
where it is left out.
"""

from unrelearn.evals.evidence import Evidence, accuracy, share


def run(evidence: Evidence) -> dict:
    return {
        scale: {
            **accuracy(seen.predicted, seen.labels),
            "nothing": share(seen.predicted == evidence.num_classes),
            "sampler": evidence.second,
        }
        for scale, seen in evidence.other_sampler.items()
    }
