"""The configurations of a multirun, for those who plan it."""

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unrelearn.config.composition import composed
from unrelearn.config.explain import explain
from unrelearn.config.schema import Config, plain, to_config
from unrelearn.config.validation import expand, validate
from unrelearn.errors import UsageError
from unrelearn.words import keep_names, unreadable


class Sweep:
    """What `python run.py -m WORDS` would run, as choices.

    axes: key -> its values, as text; of the command line or, where that does not give the key, of
    an experiment's hydra.sweeper.params. fixed: the other words. elsewhere: the runs are for other
    machines than this one.

    Raises:
        UsageError: a word that Hydra cannot read, or a composition that does not hold.
    """

    def __init__(self, words: list[str], *, elsewhere: bool = False):
        self.elsewhere = elsewhere
        self.axes: dict[str, list[str]] = {}
        self.fixed: list[str] = []
        try:
            words = [keep_names(word) for word in words]
            if problems := unreadable(words):
                raise UsageError(problems)
            for word in words:
                key, values = _swept(word)
                if values is None:
                    self.fixed.append(word)
                else:
                    self.axes[key] = values
            given = {word.lstrip("+~").split("=")[0] for word in self.fixed} | set(self.axes)
            whole = composed(self.fixed, whole=True)
            for key, value in (whole.hydra.sweeper.params or {}).items():
                if key not in given:
                    _, values = _swept(keep_names(f"{key}={value}"))
                    self.axes[key] = [str(value)] if values is None else values
        except (HydraException, OmegaConfBaseException) as error:
            raise _explained(error, words) from error

    def words(self, chosen: dict[str, str]) -> list[str]:
        """The command line of one run."""
        return [*self.fixed, *(f"{key}={value}" for key, value in chosen.items())]

    def compose(self, chosen: dict[str, str]) -> tuple[Config, DictConfig]:
        """The validated configuration of one run, and what it was resolved from."""
        return validated(self.words(chosen), elsewhere=self.elsewhere)


def validated(words: list[str], *, elsewhere: bool = False) -> tuple[Config, DictConfig]:
    """The configuration of `python run.py WORDS`, and what it was resolved from.

    Raises:
        UsageError: every problem of it.
    """
    try:
        config = composed(words)
    except Exception as error:
        raise _explained(error, words) from error
    return validate(config, elsewhere=elsewhere, words=words), config


def _swept(word: str) -> tuple[str, list[str] | None]:
    """The key of a choice, and its values as text if it has several."""
    parsed = OverridesParser.create().parse_override(word)
    values = list(parsed.sweep_string_iterator()) if parsed.is_sweep_override() else None
    return parsed.get_key_element(), values


def _explained(error: Exception, words: list[str]) -> Exception:
    problems = explain(error, words)
    return UsageError(problems) if problems else error


def resolved(config: DictConfig, changes: dict[str, Any]) -> Config:
    """A configuration that was validated before, with other values of some keys, and of all that is
    made from them: a hundredth of what composing it anew would take.
    """
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    settings = plain(config)
    expand(settings)
    return to_config(settings)
