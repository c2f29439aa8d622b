"""The groups that are plain yaml: what they name, against its signature."""

import contextlib
import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from unrelearn import arguments
from unrelearn.advice import problem
from unrelearn.check import at
from unrelearn.config.choices import another, files_of, readable
from unrelearn.config.values import check_value, default_of, known_keys
from unrelearn.paths import CONF

# what a run asks of the class that a group names
OFFERS = {
    "dataset": ("check", "fingerprint"),
    "method": ("identity", "settings", "losses"),
    "attack": ("identity", "settings", "losses"),
}
EXAMPLES = {
    "dataset": "unrelearn.data.digits.Digits",
    "method": "unrelearn.methods.dimum.DiMUM",
    "attack": "unrelearn.attacks.dimra.DiMRA",
    "eval": "unrelearn.evals.fd_oracle.run",
    "proxy": "unrelearn.data.mnist.MNIST",
    "design": "unrelearn.gan.designs.vflgan.VFLGAN",
    "privacy": "unrelearn.gan.privacy.none.Privacy",
}


def constructor_arguments(group: dict[str, Any]) -> dict[str, Any]:
    """A method's or attack's yaml as its constructor takes it: without the name of a preset, which
    only results show.
    """
    return {key: value for key, value in group.items() if key != "preset"}


def name_of(group: dict[str, Any]) -> str:
    """Under which a choice stands in every result: that of its file of code, or of a preset."""
    return str(group.get("preset") or group["_target_"].split(".")[-2])


def needs_inception(name: str, measurement: dict[str, Any]) -> bool:
    """Whether eval.<name> reads features of the Inception network."""
    return name in ("fid", "kid", "inception_score") or measurement.get("features") == "inception"


def source(key: str, cfg: object) -> str:
    """The key that a user typed for this one, method.batch_size: where the yaml of the choice says
    ${another.key}, that one.
    """
    group, _, name = key.partition(".")
    with contextlib.suppress(Exception):  # a yaml that is not in conf/
        raw = _whole(group, name_of(at(cfg, group))).get(name)
        named = re.fullmatch(r"\$\{([\w.]+)\}", str(raw))
        if named and at(cfg, named[1]) == at(cfg, key):
            return named[1]
    return key


def _whole(group: str, option: str) -> dict[str, Any]:
    """A yaml of conf/ upon those that it builds on."""
    keys: dict[str, Any] = {}
    own = readable(group, option)
    for above in own.get("defaults", []):
        if isinstance(above, str) and above != "_self_":
            keys |= _whole(group, above)
    return keys | own


def check_groups(settings: dict[str, Any]) -> list[str]:
    """Problems of the groups, against the signatures of what they name."""
    problems = []
    for key in ("method", "attack", "dataset"):
        lines = _check(key, settings[key], key)
        problems += [one for line in lines if (one := _of_source(line, key, settings))]
    for name, part in settings["attack"].items():
        if isinstance(part, dict) and "_target_" in part:
            problems += _check(f"attack.{name}", part, "proxy")
    for name, measurement in settings["eval"].items():
        problems += _check(f"eval.{name}", measurement, "eval")
    for group in ("design", "privacy"):
        for name, part in settings["gan"][group].items():
            problems += _check(f"gan.{group}.{name}", part, group)
    return problems


def _of_source(line: str, group: str, settings: dict[str, Any]) -> str | None:
    """The problem of a value as one of the key that it came from; None where the checks of that key
    say it themselves.
    """
    match = re.match(rf"{group}\.\w+", line)
    origin = source(match[0], settings) if match else ""
    if not match or origin == match[0]:
        return line
    if origin in known_keys() and check_value(origin, at(settings, origin)):
        return None
    return line.replace(match[0], origin)


def _check(key: str, group: object, kind: str) -> list[str]:
    name = group.get("_target_") if isinstance(group, dict) else None
    injected = "evidence" if kind == "eval" else ""
    try:
        target = _target(name, OFFERS.get("dataset" if kind == "proxy" else kind, ()), injected)
    except Exception as error:  # whatever the import of such a name raises
        return [_no_target(key, name, kind, error)]
    assert isinstance(group, dict)  # as it has a _target_
    given = constructor_arguments(group)
    usual = partial(_usual, key, group)
    return arguments.check_arguments(key, target, given, injected, options_with, usual)


def _usual(key: str, group: dict[str, Any], name: str) -> object:
    """What the yaml of a choice has for a key, where it says ${another.key} that of this one."""
    with contextlib.suppress(Exception):  # a yaml that is not in conf/
        value = _whole(key, name_of(group)).get(name)
        named = re.fullmatch(r"\$\{([\w.]+)\}", str(value))
        return default_of(named[1]) if named else value
    return None


def _target(name: object, offers: tuple[str, ...], injected: str) -> Any:
    """The class or function of a dotted name, which must have what is asked of it.

    injected: the argument that it is called with, if there is one.
    """
    target = located(name)
    if not callable(target) or not all(hasattr(target, what) for what in offers):
        asked = f"class with {', '.join(offers)}" if offers else "class or function"
        raise NoSuchName(f"must be a {asked}")
    try:
        taken = arguments.parameters(target)
    except Exception as error:  # of annotations that are texts, whatever evaluating them raises
        why = " ".join(str(error).split())[:300]
        raise NoSuchName(
            f"its arguments can not be read ({type(error).__name__}: {why})"
        ) from error
    if injected and next(iter(taken), None) != injected:
        raise NoSuchName(f"its first argument must be {injected}, what was measured")
    return target


class NoSuchName(Exception):
    """What is wrong with a dotted name; instead: one that could be meant."""

    def __init__(self, why: str, instead: str = ""):
        super().__init__(why)
        self.instead = instead


def located(name: object) -> Any:
    """What a dotted name stands for.

    Raises:
        NoSuchName: nothing. And whatever the import of a module raises.
    """
    parts = name.split(".") if isinstance(name, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise NoSuchName("must be the dotted name of a class or function")
    target: Any = None
    for count, part in enumerate(parts, 1):
        whole, above = ".".join(parts[:count]), ".".join(parts[: count - 1])
        if target is not None and hasattr(target, part):
            target = getattr(target, part)
        elif target is None or hasattr(target, "__path__"):
            if whole not in sys.modules and importlib.util.find_spec(whole) is None:
                raise NoSuchName(f"there is no module {whole}")
            target = importlib.import_module(whole)
        else:
            has = _names(target)
            where = place(target.__file__) if isinstance(target, ModuleType) else above
            why = f"{where} has no {part}; it has {', '.join(has) or 'nothing'}"
            close = difflib.get_close_matches(part, has, n=1, cutoff=0)
            raise NoSuchName(why, f"{above}.{close[0]}" if close else "")
    return target


def _names(module: object) -> list[str]:
    """The classes and functions that a module defines for others."""
    return [
        name
        for name, value in getattr(module, "__dict__", {}).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == getattr(module, "__name__", None)
    ]


def place(file: str | Path | None) -> str:
    """A file as it lies in the checkout, or its whole path."""
    with contextlib.suppress(ValueError):
        return str(Path(str(file)).relative_to(CONF.parent))
    return str(file)


def _no_target(key: str, name: object, kind: str, error: Exception) -> str:
    """The line of a choice whose class can not be had: what is wrong, and where."""
    named = f"{key}._target_"
    file = _said_in("eval" if kind == "eval" else key, key, name)
    if kind == "eval":
        leave = f"type ~{key}"
    else:
        other = another(key, file.stem if file else None) if kind in OFFERS else None
        leave = f"type {key}={other}" if other else f"type {named}={EXAMPLES[kind]}"
    if name is None:
        return (
            f"{named}: {place(file) if file else 'what was chosen'} names no class. Add a line"
            f" _target_: MODULE.CLASS to it, or {leave}"
        )
    if not isinstance(error, NoSuchName):
        return problem(named, name, _where(error), f"Mend it, or {leave}")
    instead = f"Mend {place(file)}, or {leave}" if file else ""
    return problem(named, name, str(error), instead or {named: error.instead or EXAMPLES[kind]})


def _said_in(group: str, key: str, name: object) -> Path | None:
    """The yaml of conf/ that says so, if there is one; of a measurement that of its name."""
    only = key.partition(".")[2]
    for option, keys in files_of(group).items():
        own = "_target_" in keys or "defaults" not in keys  # or those that it builds on have one
        if own and keys.get("_target_") == name and only in ("", option):
            return CONF / group / f"{option}.yaml"
    return None


def _where(error: Exception) -> str:
    """File, line and text of what an import raised: the last line that is neither Python's nor of
    another package, as the mistake lies there and not in what it calls.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{place(error.filename)}, line {error.lineno}: {error.msg}"
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    others = (sys.prefix, sys.base_prefix, "<", __file__)
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if not call.filename.startswith(others)]
    return f"{place(own[-1].filename)}, line {own[-1].lineno}: {text}" if own else text


def options_with(group: str, name: str) -> list[str]:
    """The options of a group in which a key stands, first those that can not do without it."""
    options = files_of(group) if group else {}
    having = [option for option, keys in options.items() if name in keys]
    return sorted(having, key=lambda option: options[option][name] != "???")
