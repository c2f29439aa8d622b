"""The groups that are plain yaml: what they name, against its signature."""

from typing import Any

from hydra.utils import get_object

from unrelearn import arguments
from unrelearn.advice import shown
from unrelearn.config.schema import file_of
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
}


def constructor_arguments(group: dict[str, Any]) -> dict[str, Any]:
    """A method's or attack's yaml as its constructor takes it: without the name of a preset, which
    only results show.
    """
    return {key: value for key, value in group.items() if key != "preset"}


def name_of(group: dict[str, Any]) -> str:
    """Under which a choice stands in every result: that of its file of code, or of a preset."""
    return group.get("preset") or group["_target_"].split(".")[-2]


def needs_inception(name: str, measurement: dict[str, Any]) -> bool:
    """Whether eval.<name> reads features of the Inception network."""
    return name in ("fid", "kid", "inception_score") or measurement.get("features") == "inception"


def check_groups(settings: dict[str, Any]) -> list[str]:
    """Problems of the groups, against the signatures of what they name."""
    problems = []
    for key in ("method", "attack", "dataset"):
        problems += _check(key, settings[key], key)
    for name, part in settings["attack"].items():
        if isinstance(part, dict) and "_target_" in part:
            problems += _check(f"attack.{name}", part, "proxy")
    for name, measurement in settings["eval"].items():
        problems += _check(f"eval.{name}", measurement, "eval")
    return problems


def _check(key: str, group: object, kind: str) -> list[str]:
    name = group.get("_target_") if isinstance(group, dict) else None
    try:
        target = _target(name, OFFERS.get("dataset" if kind == "proxy" else kind, ()))
    except Exception as error:  # Hydra wraps whatever the import of such a name raises
        why, named = shown(" ".join(str(error).split())[:100]), f"{key}._target_"
        return [f"{named}={shown(name)}: no such thing ({why}). Type {named}={EXAMPLES[kind]}"]
    assert isinstance(group, dict)  # as it has a _target_
    injected = "evidence" if kind == "eval" else ""
    given = constructor_arguments(group)
    return arguments.check_arguments(key, target, given, injected, options_with)


def _target(name: object, offers: tuple[str, ...]) -> Any:
    """The class or function of a dotted name, which must have what is asked of it."""
    if not isinstance(name, str):
        raise TypeError("must be the dotted name of a class or function")
    target = get_object(name)
    if not callable(target) or not all(hasattr(target, what) for what in offers):
        asked = f"class with {', '.join(offers)}" if offers else "class or function"
        raise TypeError(f"must be a {asked}")
    arguments.parameters(target)
    return target


def options_with(group: str, name: str) -> list[str]:
    """The options of a group in which a key stands, first those that can not do without it."""
    files = sorted((CONF / group).glob("*.yaml")) if group else []
    options = {path.stem: file_of(group, path.stem) for path in files}
    having = [option for option, keys in options.items() if name in keys]
    return sorted(having, key=lambda option: options[option][name] != "???")
