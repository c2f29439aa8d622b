"""What is left of the other attributes under c_f: of each the share of images that show it as asked
for.

Where +Eyeglasses is forgotten, a face under +Eyeglasses+Smiling should smile as it did before. By
the oracle (with the Wilson interval) and by the held-out classifier, their probabilities summed
over the classes of an attribute's value. `real`: how many real test images the oracle is right on;
where these are too few, it can not judge generated ones, and there is no value. A data set without
attributes has no others.
"""

from torch import Tensor

from unrelearn import distributed
from unrelearn.advice import say_once
from unrelearn.evals.attributes import columns, concept, right, seen, values
from unrelearn.evals.evidence import Evidence, Predictions, share, wilson

VERSION = 2
TOLD = 0.85  # share of real test images that the oracle must be right on


def run(evidence: Evidence) -> dict:
    result: dict[str, dict] = {}
    forgotten, names = concept(evidence), list(columns(evidence))
    others = {place: name for place, name in enumerate(names) if place not in forgotten}
    told = {place: share(_right(evidence, evidence.real_test, place)[0]) for place in others}
    for place, name in others.items():
        if told[place] < TOLD and distributed.is_main():
            say_once(
                f"eval.attributes_kept: {name} has no value, as the oracle tells it in"
                f" {100 * told[place]:.1f} % of real test images, and {100 * TOLD:.0f} % are"
                " needed. Type oracle.max_steps=NUMBER with more steps"
            )
    for scale, images in evidence.forget.items():
        result[scale] = {}
        for place, name in others.items():
            result[scale][name] = {"value": None, "real": told[place]}
            if told[place] >= TOLD:
                main, held_out = _right(evidence, images, place)
                counted = wilson(int(main.sum()), len(main))
                result[scale][name] |= {**counted, "held_out": share(held_out)}
    return result


def _right(evidence: Evidence, images: Predictions, place: int) -> list[Tensor]:
    """(N,) bool by the oracle and by the held-out classifier: where an attribute is as wanted."""
    wanted = values(evidence)[images.labels]
    judges = [seen(evidence, given) for given in (images.probabilities, images.held_out)]
    return [right(attributes, wanted, [place]) for attributes in judges]
