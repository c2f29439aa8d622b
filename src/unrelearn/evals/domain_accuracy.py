"""In-domain and cross-domain retain accuracy: what is left of the concepts beside the forgotten
one, and of those of another kind, under the retained captions.

After UnlearnCanvas (Zhang et al. 2024, arXiv 2402.11846): where red is forgotten, `in_domain` is
the share of other colours that are drawn as asked for, `cross_domain` the mean over shape, texture
and size. By exact attributes of every caption; `computed`: in-domain, without a classifier (null:
can not be computed). A data set without attributes has no other domain.
"""

import torch

from unrelearn.evals.attributes import concept, right, seen, values
from unrelearn.evals.evidence import Evidence, share, wilson


def run(evidence: Evidence) -> dict:
    result, places = {}, list(concept(evidence))
    for scale, images in evidence.retain.items():
        wanted, attributes = values(evidence)[images.labels], seen(evidence, images.probabilities)
        own = right(attributes, wanted, places)
        others = [place for place in range(wanted.shape[1]) if place not in places]
        cross = (attributes == wanted)[:, others].double().mean().item() if others else None
        computed, judged = None, images.judged
        if judged is not None and (judged[:, places] > -2).any():
            computed = share(right(judged, wanted, places))
        result[scale] = {
            **wilson(int(own.sum()), len(own)),
            "cross_domain": cross,
            "computed": computed,
            "all_right": share(torch.eq(attributes, wanted).all(1)),
        }
    return result
