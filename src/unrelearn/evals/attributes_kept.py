"""What is left of the other attributes under c_f: of each the share of images that show it as asked
for.

Where +Eyeglasses is forgotten, a face under +Eyeglasses+Smiling should smile as it did before. By
the oracle (with the Wilson interval) and by the held-out classifier, their probabilities summed
over the classes of an attribute's value. A data set without attributes has no others.
"""

from unrelearn.evals.attributes import columns, concept, right, seen, values
from unrelearn.evals.evidence import Evidence, share, wilson


def run(evidence: Evidence) -> dict:
    result: dict[str, dict] = {}
    forgotten, names = concept(evidence), list(columns(evidence))
    others = {place: name for place, name in enumerate(names) if place not in forgotten}
    for scale, images in evidence.forget.items():
        wanted = values(evidence)[images.labels]
        judges = [seen(evidence, given) for given in (images.probabilities, images.held_out)]
        result[scale] = {}
        for place, name in others.items():
            main, held_out = (right(attributes, wanted, [place]) for attributes in judges)
            counted = wilson(int(main.sum()), len(main))
            result[scale][name] = {**counted, "held_out": share(held_out)}
    return result
