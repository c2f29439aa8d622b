"""Words of the command line as they were typed: options and choices, names that look like numbers,
and missing quotes.
"""

import os
import re
from collections.abc import Sequence
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unrelearn.advice import INDEXED, NAMES, shell, shown, text

OPTIONS_WITH_VALUE = (  # noqa: SIM905
    "-c --cfg -p --package -cp --config-path -cn --config-name -cd --config-dir"
    " --experimental-rerun"
).split()
INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
READABLE = re.compile(r"[\w/.:@%?|+\\$* -]", re.ASCII)  # what Hydra reads without quotes
UNREADABLE = object()


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def read(text: str) -> object:
    """What becomes of the text of a value on the command line; UNREADABLE if nothing does."""
    try:
        value = _parser().parse_override(f"key={text}").value()
        return OmegaConf.create({"key": value})["key"] if isinstance(value, str) else value
    except (HydraException, OmegaConfBaseException):
        return UNREADABLE


def separated(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's options with their values, and the choices; it wants the former first, and a user may
    type them anywhere.
    """
    options: list[str] = []
    choices: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        (options if word.startswith("-") else choices).append(word)
        if rest and (
            word in OPTIONS_WITH_VALUE or (word in ("-i", "--info") and rest[0] in INFORMATION)
        ):
            options.append(rest.pop(0))
    return options, choices


def split(text: str) -> list[str]:
    """The parts of a text between commas that lie outside of quotes and brackets."""
    parts, depth, quote = [""], 0, ""
    for index, letter in enumerate(text):
        if quote:
            before = text[:index]
            escaped = (len(before) - len(before.rstrip("\\"))) % 2
            quote = "" if letter == quote and not escaped else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth <= 0 and not quote and text[max(index - 1, 0)] != "\\":
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def keep_names(word: str) -> str:
    """The word, with quotes around what would reach us as a number or truth value of another text:
    forget=1_0, forget=true; where nothing has an index, around every number: dataset.root=2024.
    """
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or name not in NAMES:
        return word
    keeps = {"null": NAMES[name], "index": name in INDEXED}
    return f"{key}=" + ",".join(_kept(part, **keeps) for part in split(value))


def _kept(part: str, *, null: bool, index: bool) -> str:
    inner = part.strip()
    if inner.startswith("[") and inner.endswith("]"):
        items = (_kept(item, null=False, index=index) for item in split(inner[1:-1]))
        return f"[{','.join(items)}]"
    value = read(inner)
    if value is UNREADABLE and inner.startswith("~"):  # a home folder
        return text(inner)
    if value is UNREADABLE or not (value is None or isinstance(value, bool | int | float)):
        return part
    whole = isinstance(value, int) and not isinstance(value, bool) and str(value) == inner
    return part if (index and whole) or (null and value is None) else f'"{inner}"'


def unreadable(words: Sequence[str]) -> list[str]:
    """One line for each choice that Hydra's parser can not read, with the quotes that are
    missing.
    """
    return [line for line in map(_why_unreadable, words) if line]


def _why_unreadable(word: str) -> str | None:
    try:
        _parser().parse_override(word)
        return None
    except HydraException as error:
        why = " ".join(str(error).split())
    key, equals, value = word.partition("=")
    if not equals or not re.fullmatch(r"(\+\+?|~)?[\w./@-]+(@[\w.:-]+)?", key, re.ASCII):
        return (
            f"{shown(word)}: is no choice of the form KEY=VALUE. Type a key, = and its value:"
            " forget=3"
        )
    if "Unknown function" in why:
        why = "is taken for a call, as it holds brackets"
    else:
        inner = value.strip()[1:-1] if _is_list(value) else value
        odd = next(
            (letter for letter in inner if not READABLE.match(letter) and letter != ","), None
        )
        why = (
            f"must be quoted for Hydra, as it holds {shown(odd)}"
            if odd
            else "can not be read by Hydra without quotes"
        )
    # a folder of that name is meant, and no list
    there = key.lstrip("+") in NAMES and os.path.exists(os.path.expanduser(value))
    return f"{shown(word)}: {why}. Type {shell(f'{key}={text(value) if there else _meant(value)}')}"


def _is_list(value: str) -> bool:
    return value.strip().startswith("[") and value.strip().endswith("]")


def _meant(value: str) -> str:
    """A text that can not be read, with quotes around the parts of it for which that is so."""
    if read(value) is not UNREADABLE:
        return value.strip()
    parts = split(value)
    if len(parts) > 1 and all(part.strip() for part in parts):
        return ",".join(map(_meant, parts))
    inner = value.strip()
    if _is_list(value):
        return f"[{','.join(map(_meant, split(inner[1:-1])))}]"
    quoted = len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "\"'"
    return text(inner[1:-1] if quoted else value)
