"""What a user is told to type, and the commands that are kept: quoted for Hydra's parser, and then
for the shell.
"""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cache

# keys whose values are names: what was typed counts, not the number or truth value that a parser
# sees in it. The value: whether null means that there is none.
NAMES = {
    "forget": False,
    "forgotten_before": False,
    "dataset.root": False,
    "dataset.classes": True,
    "dataset.condition": False,
    "dataset.names": True,
    "dataset.categorical": True,
    "dataset.target": True,
    "dataset.parties": True,
    "attack.proxy.root": False,
    "model.checkpoint": True,
    "method.checkpoint": False,
    "method.labels": True,
    "paths.outputs": False,
    "paths.data": False,
    "paths.inception_weights": True,
    "tracking.project": False,
    "tracking.group": True,
    "tracking.tags": False,
}
INDEXED = ("forget", "forgotten_before")  # where a whole number may be an index
INDEX = re.compile("0|[1-9][0-9]{0,8}")  # a number whose text is the one that everybody gives it
# a text that Hydra reads as it stands
PLAIN = re.compile(r"(\.{0,2}/|[A-Za-z_])[\w./-]*", re.ASCII)


def shell(word: str) -> str:
    """A word as a shell reads it, on one line: bash's $'...' where it holds what can not be
    printed.
    """
    if word.isprintable():
        return shlex.quote(word)
    shown = []
    for letter in word:
        if letter in "'\\":
            shown.append("\\" + letter)
        elif letter.isprintable():
            shown.append(letter)
        else:  # in octal, as a digit that follows can not be taken for a part of it
            byte_of_a_name = "\udc80" <= letter <= "\udcff"
            errors = "surrogateescape" if byte_of_a_name else "surrogatepass"
            shown += [f"\\{byte:03o}" for byte in letter.encode("utf-8", errors)]
    return f"$'{''.join(shown)}'"


def command(words: Sequence[str], program: str = "run.py") -> str:
    """The command that makes a run again, as it can be pasted into a shell."""
    return " ".join(map(shell, ["python", *program.split(), *words]))


def typed(choices: Mapping[str, object]) -> str:
    """What to type so that each key gets its value, quoted for Hydra's parser and then for the
    shell.

    Every advice with a value in it is put together here: `f"... Type {typed({'forget': name})}"`.
    """
    return " ".join(
        shell(f"{key}={text(value, name=key in NAMES)}") for key, value in choices.items()
    )


def problem(key: str, value: object, why: str, instead: Mapping[str, object] | str) -> str:
    """The line of a problem: the key, its value, what is wrong, and what to type instead."""
    advice = instead if isinstance(instead, str) else f"Type {typed(instead)}"
    return f"{key}={shown(value)}: {why}. {advice}"


def text(value: object, *, name: bool = False) -> str:
    """How Hydra's parser must be told a value so that it reads that value and no other.

    name: of a key in NAMES, where a number counts by its text, so that `forget=7` needs no quotes.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(text(item, name=name) for item in value)}]"
    if isinstance(value, dict):
        keys = {key: re.sub(r"([\\()\[\]{}:=,])", r"\\\1", str(key)) for key in value}
        return "{" + ",".join(f"{keys[key]}:{text(item)}" for key, item in value.items()) + "}"
    if not isinstance(value, str):
        return str(value)
    if name and INDEX.fullmatch(value):
        return value
    if PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null", "nan", "inf"):
        return value
    # backslashes count as such but before a quote, and before an interpolation that is to be none
    quoted = re.sub(
        r'(\\*)"',
        lambda match: match[1] * 2 + '\\"',
        re.sub(r"\\+\Z", lambda end: end[0] * 2, value),
    )
    return '"' + re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", quoted) + '"'


def shown(text: object) -> str:
    """A text as it stands in a line that is printed: what can not be printed is escaped."""

    def escaped(letter: str) -> str:
        return letter.encode("unicode_escape", "surrogatepass").decode()

    return "".join(each if each.isprintable() else escaped(each) for each in str(text))


@cache
def say_once(line: str) -> None:
    """To the standard error; not again in this process."""
    print(line, file=sys.stderr, flush=True)
