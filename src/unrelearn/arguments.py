"""The arguments that a yaml gives a class or function, against its signature: pydantic looks at the
values, and what is wrong is said in one line each.

The signature is the schema: of a method its fields (`method.Method`), of a data set its
constructor, of a measurement the function. Types are strict: a text is never taken for a number,
nor a truth value; a whole number is a number.
"""

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from unrelearn import check
from unrelearn.advice import shown, typed

Bounds = tuple[float, float, bool]  # the lowest and highest value, and whether the lowest is one
Options = Callable[[str, str], list[str]]  # (group, key) -> choices that have such a key
UNBOUNDED: Bounds = (float("-inf"), float("inf"), True)
NOT_NEGATIVE: Bounds = (0, float("inf"), True)


def _with_target(value: dict[str, Any]) -> dict[str, Any]:
    if "_target_" not in value:
        raise ValueError("no _target_")
    return value


Described = Annotated[dict, AfterValidator(_with_target)]  # an object that Hydra makes of it


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a class or function takes by name; of a method what its yaml may give."""
    known = inspect.signature(target, eval_str=True).parameters
    names = target.settings() if hasattr(target, "settings") else list(known)
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {name: known[name] for name in names if known[name].kind in by_name}


def error_of(value: object, annotation: Any) -> str | None:
    """pydantic's name for what is wrong with a value, None if it is of this type and in its
    range.
    """
    if annotation is inspect.Parameter.empty:
        return None
    if getattr(annotation, "_is_protocol", False):
        annotation = Described
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except (PydanticSchemaGenerationError, PydanticUserError):  # a class that it does not know
        return None
    except ValidationError as error:
        return error.errors()[0]["type"]
    return None


def bounds(annotation: object) -> Bounds:
    """The range that an annotation, or one of its alternatives, names."""
    low, high, closed = UNBOUNDED
    for part in getattr(annotation, "__metadata__", ()):
        for limit in getattr(part, "metadata", ()):
            low = getattr(limit, "ge", getattr(limit, "gt", low))
            closed = closed and not hasattr(limit, "gt")
            high = getattr(limit, "le", high)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        ranges = map(bounds, typing.get_args(annotation))
        return next((one for one in ranges if one != UNBOUNDED), UNBOUNDED)
    return low, high, closed


def within(value: float, limits: Bounds) -> bool:
    low, high, closed = limits
    return low <= value <= high and (closed or value > low)


def span(limits: Bounds) -> str:
    """A range in words."""
    low, high, closed = limits
    words = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
    return words if closed else f"{words}, above {low}"


def of_per_cent(value: object, limits: Bounds) -> float | None:
    """The share that somebody means who types 5 for 5 %."""
    if not isinstance(value, int | float) or limits[:2] != (0, 1):
        return None
    return value / 100 if 2 <= value <= 100 else None


def example_within(limits: Bounds) -> float:
    return next(value for value in (1, *limits[:2]) if within(value, limits))


def printed(value: object) -> str:
    """A value in a line that is printed, where null is what a user types for None."""
    if isinstance(value, list):
        return f"[{', '.join('null' if one is None else shown(repr(one)) for one in value)}]"
    return "null" if value is None else shown(value)


def wording(annotation: object) -> tuple[str, object]:
    """What an annotation allows, in words, and an example of it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        word, example = wording(arguments[0])
        number = example_within(bounds(annotation))
        return word, float(number) if isinstance(example, float) else number
    if origin is Literal:
        return "one of " * (len(arguments) > 1) + ", ".join(map(str, arguments)), arguments[0]
    if origin in (typing.Union, types.UnionType):
        words = [wording(argument) for argument in arguments]
        return " or ".join(word for word, _ in words), words[0][1]
    if origin is dict:
        word, example = wording(arguments[1])
        return f"names, each with {word}", {"name": example}
    if origin is list:
        word, example = wording(arguments[0])
        return f"a list, each {word}", [example]
    plain: dict[object, tuple[str, object]] = {
        int: ("a whole number", 1),
        float: ("a number", 1.0),
        bool: ("true or false", False),
        str: ("a word", "..."),
        type(None): ("null", None),
    }
    described = "an object, with its _target_ and arguments", {"_target_": "..."}
    return plain.get(annotation, described)


def not_finite(key: str, value: object, example: float) -> list[str]:
    """The problem of a number, or of one in a list or dictionary, that is none or has no end."""
    why = next(filter(None, map(check.not_finite, _numbers(value))), None)
    if why is None:
        return []
    unlimited = key.endswith("grad_clip") and value == float("inf")
    example = 1e9 if unlimited else example
    advice = typed({key: _replaced(value, example)})
    limit = " for no limit" if unlimited else ""
    return [f"{key}={str(value)[:80]}: {why}. Type {advice}{limit}"]


def _numbers(value: object) -> Iterator[object]:
    """Whatever lies in nested lists and dictionaries."""
    if isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
    else:
        yield value


def _replaced(value: object, example: float) -> object:
    """The value, with the example for each number in it that can not be used."""
    if isinstance(value, dict):
        return {name: _replaced(one, example) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, example) for one in value]
    return value if check.not_finite(value) is None else example


def check_value(
    key: str, value: object, annotation: object, usual: Callable[[], object] = lambda: None
) -> list[str]:
    """Problems of one value. usual: what the key has where nobody types it."""
    limits = bounds(annotation)
    if problems := not_finite(key, value, example_within(limits)):
        return problems
    error = error_of(value, annotation)
    if error is None:
        return []
    example: object = example_within(limits)
    if error in ("greater_than", "greater_than_equal", "less_than_equal"):
        allowed = span(limits)
    else:
        allowed, example = wording(annotation)
    whole = int(value) if isinstance(value, float) and value.is_integer() else None
    share = of_per_cent(value, limits)
    meant = (one for one in ([value], share, whole, usual()) if one is not None)
    fitting = (one for one in meant if error_of(one, annotation) is None)
    advice = typed({key: next(fitting, example)})
    return [f"{key}={printed(value)}: must be {allowed}. Type {advice}"]


def check_arguments(
    key: str,
    target: Callable[..., Any],
    given: dict[str, Any],
    injected: str = "",
    options_with: Options = lambda group, name: [],
    usual: Callable[[str], object] = lambda name: None,
) -> list[str]:
    """Problems of a yaml group against what it names.

    Args: injected: an argument that is no key. options_with: (group, key) -> its options that have
        such a key. usual: a key -> what it has where nobody types it; None: not known.
    """
    allowed = {name: p for name, p in parameters(target).items() if name != injected}
    problems = []
    for name, value in given.items():
        if name in allowed:
            known = partial(usual, name)
            problems += check_value(f"{key}.{name}", value, allowed[name].annotation, known)
        elif name != "_target_":
            problems.append(_no_such_key(key, name, value, list(allowed), options_with))
    missing = [name for name, p in allowed.items() if p.default is p.empty and name not in given]
    return problems + [
        f"{key}.{name}: is required. Type +{key}.{name}=..., or add it to the yaml"
        for name in missing
    ]


def _no_such_key(
    key: str,
    name: str,
    value: object,
    allowed: list[str],
    options_with: Callable[[str, str], list[str]],
) -> str:
    advice = f"Leave {key}.{name} out"
    if close := difflib.get_close_matches(name, allowed, n=1):
        advice = f"Type {typed({f'{key}.{close[0]}': value})}"
    elif others := options_with(key, name):
        advice = f"Type {typed({key: others[0], f'{key}.{name}': value})}"
    return (
        f"{key}.{name}={printed(value)}: no such key; allowed: {', '.join(allowed) or 'none'}."
        f" {advice}"
    )
