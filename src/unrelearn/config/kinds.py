"""Whether a method, an attack and the measurements are for the kind of model that there is."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.utils import get_object

from unrelearn.advice import problem
from unrelearn.config.choices import readable
from unrelearn.config.groups import located, name_of
from unrelearn.config.schema import Config, file_of
from unrelearn.forgotten import names_images
from unrelearn.paths import CONF

ANY = "Training"  # what a method says that works with every kind of model
HOOKS = ("begin", "prepare", "losses", "moving", "edit")


def check_kind(cfg: Config) -> list[str]:
    """Problems of model.kind, and of the parts of such a model."""
    key = "model.kind"
    try:
        kind = get_object(cfg.model.kind)
        track, parts = kind.track, kind.parts
    except Exception as error:  # whatever the import of such a name raises
        why = f"no such kind of model ({' '.join(str(error).split())[:100]})"
        return [problem(key, cfg.model.kind, why, {"model": "unet_tiny"})]
    missing = [f"model.{part}" for part in parts if getattr(cfg.model, part) is None]
    why = f"a model of {track} has one"
    return [problem(key, "null", why, f"Leave {key} out") for key in missing]


def check_others(cfg: Config) -> list[str]:
    """Problems of what is for another kind of model."""
    kind, problems = get_object(cfg.model.kind), []
    track, batches, evidence = kind.track, kind.batches, kind.evidence
    for group in ("method", "attack"):
        given = getattr(cfg, group)
        if works(get_object(given["_target_"]), batches):
            continue
        others = ", ".join(options(group, batches))
        why = f"is for another kind of model than model={cfg.model.name}, {track}"
        instead = f"Type one of {group}={others}"
        problems.append(problem(group, name_of(given), why, instead))
    known = (CONF / "experiment" / f"{track}.yaml").is_file()  # the default is one of none
    fitting = f"or experiment={track}" if known else "or leave experiment=... out"
    for name, given in cfg.eval.items():
        if not _reads(get_object(given["_target_"]), evidence):
            why = f"measures another kind of model than model={cfg.model.name}, {track}"
            instead = f"Type ~eval.{name}, {fitting} for all that fits"
            problems.append(f"eval.{name}: {why}. {instead}")
    return problems


def options(group: str, batches: str | tuple[str, ...]) -> Iterator[str]:
    """The methods or attacks of a kind of model, by the names of their yamls; one that can not be
    read or imported is left out, and whoever chooses it is told.
    """
    for path in sorted((CONF / group).glob("*.yaml")):
        serves = False
        with contextlib.suppress(Exception):
            serves = works(target_of(group, path.stem), batches)
        if serves:
            yield path.stem


def target_of(group: str, name: str) -> Any:
    """What a yaml names, or that which it builds on."""
    given = file_of(group, name)
    while "_target_" not in given:
        given = file_of(group, given["defaults"][0])
    return located(given["_target_"])


def works(method: Any, batches: str | tuple[str, ...]) -> bool:
    """Whether a method or attack is for models whose training is called so, or one of several."""
    names = (batches,) if isinstance(batches, str) else batches
    return needs(method) <= {ANY, *names}


def kind_typed(words: Sequence[str]) -> Any:
    """The kind of model of a command line, as far as its words say."""
    model = "unet_tiny"
    for word in words:
        key, _, name = word.partition("=")
        if key == "experiment" and (CONF / "experiment" / f"{name}.yaml").exists():
            listed = readable("experiment", name).get("defaults") or []
            for entry in listed:
                model = entry.get("override /model", model) if isinstance(entry, dict) else model
        elif key == "model" and (CONF / "model" / f"{name}.yaml").exists():
            model = name
    try:
        return located(readable("model", model)["kind"])
    except Exception:  # what is wrong with that model is said where it is composed
        return located("unrelearn.diffusion.kind.Denoisers")


def every_attack_of(words: Sequence[str]) -> list[str]:
    """What attack=all stands for in a command line: all attacks of its kind of model, but those
    that are left out.
    """
    names = set(options("attack", kind_typed(words).batches)) - set(left_out_of(words))
    return sorted(names, key=lambda name: (name != "none", name))


def left_out_of(words: Sequence[str]) -> dict[str, str]:
    """Attacks that attack=all leaves out in a command line, and why."""
    kind = kind_typed(words)
    named = [word.removeprefix("forget=") for word in words if word.startswith("forget=")]
    whole = [name for name in named if not names_images(name)]
    by_class = bool(whole) or (kind.track != "classification" and not named)
    known = [word for word in words if word.startswith("model.checkpoint=")]
    original = "method=given" not in words or (known != [] and known[-1] != "model.checkpoint=null")
    return left_out(kind.batches, by_class=by_class, original=original)


def left_out(
    batches: str | tuple[str, ...], *, by_class: bool = True, original: bool = True
) -> dict[str, str]:
    """Attacks that can not be run on what is at hand, and why.

    Args:
        by_class: whether classes are forgotten, and not single images.
        original: whether the original model is there.
    """
    why = {}
    for name in options("attack", batches):
        target = target_of("attack", name)
        if name == "dimra_proxy":
            why[name] = "needs the files of another data set (attack.proxy)"
        elif target.by_class and not by_class:
            why[name] = "needs a forgotten class, and single images are forgotten"
        elif not original and target.needs_original(file_of("attack", name)):
            why[name] = "needs the original model (model.checkpoint=FOLDER)"
    return why


def needs(method: Any) -> set[str]:
    """What a method's hooks say that their training is: `t: "Denoising"`."""
    named = {method.batches} if hasattr(method, "batches") else set()
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
    parts = getattr(annotation, "__args__", (annotation,))
    return " | ".join(getattr(one, "__name__", str(one)) for one in parts)
