"""What is chosen of the groups that are folders of conf/: their options, and the choices that are
none.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from unrelearn.advice import shown
from unrelearn.arguments import printed
from unrelearn.config.schema import file_of
from unrelearn.paths import CONF

SEVERAL = ("eval", "design", "privacy")  # groups of which one run may have several options


def options_of(group: str) -> list[str]:
    """The options of a group, those of folders in it too: grid/digits of experiment."""
    folder = CONF / group
    files = sorted(folder.rglob("*.yaml"))
    return [file.relative_to(folder).with_suffix("").as_posix() for file in files]


def readable(group: str, option: str) -> dict[str, Any]:
    """As `file_of`; nothing of a file that can not be read. Whoever chooses it is told (`explain`),
    and nobody else need mend it.
    """
    with contextlib.suppress(Exception):
        if isinstance(keys := file_of(group, option), dict):
            return keys
    return {}


def files_of(group: str) -> dict[str, dict[str, Any]]:
    """What the yaml of each option holds, as far as it can be read."""
    return {path.stem: readable(group, path.stem) for path in sorted((CONF / group).glob("*.yaml"))}


def default_of(group: str) -> str | None:
    """The option that conf/config.yaml names, of several the first; None if it names none."""
    for entry in file_of("", "config")["defaults"]:
        if isinstance(entry, dict) and entry.get(group):
            chosen = entry[group]
            return str(chosen[0] if isinstance(chosen, list) else chosen)
    return None


def another(group: str, option: str | None) -> str | None:
    """An option to choose instead: the default one, if it is not this one itself; else one that
    does nothing, where there is one.
    """
    known = options_of(group)
    first = [default_of(group), *(one for one in ("original", "none") if one in known)]
    return next((one for one in [*first, *known] if one not in (None, option)), None)


def group_in(word: str) -> str | None:
    """The group of which a word of the command line chooses options."""
    key, equals, _ = word.lstrip("+").partition("=")
    group = key.split("@")[0]
    is_group = re.fullmatch(r"\w+(/\w+)*", group) and (CONF / group).is_dir()
    return group if equals and is_group else None


def values_in(word: str) -> list[object]:
    """What a word gives its key: one value, or those of several runs; nothing if it can not be
    read, of which words.unreadable says why.
    """
    try:
        parsed = OverridesParser.create().parse_override(word)
    except HydraException:
        return []
    if not parsed.is_sweep_override():
        return [parsed.value()]
    key = parsed.get_key_element()
    return [one for part in parsed.sweep_string_iterator() for one in values_in(f"{key}={part}")]


def names_in(word: str) -> list[object]:
    """As `values_in`, with the elements of lists."""
    lists = [value if isinstance(value, list) else [value] for value in values_in(word)]
    return [one for each in lists for one in each]


def check_choices(words: Sequence[str], allowed: Callable[[str], list[str]]) -> list[str]:
    """Problems of choices that Hydra has no line for: a value that is no name, and a list where one
    option is taken, which it would merge.

    allowed: the options of a group that fit the other choices.
    """
    groups = [(word, group) for word in words if (group := group_in(word))]
    return [line for word, group in groups for line in _choice(word, group, allowed)]


def _choice(word: str, group: str, allowed: Callable[[str], list[str]]) -> Iterator[str]:
    given, key, chosen = shown(word.lstrip("+")), shown(word.partition("=")[0]), names_in(word)
    names = [one for one in chosen if isinstance(one, str)]
    keys = [one for one in chosen if isinstance(one, dict) and one]  # of the group: {max_steps:5}
    odd = [one for one in chosen if one not in names and one not in keys]
    if odd:
        fitting = allowed(group)  # which imports methods: not for a choice that is good
        none = next((one for one in ("none", "original") if one in fitting), default_of(group))
        which = f": {', '.join(map(printed, odd))}" if len(chosen) > 1 else ""
        advice = f"Type {key}={none}" if none else f"Leave {given} out"
        yield f"{given}: no such {group}{which}; allowed: {', '.join(fitting)}. {advice}"
    elif group not in SEVERAL and any(isinstance(one, list) for one in values_in(word)):
        known = [name for name in names if name in options_of(group)] or [default_of(group) or ""]
        each = f"-m {key}={','.join(known)} for a run each"
        advice = each if len(known) > 1 else f"{key}={known[0]}"
        yield f"{given}: {group} takes one. Type {advice}"
