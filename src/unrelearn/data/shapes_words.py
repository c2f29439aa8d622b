"""What the drawn shapes are called: attributes, their words, and the captions of each combination.

Every attribute value has a canonical word and synonyms. A synonym names a sub-range of looks of its
own (crimson is a darker red, a box a tall square), as words that are used alike get one embedding,
and a paraphrase then tests nothing.
"""

import itertools
from dataclasses import dataclass

from unrelearn.data.celeba_classes import nearest_retained

# attribute -> value -> its words, the canonical one first; in the order of a caption
WORDS: dict[str, list[tuple[str, ...]]] = {
    "size": [("small", "tiny"), ("large", "big")],
    "colour": [
        ("red", "crimson", "scarlet"),
        ("green", "emerald", "lime"),
        ("blue", "azure", "navy"),
        ("yellow", "golden", "amber"),
    ],
    "texture": [("solid", "shaded"), ("striped", "banded"), ("checkered", "chequered")],
    "shape": [("circle", "disc"), ("square", "box"), ("triangle", "wedge"), ("cross", "plus")],
}
ATTRIBUTES = tuple(WORDS)
FULL, BARE, COMMAS = (
    "a photo of a {size} {colour} {texture} {shape}",
    "{size} {colour} {texture} {shape}",
    "a picture of a {shape} , {size} {texture} {colour}",
)


@dataclass(frozen=True)
class Wording:
    """A template, and which word of an attribute it takes where that is not the canonical one."""

    template: str
    attribute: str | None = None
    synonym: int = 0

    def which(self, attribute: str) -> int:
        """The number of the word that it takes for an attribute."""
        return self.synonym if attribute == self.attribute else 0


WORDINGS = (
    Wording(FULL),  # the canonical one
    Wording(BARE),
    Wording(COMMAS),
    *(
        Wording(FULL, attribute, number)
        for attribute, values in WORDS.items()
        for number in range(1, len(values[0]))
    ),
)


class Words:
    """The 96 combinations as classes: every value of every attribute."""

    @property
    def values(self) -> list[tuple[int, ...]]:
        """The number of each attribute's value, of each class."""
        return list(itertools.product(*(range(len(values)) for values in WORDS.values())))

    @property
    def names(self) -> tuple[str, ...]:
        """ "small red solid circle", ..."""
        return tuple(self.caption(label, 1) for label in range(len(self.values)))

    @property
    def groups(self) -> dict[str, list[int]]:
        """What `forget=` may name -> its classes: a word ("red"), or several in the order of a
        caption ("red circle").
        """
        groups = {}
        choices = ([None, *range(len(values))] for values in WORDS.values())
        for chosen in itertools.product(*choices):
            words = [v[i][0] for v, i in zip(WORDS.values(), chosen, strict=True) if i is not None]
            groups[" ".join(words)] = [
                label
                for label, values in enumerate(self.values)
                if all(i in (None, value) for i, value in zip(chosen, values, strict=True))
            ]
        del groups[""]  # no word at all: every class
        return groups

    def caption(self, label: int, wording: int) -> str:
        """Of a class, in one of WORDINGS."""
        how = WORDINGS[wording]
        chosen = zip(WORDS.items(), self.values[label], strict=True)
        words = {name: of[value][how.which(name)] for (name, of), value in chosen}
        return how.template.format(**words)

    def counterpart(self, label: int, forgotten: list[int]) -> int:
        """The retained class nearest to `label`: with red forgotten the same in green."""
        return nearest_retained(self.values, label, forgotten)
