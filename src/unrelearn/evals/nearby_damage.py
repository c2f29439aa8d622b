"""Damage by distance to the concept: how often retained captions are drawn right, by how many words
of the concept they share, and by what stands in its place.

`shared`: number of the concept's words that a caption has -> share of images with every attribute
right; where "red circle" is forgotten, a red square shares one. `values`: word in the place of the
forgotten one -> that share; where red is forgotten, of green, blue and yellow, of which some are
nearer. `value`: the lowest of these.
"""

from unrelearn.evals.attributes import columns, concept, seen, values
from unrelearn.evals.evidence import Evidence, share

VERSION = 2


def run(evidence: Evidence) -> dict:
    result, table, forgotten = {}, values(evidence), concept(evidence)
    names = list(columns(evidence).values())
    for scale, images in evidence.retain.items():
        wanted = table[images.labels]
        hit = (seen(evidence, images.probabilities) == wanted).all(1)
        common = sum((wanted[:, place] == value).long() for place, value in forgotten.items())
        shared = {str(n): share(hit[common == n]) for n in common.unique().tolist()}
        words: dict[str, float] = {}
        for place in forgotten:
            for value in wanted[:, place].unique().tolist():
                word = list(dict.fromkeys(names[place]))[value]
                words[word] = share(hit[wanted[:, place] == value])
        result[scale] = {"shared": shared, "values": words, "value": min(words.values())}
    return result
