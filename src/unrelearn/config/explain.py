"""What is wrong where Hydra or OmegaConf could not compose the configuration, a line each."""

import difflib
import re
from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unrelearn.advice import NAMES, shell, shown, typed
from unrelearn.config.groups import options_with
from unrelearn.config.schema import defaults, leaves
from unrelearn.paths import CONF
from unrelearn.words import read


def explain(error: BaseException, overrides: Sequence[str]) -> list[str] | None:
    """One line for each problem when Hydra or OmegaConf could not compose the configuration; None
    if it is something else.
    """
    text = " ".join(str(error).split())
    if (
        isinstance(error, MissingConfigException)
        and error.missing_cfg_file
        and "/" in error.missing_cfg_file
    ):
        group, option = error.missing_cfg_file.rsplit("/", 1)
        options = sorted(error.options or [])
        close = (
            [
                name for name in options if name.startswith(f"{option}_")
            ]  # presets of what was one, once
            or difflib.get_close_matches(option, options, n=1)
            or options[:1]
            or ["..."]
        )
        return [
            f"{group}={shown(option)}: no such {group}; allowed: {', '.join(options)}. "
            f"Type {' or '.join(f'{group}={name}' for name in close)}"
        ]
    if isinstance(error, OverflowError) and (found := re.search(r"full_key: (\S+)", text)):
        return [
            f"{found[1]}: {text.split(' full_key')[0]}. Type {found[1]}=NUMBER with a smaller one"
        ]
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    if "Ambiguous value" in text and (several := _several(overrides)):
        return several
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    match = re.search(r"Could not override '([^']+)'", text)
    key = match[1].split("@")[0] if match else getattr(cause, "full_key", None) or ""
    key = re.sub(r"\[\d+\].*", "", key)  # of an element, the list that was typed
    given = next((o for o in overrides if key and o.lstrip("+~").split("=")[0] == key), key)
    if match or "not in" in str(cause):
        return [_no_such_key(key, given, overrides)]
    reason = re.split(r" full_key: | To append | Set the env", " ".join(str(cause).split()))[0]
    return [
        f"{shown(given) + ': ' if given else ''}{shown(reason)}. "
        "Type python run.py --cfg job to see what stands there by default"
    ]


def _several(overrides: Sequence[str]) -> list[str]:
    """A line for each choice that has several values without -m: a list, a run each, or one name
    with commas in it.
    """
    lines = []
    for word in overrides:
        key, _, values = word.partition("=")
        if (
            not word.startswith("-")
            and OverridesParser.create().parse_override(word).is_sweep_override()
        ):
            each = f"-m {shell(word)} for a run each"
            is_list = key in ("forget", "eval") or isinstance(
                OmegaConf.select(defaults(), key), ListConfig
            )
            name = f", or {typed({key: values})} if that is one name" if key in NAMES else ""
            advice = (
                f"{shell(f'{key}=[{values}]')} for all in one run, {each}{name}"
                if is_list
                else f"{each}{name}"
            )
            lines.append(f"{shown(word)}: several values, and one run. Type {advice}")
    return lines


def _no_such_key(key: str, given: str, overrides: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    known = _known_keys(
        [word for word in overrides if (CONF / word.lstrip("+").split("=")[0]).is_dir()]
    )
    siblings = sorted(
        {
            k[len(parent) :].lstrip(".").split(".")[0]
            for k in known
            if not parent or k.startswith(f"{parent}.")
        }
        - {"_target_"}
    )
    value = read(given.split("=", 1)[1]) if "=" in given else "..."
    close = difflib.get_close_matches(name, siblings, n=1)
    others = [] if close else options_with(parent, name)
    if others:
        return (
            f"{shown(given)}: the {parent} chosen here has no such key;"
            f" {parent}={', '.join(others)} {'have' if len(others) > 1 else 'has'} it. Type"
            f" {typed({parent: others[0], key: value})}"
        )
    advice = (
        f"Type {typed({f'{parent}.{close[0]}' if parent else close[0]: value})}"
        if close
        else "Type python run.py --cfg job to see their values"
    )
    return (
        f"{shown(given)}: no such key; allowed{' in ' + parent if parent else ''}:"
        f" {', '.join(siblings) or 'none'}. {advice}"
    )


def _known_keys(choices: Sequence[str] = ()) -> list[str]:
    """Every key of the configuration, dotted, with these options of groups or, where they do not
    hold, the default ones.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = hydra_compose("config", overrides=list(choices))
        except (HydraException, OmegaConfBaseException):
            config = hydra_compose("config")
        return [key for key, _ in leaves(OmegaConf.to_container(config))]
