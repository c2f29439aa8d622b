"""The runs of a grid, its cells: what was chosen for each, and its configuration."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from unrelearn import progress
from unrelearn.advice import command
from unrelearn.config import Config, Sweep, resolved
from unrelearn.config.schema import Paths
from unrelearn.errors import UsageError
from unrelearn.stages.measure import settle_inception
from unrelearn.words import keep_names

# values of these are put into a configuration that was composed and checked with other ones
PLAIN = ("seed", "forget")
MANY = 100  # runs, of which looking at them is waited for
Choice = tuple[tuple[str, str], ...]  # (key, value as text), for each key that was chosen


class Cells:
    """The runs of one command.

    Args:
        name: the words that were typed, which tell this grid from others.
        fixed: words that all of them have.
        choices: of each run, what it has besides.
    """

    def __init__(self, name: Iterable[str], fixed: Sequence[str], choices: Iterable[Choice]):
        self.name, self.fixed, self.choices = list(name), list(fixed), list(choices)
        self.settle = KnownInception()

    def __len__(self) -> int:
        return len(self.choices)

    def configuration(self, cell: int) -> Config:
        """Validated, as run.py has it."""
        raise NotImplementedError

    def words(self, cell: int) -> list[str]:
        """The command line of one run."""
        return [*self.fixed, *(f"{key}={text}" for key, text in self.choices[cell])]

    def command(self, cell: int) -> str:
        return command(self.words(cell))

    def combination(self, cell: int) -> str:
        """Runs of the same combination cost alike."""
        return " ".join(f"{key}={text}" for key, text in self.choices[cell] if key not in PLAIN)


class Composed(Cells):
    """Runs whose configurations are there.

    Args:
        runs: (its words, its validated configuration).
    """

    def __init__(self, name: Sequence[str], runs: Sequence[tuple[list[str], Config]]):
        pairs = [[word.partition("=")[::2] for word in words] for words, _ in runs]
        super().__init__(name, [], map(tuple, pairs))
        self._runs = runs
        for _, cfg in runs:
            self.settle(cfg)

    def words(self, cell: int) -> list[str]:
        return self._runs[cell][0]

    def configuration(self, cell: int) -> Config:
        return self._runs[cell][1]


class Swept(Cells):
    """The runs of `python run.py -m WORDS`, composed when they are asked for.

    Compositions are checked as run.py checks them: each combination of all choices but seed and
    forgotten class, and each of their values once.

    Args:
        elsewhere: for other machines than this one.
        dry_run: not even the data set need be here.
        reading: only what it consists of is asked, which no number of devices changes.

    Raises:
        UsageError: what does not hold.
    """

    def __init__(
        self,
        words: list[str],
        *,
        elsewhere: bool = False,
        dry_run: bool = False,
        reading: bool = False,
    ):
        more = ["dry_run=true"] * dry_run + ["trainer.devices=1"] * reading
        self.sweep = Sweep([*words, *more], elsewhere=elsewhere or reading)
        axes = self.sweep.axes
        choices = [tuple(chosen.items()) for chosen in product(axes)]
        super().__init__(map(keep_names, words), self.sweep.fixed, choices)
        if len(self) > MANY:
            progress.say(f"looking at {len(self):,} runs: about {len(self) / 4:.0f} seconds")
        self._first = {key: values[0] for key, values in axes.items()}
        self._values = {key: self._read(key) for key in PLAIN if key in axes}
        # of the combinations that are being worked on
        self._composed = lru_cache(maxsize=64)(self._compose)
        if reference := self.configuration(0).reference:
            raise UsageError(
                f"reference={reference}: a grid has no run besides its own. Leave reference"
                " out, or type python run.py -m with the same choices"
            )

    def _read(self, key: str) -> dict[str, Any]:
        """Each value of a plain key as a run would have it, which checks it as well."""
        texts = self.sweep.axes[key]
        chosen = {text: self.sweep.compose({**self._first, key: text})[0] for text in texts}
        return {text: getattr(cfg, key) for text, cfg in chosen.items()}

    def _compose(self, chosen: Choice) -> Any:
        return self.sweep.compose(dict(chosen))[1]

    def configuration(self, cell: int) -> Config:
        chosen = dict(self.choices[cell])
        plain = {key: values[chosen[key]] for key, values in self._values.items()}
        first = {key: self._first[key] if key in plain else chosen[key] for key in chosen}
        cfg = resolved(self._composed(tuple(first.items())), plain)
        self.settle(cfg)
        return cfg


class KnownInception:
    """settle_inception for many configurations: the file is looked for, and its absence said, once
    for all that ask alike.
    """

    def __init__(self, known: dict[str, list[dict]] | None = None):
        """known: of the one who planned, so that all who work on it take the same."""
        self.known = known or {}

    def __call__(self, cfg: Config) -> None:
        asked = json.dumps([cfg.eval, asdict(cfg.paths)])
        if asked not in self.known:
            if not cfg.dry_run:
                settle_inception(cfg)
            self.known[asked] = [cfg.eval, asdict(cfg.paths)]
        cfg.eval, paths = self.known[asked]
        cfg.paths = Paths(**paths)


def product(axes: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Every choice of one value for each key, the plain keys last, so that they change quickest."""
    ordered = sorted(axes, key=lambda key: key in PLAIN)
    for values in itertools.product(*(axes[key] for key in ordered)):
        yield dict(zip(ordered, values, strict=True))
