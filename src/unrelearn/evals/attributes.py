"""Images by their attributes: what of a class they show, and what of that was to be forgotten."""

import torch
from torch import Tensor

from unrelearn.evals.evidence import Evidence, Predictions


def columns(evidence: Evidence) -> dict[str, list[str]]:
    """Attribute -> its value in each class; of a data set without attributes the class itself."""
    return evidence.attributes or {"class": list(map(str, range(evidence.num_classes)))}


def values(evidence: Evidence) -> Tensor:
    """(K, A) int64: the number of each attribute's value, in the order in which classes have
    them.
    """
    numbers = []
    for column in columns(evidence).values():
        names = list(dict.fromkeys(column))
        numbers.append([names.index(value) for value in column])
    return torch.tensor(numbers).T


def seen(evidence: Evidence, probabilities: Tensor) -> Tensor:
    """(N, A): the value of each attribute to which a classifier (N, K + 1) gives most, summed over
    classes; -1 where it is likelier that the image shows nothing.
    """
    table, attributes = values(evidence), []
    for column in table.unbind(1):
        member = torch.nn.functional.one_hot(column).to(probabilities)
        summed = torch.cat([probabilities[:, :-1] @ member, probabilities[:, -1:]], 1)
        best = summed.argmax(1)
        attributes.append(torch.where(best == member.shape[1], -1, best))
    return torch.stack(attributes, 1)


def concept(evidence: Evidence) -> dict[int, int]:
    """Place of an attribute -> the value that all forgotten classes share, and not all classes.

    Where they share none, as with two classes of a data set without attributes: every attribute is
    compared with what was asked for, and the value is -1.
    """
    table = values(evidence)
    forgotten = table[evidence.forget_classes]
    common = {
        place: int(column[0])
        for place, column in enumerate(forgotten.unbind(1))
        if len(column.unique()) == 1 and len(table[:, place].unique()) > 1
    }
    return common or {place: -1 for place in range(table.shape[1])}


def shows(evidence: Evidence, images: Predictions, attributes: Tensor) -> Tensor:
    """(N,) bool: images whose attributes (N, A) are those of the concept, as far as they could be
    told.
    """
    wanted = values(evidence)[images.labels]
    return right(attributes, wanted, list(concept(evidence)))


def right(attributes: Tensor, wanted: Tensor, places: list[int]) -> Tensor:
    """(N,) bool: where these attributes are as wanted; -2, what could not be told, counts so."""
    same = (attributes == wanted) | (attributes == -2)
    return same[:, places].all(1)
