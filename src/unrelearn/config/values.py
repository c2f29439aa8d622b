"""Checks of single values: their types, ranges and choices, as the schema has them."""

import typing
from dataclasses import Field, fields
from typing import Any

from omegaconf import OmegaConf

from unrelearn import arguments
from unrelearn.advice import shown, typed
from unrelearn.config.schema import (
    GROUPS,
    Config,
    defaults,
    groups_of,
    keys_of,
    leaves,
    part_of,
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
            problems.append(f"{key}={shown(value)}: must be a group of keys. Leave {key} out")
        elif part is not None and isinstance(value, dict):
            problems += check_types(value, part, key)
        elif not is_group and arguments.error_of(value, one.type):
            wording, example = arguments.wording(one.type)
            problems.append(
                f"{key}={shown(value)}: must be {wording}. Type {typed({key: example})}"
            )
    return problems


def check_values(settings: dict[str, Any]) -> list[str]:
    """Keys that there are not, choices, ranges, and numbers that are none."""
    known, groups, problems = dict(keys_of(Config)), set(groups_of(Config)), []
    for key, value in leaves(settings):
        if key.split(".")[0] in GROUPS:
            continue
        if key in known:
            problems += _check(key, value, known[key])
        elif key not in groups:
            problems.append(
                f"{key}: no such key; python run.py --cfg job shows all of them. Leave +{key} out"
            )
    return problems


def _check(key: str, value: object, declared: "Field[Any]") -> list[str]:
    kind = declared.metadata.get("kind", declared.type)
    if key == "forget":  # a class may be called nan
        return []
    if typing.get_origin(kind) is typing.Literal:
        allowed = typing.get_args(kind)
        listed = ", ".join(allowed)
        advice = f"Type {key}={allowed[0]}"
        known = value in allowed
        return [] if known else [f"{key}={shown(value)}: must be one of {listed}. {advice}"]
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
    return [f"{key}={value}: must be {arguments.span(limits)}. Type {typed({key: example})}"]


def _example(key: str, limits: arguments.Bounds) -> float:
    """A number that a key may have: its default, or one within the range."""
    value = OmegaConf.select(defaults(), key)
    if isinstance(value, int | float) and arguments.within(value, limits):
        return value
    return arguments.example_within(limits)
