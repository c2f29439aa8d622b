"""Whether a method, an attack and the measurements are for the kind of model that there is."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from hydra.utils import get_object

from unrelearn.advice import problem
from unrelearn.config.groups import name_of
from unrelearn.config.schema import Config, file_of
from unrelearn.paths import CONF

ANY = "Training"  # what a method says that works with every kind of model
HOOKS = ("begin", "prepare", "losses", "moving", "edit")


def check_kind(cfg: Config) -> list[str]:
    """Problems of model.kind, and of what is for another kind of model."""
    key = "model.kind"
    try:
        kind = get_object(cfg.model.kind)
        track, batches, evidence = kind.track, kind.batches, kind.evidence
    except Exception as error:  # whatever the import of such a name raises
        why = f"no such kind of model ({' '.join(str(error).split())[:100]})"
        return [problem(key, cfg.model.kind, why, {"model": "unet_tiny"})]
    problems = []
    for group in ("method", "attack"):
        given = getattr(cfg, group)
        if _works(get_object(given["_target_"]), batches):
            continue
        others = ", ".join(options(group, lambda target: _works(target, batches)))
        why = f"is for another kind of model than model={cfg.model.name}, {track}"
        instead = f"Type one of {group}={others}"
        problems.append(problem(group, name_of(given), why, instead))
    for name, given in cfg.eval.items():
        if not _reads(get_object(given["_target_"]), evidence):
            why = f"measures another kind of model than model={cfg.model.name}, {track}"
            instead = f"Type ~eval.{name}, or experiment={track} for all that fits"
            problems.append(f"eval.{name}: {why}. {instead}")
    return problems


def options(group: str, fits: Callable[[Any], bool]) -> Iterator[str]:
    """The yamls of a group whose target fits."""
    for path in sorted((CONF / group).glob("*.yaml")):
        target = file_of(group, path.stem).get("_target_")  # one without builds on another
        if target and fits(get_object(target)):
            yield path.stem


def _works(method: Any, batches: str) -> bool:
    return needs(method) <= {ANY, batches}


def needs(method: Any) -> set[str]:
    """What a method's hooks say that their training is: `t: "Denoising"`."""
    named = set()
    for hook in HOOKS:
        function = getattr(method, hook, None)
        annotations = inspect.get_annotations(function) if inspect.isfunction(function) else {}
        if "t" in annotations:
            named.add(_text(annotations["t"]))
    return named


def _reads(measurement: Any, evidence: str) -> bool:
    first = next(iter(inspect.get_annotations(measurement).values()), None)
    return first is None or evidence in _text(first).replace(" ", "").split("|")


def _text(annotation: Any) -> str:
    """The name of a type, or of several with | between."""
    if isinstance(annotation, str):
        return annotation.strip("\"'")
    return " | ".join(getattr(one, "__name__", str(one)) for one in _parts(annotation))


def _parts(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", (annotation,))
