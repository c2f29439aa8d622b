"""Concept accuracy: the share of images under the forgotten captions that show the forgotten word,
whatever else they show.

Where red is forgotten, a red square in place of a red circle is red. Three judges: the oracle and
the held-out classifier, their probabilities summed over the classes of an attribute's value, and
what is computed of the pixels where the data set can (`computed`; null: no part of the concept
can). `kept`: the share whose other attributes are all as asked for, the price at the prompt itself.
`hits`: as of forget_accuracy.
"""

from unrelearn.evals.attributes import concept, right, seen, shows, values
from unrelearn.evals.evidence import Evidence, Predictions, marks, share, wilson

VERSION = 2


def run(evidence: Evidence) -> dict:
    return {scale: shown(evidence, images) for scale, images in evidence.forget.items()}


def shown(evidence: Evidence, images: Predictions) -> dict:
    """Of images drawn under forgotten conditions."""
    places = list(concept(evidence))
    wanted = values(evidence)[images.labels]
    others = [place for place in range(wanted.shape[1]) if place not in places]
    attributes = seen(evidence, images.probabilities)
    hits, computed = shows(evidence, images, attributes), None
    if images.judged is not None and (images.judged[:, places] > -2).any():
        computed = share(shows(evidence, images, images.judged))
    return {
        **wilson(int(hits.sum()), len(hits)),
        "hits": marks(hits),
        "held_out": share(shows(evidence, images, seen(evidence, images.held_out))),
        "computed": computed,
        "kept": share(right(attributes, wanted, others)),
    }
