"""Equal effort for classifiers: of each method's runs of a search, the one nearest to retraining.

python scripts/choose.py outputs/classification-tuning/runs --write

Every method has run the same settings, on seeds and a forget set that are reported nowhere else.
Chosen is the smallest average gap to references of that forget set. All runs are listed in the
file of --out; with --write the choices become presets that are named after its folder, as
+tuned=classification/METHOD.
"""

import shlex
from collections.abc import Iterator, Sequence
from statistics import fmean

from unrelearn import launch
from unrelearn.config.groups import source
from unrelearn.errors import UsageError
from unrelearn.paths import CONF, given
from unrelearn.report.classified import is_classifier, value_of
from unrelearn.report.files import csv_text, write_atomically
from unrelearn.report.groups import differences, fingerprint, gathered
from unrelearn.report.records import Record, collect, newest, row_of
from unrelearn.report.words import forgotten

LISTED = CONF.parent / "docs" / "results" / "classification" / "tuning.csv"
PRESETS = CONF / "tuned"
# what gaps that are compared have in common, besides what is forgotten and the attack
PROBLEM = ("dataset", "model", "precision", "protocol", "references", "augment", "validation")
MEASURED = {
    "gap": ("gap", "value"),
    "floor": ("gap", "floor"),
    "agreement": ("retrain_agreement", "value"),
    "miss_correlation": ("retrain_agreement", "miss_correlation"),
}
HEADER = ("method", "settings", "seed", *MEASURED, "chosen", "command")

Setting = tuple[tuple[str, object], ...]  # key of the method -> value


def check_one_problem(records: Sequence[Record]) -> None:
    """Gaps of different problems can not be compared.

    Raises:
        UsageError: one line, with what sets them apart.
    """
    settings = [
        {**fingerprint(each, PROBLEM), "forget": forgotten(each), "attack": each["attack"]}
        for each in records
    ]
    apart = map(", ".join, differences(settings))
    first = dict(zip(apart, (each["name"] for each in records), strict=True))
    if len(first) > 1:
        (one, name), (other, another), *_ = first.items()
        raise UsageError(
            f"a choice is of one problem, and these runs are of {len(first)}: {name} ({one}) and"
            f" {another} ({other}). Type a folder with the runs of one"
        )


def searched(runs: Sequence[Record]) -> list[str]:
    """The keys of a method in which its runs differ."""
    settings = [record["config"]["method"] for record in runs]
    return [key for key in settings[0] if len({str(each.get(key)) for each in settings}) > 1]


def gap(record: Record) -> float | None:
    """None of a run that diverged."""
    return value_of(row_of(record, "unlearned"), "gap")


def by_setting(runs: Sequence[Record]) -> dict[Setting, list[Record]]:
    """The runs of each setting, one a seed: of what was run twice the newest."""
    keys = searched(runs)

    def setting(record: Record) -> Setting:
        return tuple((key, record["config"]["method"].get(key)) for key in keys)

    same = gathered(runs, lambda record: (setting(record), record["seed"]))
    return gathered(map(newest, same.values()), setting)


def choice(runs: Sequence[Record]) -> Setting | None:
    """The setting with the smallest mean gap, among those that no seed broke."""
    means: dict[Setting, float] = {}
    for setting, same in by_setting(runs).items():
        gaps = [gap(record) for record in same]
        known = [value for value in gaps if value is not None]
        if len(known) == len(gaps):
            means[setting] = fmean(known)
    return min(means, key=lambda setting: (means[setting], str(setting)), default=None)


def listed(runs: Sequence[Record], chosen: Setting | None) -> Iterator[list[object]]:
    """A line a run, the settings in order."""
    for setting, same in sorted(by_setting(runs).items(), key=lambda pair: str(pair[0])):
        for record in same:
            row = row_of(record, "unlearned")
            numbers = [value_of(row, metric, field) for metric, field in MEASURED.values()]
            texts = ["" if number is None else f"{number:.6f}" for number in numbers]
            words = " ".join(f"{key}={value}" for key, value in setting)
            best = "yes" if setting == chosen else ""
            command = [w for w in shlex.split(record["command"]) if not w.startswith("paths.")]
            yield [record["method"], words, record["seed"], *texts, best, shlex.join(command)]


def preset(record: Record, setting: Setting, page: str) -> str:
    """The yaml of what one of a method's runs was given: keys that it shares with others, and its
    own; `page` of docs/results lists the search.
    """
    parts: dict[str, list[str]] = {"unlearning": [], "method": []}
    for key, value in setting:
        group, _, name = source(f"method.{key}", record["config"]).partition(".")
        parts[group].append(f"{name}: {value}")
    lines = [f"{group}: {{{', '.join(words)}}}" for group, words in parts.items() if words]
    return "\n".join(
        [
            "# @package _global_",
            f"# Chosen by scripts/choose.py: docs/results/{page}/tuning.csv",
            "defaults:",
            f"  - override /method: {record['method']}",
            *lines,
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = launch.parser(__doc__)
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    parser.add_argument(
        "--out",
        type=given,
        default=LISTED,
        metavar="FILE",
        help="default: docs/results/classification/tuning.csv",
    )
    parser.add_argument("--write", action="store_true", help="write conf/tuned/FOLDER of --out/")
    options = parser.parse_args(arguments)
    if options.out.is_dir():
        raise UsageError(f"--out {options.out}: is a folder. Type --out {options.out}/tuning.csv")
    records = [record for record in collect(options.results) if is_classifier(record)]
    if not records:
        where = ", ".join(map(str, options.results))
        raise UsageError(f"{where}: no run of a classifier there. Type make results-classification")
    check_one_problem(records)
    rows: list[list[object]] = []
    for method, runs in sorted(gathered(records, lambda record: record["method"]).items()):
        chosen = choice(runs)
        rows += listed(runs, chosen)
        print(method, *(f"{key}={value}" for key, value in chosen or ()))
        if options.write and chosen is not None:
            page = options.out.resolve().parent.name
            write_atomically(PRESETS / page / f"{method}.yaml", preset(runs[0], chosen, page))
    write_atomically(options.out, csv_text(HEADER, rows))
    print(options.out)
    return 0


if __name__ == "__main__":
    launch.script(main)
