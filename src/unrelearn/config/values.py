"""Checks of single values: their types, ranges and choices, as the schema has them."""

import typing
from dataclasses import Field, fields
from functools import cache
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from unrelearn import arguments
from unrelearn.advice import typed
from unrelearn.config.schema import (
    GROUPS,
    PARTS,
    Config,
    defaults,
    groups_of,
    keys_of,
    leaves,
    part_of,
    plain,
)


def check_types(node: dict[str, Any], schema: Any = Config, above: str = "") -> list[str]:
    """Problems of values that came by interpolation, which the schema does not look at."""
    problems = []
    for one in fields(schema):
        key = f"{above}.{one.name}" if above else one.name
        value, part = node.get(one.name), part_of(one.type)
        is_group = part is not None or typing.get_origin(one.type) is dict
        if value is None and part is not None and part is not one.type:
            continue
        if is_group and not isinstance(value, dict):
            given = f"{key}={arguments.printed(value)}"
            problems.append(f"{given}: must be a group of keys. Leave {key} out")
        elif part is not None and isinstance(value, dict):
            problems += check_types(value, part, key)
        elif not is_group and arguments.error_of(value, one.type):
            given = f"{key}={arguments.printed(value)}"
            problems.append(f"{given}: {must_be(key, value)}")
    return problems


def said_once(problems: list[str], config: DictConfig) -> list[str]:
    """The problems less those of a key that takes the value of another, of which one is said."""
    written = {key: str(value) for key, value in leaves(plain(config, resolve=False))}
    named = {line.partition("=")[0] for line in problems}
    again = {key for key, value in written.items() if value[:2] == "${" and value[2:-1] in named}
    return [line for line in problems if line.partition("=")[0] not in again]


@cache
def known_keys() -> "dict[str, Field[Any]]":
    """What the schema says of each dotted key that is no group of others."""
    return dict(keys_of(Config))


def default_of(key: str) -> object:
    """Of a key of the schema."""
    default = OmegaConf.select(defaults(), key)
    return list(default) if isinstance(default, ListConfig) else default


def must_be(key: str, value: object) -> str:
    """What a key of the schema may be, as its value is of another type, and what to type."""
    declared = known_keys()[key]
    kind = declared.metadata.get("kind", declared.type)
    allowed, example = arguments.wording(kind)
    if (limits := arguments.bounds(kind)) != arguments.UNBOUNDED:
        allowed = f"{allowed}, {arguments.span(limits)}"
    if type(None) in typing.get_args(declared.type) and "null" not in allowed:
        allowed = f"{allowed}, or null"
    default = default_of(key)
    whole = int(value) if isinstance(value, float) and value.is_integer() else None
    meant = (one for one in ([value], whole, default) if arguments.error_of(one, kind) is None)
    return f"must be {allowed}. Type {typed({key: next(meant, example)})}"


def check_values(settings: dict[str, Any]) -> list[str]:
    """Keys that there are not, choices, ranges, and numbers that are none."""
    known, groups, problems = known_keys(), set(groups_of(Config)), []
    for key, value in leaves(settings):
        if key.split(".")[0] in GROUPS or key.startswith(PARTS):
            continue
        if key in known:
            problems += check_value(key, value)
        elif key not in groups:
            problems.append(
                f"{key}: no such key; python run.py --cfg job shows all of them. Leave +{key} out"
            )
    return problems


def check_value(key: str, value: object) -> list[str]:
    """Problems of the value of a key of the schema, which is of its type."""
    declared = known_keys()[key]
    kind = declared.metadata.get("kind", declared.type)
    if key == "forget":  # a class may be called nan
        return []
    if declared.type is Any and arguments.error_of(value, kind):
        return [f"{key}={arguments.printed(value)}: {must_be(key, value)}"]
    if typing.get_origin(kind) is typing.Literal:
        allowed = typing.get_args(kind)
        listed = ", ".join(allowed)
        advice = f"Type {key}={allowed[0]}"
        given = f"{key}={arguments.printed(value)}"
        null = value is None and type(None) in typing.get_args(declared.type)
        return [] if null or value in allowed else [f"{given}: must be one of {listed}. {advice}"]
    if key == "model.pretrain.max_steps" and value == 0:
        return [f"{key}=0: there is no model without training. Type {key}=2000"]
    limits = arguments.bounds(kind)
    if limits == arguments.UNBOUNDED:
        limits = arguments.NOT_NEGATIVE
    example = _example(key, limits)
    if problems := arguments.not_finite(key, value, example):
        return problems
    if not isinstance(value, int | float) or isinstance(value, bool):
        return []
    if "kind" not in declared.metadata or arguments.within(value, limits):
        return []
    meant = arguments.of_per_cent(value, limits) or example
    return [f"{key}={value}: must be {arguments.span(limits)}. Type {typed({key: meant})}"]


def _example(key: str, limits: arguments.Bounds) -> float:
    """A number that a key may have: its default, or one within the range."""
    value = OmegaConf.select(defaults(), key)
    if isinstance(value, int | float) and arguments.within(value, limits):
        return value
    return arguments.example_within(limits)
