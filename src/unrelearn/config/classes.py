"""The classes that `forget` names."""

import contextlib
import difflib
import re
from collections.abc import Sequence
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unrelearn.advice import INDEX, problem, shown, typed
from unrelearn.config.schema import plain
from unrelearn.errors import UsageError
from unrelearn.forgotten import KINDS
from unrelearn.words import UNREADABLE, read

# for a parser
NO_NAME = re.compile(
    r"(?i)[-+.:\w]*\d[-+.:\w]*|true|false|yes|no|on|off|y|n|null|none|~|[-+.]*(nan|inf)"
)


def forget_classes(forget: object, dataset: Any) -> list[int]:
    """Class indices, sorted, of `forget`: an index, a name, or a list of them. A name wins over an
    index.

    Where the data set has `groups` (CelebA's attributes), the name of one stands for all its
    classes.

    Raises:
        UsageError: no such class, or every class.
    """
    chosen: set[int] = set()
    problems: list[str] = []
    names, allowed = dataset.class_names, f"allowed: {_listed(dataset)}"
    for item in forget if isinstance(forget, list) else [forget]:
        indices = _meant(item, dataset)
        chosen.update(indices or ())
        if indices is None:
            instead = f"Type {typed({'forget': _closest(item, dataset)})}"
            if str(item) in KINDS:  # random, without its share
                instead = f"Type forget={KINDS[str(item)]}"
            problems.append(problem("forget", item, f"no such class; {allowed}", instead))
    if not problems and not chosen:
        problems = [problem("forget", forget, f"names no class; {allowed}", {"forget": names[0]})]
    if not problems and len(chosen) == len(names):
        why = "would forget every class and leave the retain set empty"
        alone = "Type dataset=digits, or a data set of two classes or more"
        other: dict[str, Any] | str = {"forget": names[0]} if len(names) > 1 else alone
        problems = [problem("forget", forget, why, other)]
    if problems:
        raise UsageError(problems)
    return sorted(chosen)


def _meant(item: object, dataset: Any) -> list[int] | None:
    """The classes that one element of `forget` stands for, by its text, with class: before it or
    without; a number is an index if its text is no name.

    What came here as a truth value, null or a fraction has lost its text, and stands for nothing.
    """
    text, names = str(item), dataset.class_names
    groups: dict[str, list[int]] = getattr(dataset, "groups", {})
    if isinstance(item, bool) or not isinstance(item, str | int):
        return None
    if text not in names:
        text = text.removeprefix("class:")
    if text in names:
        return [names.index(text)]
    if text in groups:
        return groups[text]
    index = int(text) if INDEX.fullmatch(text) else len(names)
    return [index] if index < len(names) else None


def _listed(dataset: Any) -> str:
    """The classes of a data set, and what stands for several of them, as they stand in a line."""
    names, groups = dataset.class_names, getattr(dataset, "groups", {})
    classes = [f"{i} ({shown(n)})" if n != str(i) else n for i, n in enumerate(names)]
    others = [shown(name) for name in groups if name not in names]
    parts = [", ".join(of[:20]) + (" ..." if len(of) > 20 else "") for of in (classes, others)]
    return ", ".join(filter(None, parts))


def _closest(item: object, dataset: Any) -> str:
    """The class that was probably meant: one that a parser takes for this value, one of a like
    name, or the first.
    """
    names: list[str] = [*dataset.class_names, *getattr(dataset, "groups", {})]
    if isinstance(item, str):
        close = difflib.get_close_matches(item.removeprefix("class:"), names, n=1)
    else:
        close = _read_as(item, names)
    return (close or names)[0]


def _read_as(value: object, names: Sequence[str]) -> list[str]:
    """The names that yaml or Hydra takes for this number, truth value or null, and which have
    another text.
    """
    numbers = [name for name in names if NO_NAME.fullmatch(name) and not INDEX.fullmatch(name)]
    return [name for name in numbers if repr(value) in (repr(read(name)), repr(_yaml(name)))]


def _yaml(text: str) -> object:
    with contextlib.suppress(yaml.YAMLError, OmegaConfBaseException, ValueError):
        return plain(OmegaConf.create(f"key: {text}"))["key"]
    return UNREADABLE


def doubtful(forget: object, dataset: Any) -> list[str]:
    """Problems of numbers from a yaml file: whether 1_0 or 10 stands there can no longer be
    told.
    """
    problems = []
    for item in forget if isinstance(forget, list) else [forget]:
        whole = isinstance(item, int) and not isinstance(item, bool)
        if not whole or not (indices := _meant(item, dataset)):
            continue
        by_number = dataset.class_names[indices[0]]
        for name in _read_as(item, dataset.class_names):
            why = f"may be the class {shown(by_number)}, or the class {name}, which yaml reads as"
            instead = f"Type {typed({'forget': name})}, or {typed({'forget': by_number})}"
            problems.append(problem("forget", item, f"{why} the number {item}", instead))
    return problems
