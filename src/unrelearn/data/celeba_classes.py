"""The classes of CelebA: every combination of a few attributes."""

import difflib
import itertools
from dataclasses import dataclass

from unrelearn.advice import typed


@dataclass(frozen=True)
class Combinations:
    """The 2**n combinations of n attributes as classes; the first is the most significant bit."""

    attributes: list[str]

    @property
    def values(self) -> list[tuple[int, ...]]:
        """The attributes' values, 0 or 1, of each class."""
        return list(itertools.product((0, 1), repeat=len(self.attributes)))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.signed(values) for values in self.values)

    @property
    def groups(self) -> dict[str, list[int]]:
        """What `forget=` may name -> its classes: every signed combination of some or all of the
        attributes, in the order of the condition ("+Male", "-Male", "-Male+Smiling"), and "Male"
        for "+Male".
        """
        groups = {}
        for signs in itertools.product((None, 0, 1), repeat=len(self.attributes)):
            groups[self.signed(signs)] = [
                label
                for label, values in enumerate(self.values)
                if all(sign in (None, value) for sign, value in zip(signs, values, strict=True))
            ]
        del groups[""]  # no attribute at all: every class
        return groups | {name: groups[f"+{name}"] for name in self.attributes}

    @property
    def shown(self) -> dict[str, list[str]]:
        """Attribute -> whether each class has it, "+" or "-"."""
        columns = zip(*self.values, strict=True)
        pairs = zip(self.attributes, columns, strict=True)
        return {name: ["-+"[value] for value in column] for name, column in pairs}

    @property
    def captions(self) -> list[list[str]]:
        """Of each class one, which names what it has: "a face with Male and Smiling"."""
        had = [list(itertools.compress(self.attributes, values)) for values in self.values]
        return [[f"a face with {' and '.join(names)}" if names else "a face"] for names in had]

    def counterpart(self, label: int, forgotten: list[int]) -> int:
        """The retained class under which DiMUM's alternative images for `label` are taken; `label`
        itself if retained.

        With +Male forgotten, +Male+Smiling becomes -Male+Smiling; with +Male+Smiling alone
        forgotten too. See `nearest_retained`.

        Args:
            forgotten: not every class.
        """
        return nearest_retained(self.values, label, forgotten)

    def signed(self, signs: tuple[int | None, ...]) -> str:
        return "".join(
            "-+"[sign] + name
            for sign, name in zip(signs, self.attributes, strict=True)
            if sign is not None
        )

    # what is wrong with it

    @property
    def given(self) -> str:
        return f"dataset.condition=[{','.join(self.attributes)}]"

    def check_number(self, example: list[str]) -> list[str]:
        """example: what to type in place of none."""
        problems = []
        if not 1 <= len(self.attributes) <= 6:
            problems.append(
                f"{self.given}: {len(self.attributes)} attributes, must be 1 to 6; "
                f"type {typed({'dataset.condition': self.attributes[:6] or example})}"
            )
        if len(set(self.attributes)) < len(self.attributes):
            problems.append(
                f"{self.given}: names an attribute twice; "
                f"type {typed({'dataset.condition': list(dict.fromkeys(self.attributes))})}"
            )
        return problems

    def check_names(self, known: list[str]) -> list[str]:
        """known: the attributes there are."""
        unknown = [name for name in self.attributes if name not in known]
        if not unknown:
            return []
        close = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.5) for name in unknown}
        meant = [guess for name in self.attributes for guess in close.get(name, [name])]
        meant = meant or known[:1]
        return [
            f"{self.given}: no attribute {', '.join(unknown)}; allowed: {', '.join(known)}. "
            f"Type {typed({'dataset.condition': list(dict.fromkeys(meant))})}"
        ]


def nearest_retained(values: list[tuple[int, ...]], label: int, forgotten: list[int]) -> int:
    """The retained class that differs from `label` in as few attributes as possible; `label` itself
    if retained.

    Among several, attributes with one value in all the forgotten classes are changed before others,
    then those that stand first.

    Args:
        values: the attributes' values of each class.
        forgotten: not every class.
    """
    common = {
        place
        for place, column in enumerate(zip(*(values[c] for c in forgotten), strict=True))
        if len(set(column)) == 1
    }

    def cost(other: int) -> tuple:
        changed = [
            place
            for place, pair in enumerate(zip(values[label], values[other], strict=True))
            if len(set(pair)) == 2
        ]
        return len(changed), len(set(changed) - common), changed

    return min((c for c in range(len(values)) if c not in forgotten), key=cost)
