"""What is wrong where Hydra or OmegaConf could not compose the configuration, a line each."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError
from yaml import YAMLError

from unrelearn.advice import NAMES, shell, shown, typed
from unrelearn.config import choices, groups, kinds
from unrelearn.config.composition import composed
from unrelearn.config.schema import Config, defaults, groups_of, leaves
from unrelearn.config.values import known_keys, must_be
from unrelearn.paths import CONF
from unrelearn.words import UNREADABLE, read, unreadable

# what OmegaConf says of a key, and of a dictionary, where a structured node is null
BELOW_NULL = "Unexpected type for root|'NoneType' object has no attribute 'get' full_key"


def explain(error: BaseException, overrides: Sequence[str]) -> list[str] | None:
    """One line for each problem when Hydra or OmegaConf could not compose the configuration; None
    if it is something else.
    """
    if lines := check_choices(overrides):
        return lines
    if isinstance(error, YAMLError | UnicodeDecodeError):
        return [_unreadable(error, overrides)]
    missing = getattr(error, "missing_cfg_file", None) or ""
    if isinstance(error, MissingConfigException) and "/" in missing:
        return [_no_such_option(missing, error.options or [], overrides)]
    text = " ".join(str(error).split())
    if isinstance(error, OverflowError) and (match := re.search(r"full_key: (\S+)", text)):
        return [
            f"{match[1]}: {text.split(' full_key')[0]}. Type {match[1]}=NUMBER with a smaller one"
        ]
    if isinstance(error, AssertionError | AttributeError) and re.search(BELOW_NULL, text):
        return _below_null(overrides) or None
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    # hydra.sweeper.params of a yaml; what was typed has been read before
    unread = [error.override] if isinstance(error, OverrideParseException) else []
    if lines := unreadable(unread):
        return lines
    if "Ambiguous value" in text and (several := _several(overrides)):
        return several
    if "Multiple values for" in text:  # a group that is chosen already
        added = [w for w in overrides if w.startswith("+") and choices.group_in(w)]
        plain = [word.lstrip("+") for word in added]
        twice = [f"{w}: is chosen already, so without the +. Type {w}" for w in plain]
        if twice:
            return twice
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    match = re.search(r"Could not override '([^']+)'", text)
    key = match[1].split("@")[0] if match else getattr(cause, "full_key", None) or ""
    key = re.sub(r"\[\d+\].*", "", key)  # of an element, the list that was typed
    words = [word for word in overrides if key and word.lstrip("+~").split("=")[0] == key]
    refused = [word for word in words if f"Value '{word.partition('=')[2]}'" in str(cause)]
    given = [key, *words, *refused][-1]  # of a key that is typed twice, the one that is wrong
    if match or "not in" in str(cause):
        return [_no_such_key(key, given, overrides)]
    if line := _wrong_type(key, given, cause):
        return [line]
    reason = re.split(r" full_key: | To append | Set the env", " ".join(str(cause).split()))[0]
    return [
        f"{shown(given) + ': ' if given else ''}{shown(reason)}. "
        f"Type python run.py --cfg {_part(key)} to see what stands there by default"
    ]


def check_choices(words: Sequence[str]) -> list[str]:
    """As `choices.check_choices`, with the options that fit the kind of model."""
    return choices.check_choices(words, lambda g: _fitting(g, choices.options_of(g), words))


def _part(key: str) -> str:
    """Which of Hydra's two printed parts has the key."""
    return "hydra" if key.startswith("hydra.") else "job"


def _unreadable(error: YAMLError | UnicodeDecodeError, overrides: Sequence[str]) -> str:
    """Of a yaml that is none: the file, the line, and the choice that asked for it."""
    mark = getattr(error, "problem_mark", None)
    file = mark.name if mark else getattr(error, "name", None) or _undecodable(overrides)
    what = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
    line = f", line {mark.line + 1}" if mark else ""
    why = f"{groups.place(file) if file else 'a yaml'}{line}: {what}"
    if not file or not Path(file).is_relative_to(CONF) or Path(file).parent == CONF:
        return f"{shown(why)}. Mend that file, or choose another option"
    path = Path(file).relative_to(CONF).with_suffix("").as_posix()
    group, word, _ = _typed(path, overrides)
    other = choices.another(group, path.removeprefix(f"{group}/"))
    return f"{shown(f'{word}: {why}')}. Mend that file, or type {group}={other}"


def _typed(path: str, overrides: Sequence[str]) -> tuple[str, str, list[str]]:
    """Of an option, experiment/grid/digits: its group, the word without + that chose it, and all
    that this word chooses.
    """
    for word in overrides:
        group = choices.group_in(word)
        names = [str(name) for name in choices.names_in(word)] if group else []
        if group and any(f"{group}/{name}" == path for name in names):
            return group, word.lstrip("+"), names
    group, _, option = path.rpartition("/")
    return group, f"{group}={option}", [option]


def _undecodable(overrides: Sequence[str]) -> Path | None:
    """The first file that was chosen and can not be read; an error of letters does not name it."""
    for word in overrides:
        group = choices.group_in(word)
        for name in choices.names_in(word) if group else []:
            file = CONF / str(group) / f"{name}.yaml"
            if file.exists() and not choices.readable(str(group), str(name)):
                return file
    return None


def _no_such_option(missing: str, known: Sequence[str], overrides: Sequence[str]) -> str:
    group, word, names = _typed(missing, overrides)
    if missing == "hydra/launcher/slurm_local":
        local = "python scripts/grid.py run --workers 4"
        return f"{word}: there are no jobs without Slurm. Type {local} with the same choices"
    options = _fitting(group, sorted({*known, *choices.options_of(group)}), overrides)
    unknown = [name for name in names if name not in options]
    which = f": {', '.join(map(shown, unknown))}" if len(names) > 1 else ""
    instead = [[name] if name in options else _close(name, options) for name in names]
    key = f"+{group}" if f"+{word}" in overrides else group
    if word.partition("=")[2].startswith("["):
        advice = typed({key: [each[0] for each in instead]})
    elif len(names) > 1:
        advice = f"{key}={','.join(each[0] for each in instead)}"
    else:
        advice = " or ".join(f"{key}={name}" for name in instead[0])
    return f"{shown(word)}: no such {group}{which}; allowed: {', '.join(options)}. Type {advice}"


def _fitting(group: str, options: list[str], overrides: Sequence[str]) -> list[str]:
    """Without the methods and attacks of conf/ that are for another kind of model."""
    if group not in ("method", "attack"):
        return options
    fitting = {*kinds.options(group, kinds.kind_typed(overrides).batches)}
    others = {*choices.options_of(group)} - fitting
    return [option for option in options if option not in others]


def _close(option: str, options: Sequence[str]) -> list[str]:
    """What may be meant by an option that there is not."""
    presets = [name for name in options if name.startswith(f"{option}_")]  # of what was one, once
    close = presets or difflib.get_close_matches(option, options, n=1)
    return close or list(options[:1]) or ["..."]


def _wrong_type(key: str, given: str, cause: BaseException) -> str | None:
    """The line of a value that the schema does not take; None if that is not what is wrong."""
    if not isinstance(cause, ValidationError) or isinstance(cause, InterpolationResolutionError):
        return None
    told = re.search(r"Value '(.*?)'", str(cause))  # where a yaml gave it
    given = given if "=" in given or not told else f"{key}={told[1]}"
    if key in groups_of(Config):
        return f"{shown(given)}: must be a group of keys. Type python run.py --cfg job to see them"
    if key not in known_keys():
        return None
    value = read(given.partition("=")[2]) if "=" in given else UNREADABLE
    return f"{shown(given)}: {must_be(key, value)}"


def _several(overrides: Sequence[str]) -> list[str]:
    """A line for each choice that has several values without -m: a list, a run each, or one name
    with commas in it.
    """
    lines = []
    for word in overrides:
        key, _, values = word.partition("=")
        if word.startswith("-"):
            continue
        if OverridesParser.create().parse_override(word).is_sweep_override():
            advice = f"-m {shell(word)} for a run each"
            default = OmegaConf.select(defaults(), key)
            if key in ("forget", "eval") or isinstance(default, ListConfig):
                advice = f"{shell(f'{key}=[{values}]')} for all in one run, {advice}"
            if key in NAMES:
                advice += f", or {typed({key: values})} if that is one name"
            lines.append(f"{shown(word)}: several values, and one run. Type {advice}")
    return lines


def _no_such_key(key: str, given: str, overrides: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    chosen = [word for word in overrides if (CONF / word.lstrip("+").split("=")[0]).is_dir()]
    below = [k for k in _known_keys(chosen, parent) if not parent or k.startswith(f"{parent}.")]
    siblings = sorted({k[len(parent) :].lstrip(".").split(".")[0] for k in below} - {"_target_"})
    value = read(given.split("=", 1)[1]) if "=" in given else "..."
    if (CONF / key).is_dir():  # tuned, settings
        return f"{shown(given)}: is of no run unless it is added. Type {shell(f'+{given}')}"
    tops = sorted({one.partition(".")[0] for one in known_keys()})
    likely = difflib.get_close_matches(parent, tops, n=1)
    if likely and parent not in {*tops, ""} and not siblings:
        instead = typed({f"{likely[0]}.{name}": value})
        return f"{shown(given)}: there is no {parent}. Type {instead}"
    close = difflib.get_close_matches(name, siblings, n=1)
    others = [] if close else groups.options_with(parent, name)
    if others:
        return (
            f"{shown(given)}: the {parent} chosen here has no such key;"
            f" {parent}={', '.join(others)} {'have' if len(others) > 1 else 'has'} it. Type"
            f" {typed({parent: others[0], key: value})}"
        )
    advice = f"Type python run.py --cfg {_part(key)} to see their values"
    if close:
        advice = f"Type {typed({f'{parent}.{close[0]}' if parent else close[0]: value})}"
    return (
        f"{shown(given)}: no such key; allowed{' in ' + parent if parent else ''}:"
        f" {', '.join(siblings) or 'none'}. {advice}"
    )


def _below_null(overrides: Sequence[str]) -> list[str]:
    """A line for each key that lies in what the other choices have made null, as a classifier has
    no model.unet.
    """
    chosen = [word for word in overrides if choices.group_in(word) or word.endswith("=null")]
    above = _known_keys(chosen)
    lines = []
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        keys = f"{key}." if "={" in word else key  # a dictionary is the keys below it
        for none in [name for name in above if keys.startswith(f"{name}.")]:
            why = f"{none} is null with what is chosen here"
            group, name = none.rpartition(".")[2], keys.removeprefix(f"{none}.").split(".")[0]
            having = groups.options_with(group, name)  # audit=published, of gan.audit.replicas
            leave = f"Type {group}={having[0]}, or leave" if having else "Leave"
            lines.append(f"{shown(word.lstrip('+'))}: {why}. {leave} {key} out")
    return lines


def _known_keys(chosen: Sequence[str] = (), parent: str = "") -> list[str]:
    """Every key of the configuration, dotted, with these options of groups or, where they do not
    hold, the default ones; Hydra's where the parent is one of these.
    """
    whole = parent.startswith("hydra")
    try:
        config = composed(chosen, whole=whole)
    except (HydraException, OmegaConfBaseException, YAMLError):
        config = composed(whole=whole)
    return [key for key, _ in leaves(OmegaConf.to_container(config))]
