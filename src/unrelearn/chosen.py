"""What scripts that choose settings of equal effort share: the runs of a search, setting by
setting, and the best of them.
"""

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from unrelearn import launch
from unrelearn.advice import shell
from unrelearn.errors import UsageError
from unrelearn.paths import CONF, given
from unrelearn.report.groups import differences, gathered
from unrelearn.report.records import Record, collect, newest

PRESETS = CONF / "tuned"

Setting = tuple[tuple[str, object], ...]  # key -> value


def options(arguments: list[str] | None, about: str | None, out: Path) -> argparse.Namespace:
    """results, out and write, of a command line. out: the default.

    Raises:
        UsageError: --out is a folder.
    """
    parser = launch.parser(about)
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    shown = out.relative_to(CONF.parent)
    parser.add_argument("--out", type=given, default=out, metavar="FILE", help=f"default: {shown}")
    parser.add_argument("--write", action="store_true", help="write conf/tuned/FOLDER of --out/")
    read = parser.parse_args(arguments)
    if read.out.is_dir():
        instead = shell(str(read.out / "tuning.csv"))
        raise UsageError(f"--out {read.out}: is a folder. Type --out {instead}")
    return read


def records_of(
    results: Sequence[Path], wanted: Callable[[Record], bool], missing: str
) -> list[Record]:
    """missing: what there is none of, and what to type."""
    records = [record for record in collect(results) if wanted(record)]
    if not records:
        raise UsageError(f"{', '.join(map(str, results))}: {missing}")
    return records


def check_one_problem(
    records: Sequence[Record], problem: Callable[[Record], dict[str, str]]
) -> None:
    """Numbers of different problems can not be compared.

    Raises:
        UsageError: one line, with what sets them apart.
    """
    apart = map(", ".join, differences([problem(record) for record in records]))
    first = dict(zip(apart, (record["name"] for record in records), strict=True))
    if len(first) > 1:
        (one, name), (other, another), *_ = first.items()
        raise UsageError(
            f"a choice is of one problem, and these runs are of {len(first)}: {name} ({one}) and"
            f" {another} ({other}). Type a folder with the runs of one"
        )


def by_setting(
    runs: Sequence[Record], setting: Callable[[Record], Setting]
) -> dict[Setting, list[Record]]:
    """The runs of each setting, one a seed: of what was run twice the newest. In order."""
    same = gathered(runs, lambda record: (setting(record), record["seed"]))
    trials = gathered(map(newest, same.values()), setting)
    return dict(sorted(trials.items(), key=lambda pair: str(pair[0])))


def choice(
    trials: dict[Setting, list[Record]], value: Callable[[Record], float | None]
) -> Setting | None:
    """The setting with the smallest mean, among those that no seed broke.

    value: None of a run that diverged.
    """
    means: dict[Setting, float] = {}
    for setting, same in trials.items():
        values = [value(record) for record in same]
        known = [one for one in values if one is not None]
        if len(known) == len(values):
            means[setting] = fmean(known)
    return min(means, key=lambda setting: (means[setting], str(setting)), default=None)


def words(setting: Setting) -> str:
    return " ".join(f"{key}={value}" for key, value in setting)


def command(record: Record) -> str:
    """Without where its results went."""
    typed = shlex.split(record["command"])
    return shlex.join(word for word in typed if not word.startswith("paths."))
