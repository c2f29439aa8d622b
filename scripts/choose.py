"""Equal effort for classifiers: of each method's runs of a search, the one nearest to retraining.

python scripts/choose.py outputs/classification-tuning/runs --write

Every method has run the same settings, on seeds and a forget set that are reported nowhere else.
Chosen is the smallest average gap to references of that forget set. All runs are listed in
docs/results/classification/tuning.csv; with --write the choices become presets,
+tuned=classification/METHOD.
"""

import argparse
import sys
from collections.abc import Sequence
from statistics import fmean

from unrelearn import launch
from unrelearn.errors import UsageError
from unrelearn.paths import CONF, given
from unrelearn.report.classified import is_classifier, value_of
from unrelearn.report.files import csv_text, write_atomically
from unrelearn.report.groups import gathered
from unrelearn.report.records import Record, collect, row_of

LISTED = CONF.parent / "docs" / "results" / "classification" / "tuning.csv"
PRESETS = CONF / "tuned" / "classification"
SEARCHED = ("learning_rate", "max_steps")
HEADER = ("method", *SEARCHED, "seed", "gap", "floor", "agreement", "chosen", "command")


def setting(record: Record) -> tuple[float, ...]:
    return tuple(record["config"]["method"][name] for name in SEARCHED)


def gap(record: Record) -> float | None:
    """None of a run that diverged."""
    return value_of(row_of(record, "unlearned"), "gap")


def choices(records: Sequence[Record]) -> dict[str, tuple[float, ...]]:
    """Of each method the setting with the smallest mean gap, among those that no seed broke."""
    chosen = {}
    for method, runs in gathered(records, lambda record: record["method"]).items():
        means = {}
        for each, same in gathered(runs, setting).items():
            gaps = [gap(record) for record in same]
            known = [value for value in gaps if value is not None]
            if len(known) == len(gaps):
                means[each] = fmean(known)
        if means:
            chosen[method] = min(means, key=lambda each: (means[each], each))
    return chosen


def listed(records: Sequence[Record], chosen: dict[str, tuple[float, ...]]) -> str:
    rows = []
    for record in sorted(records, key=lambda r: (r["method"], setting(r), r["seed"])):
        row = row_of(record, "unlearned")
        numbers = [
            value_of(row, metric, field)
            for metric, field in (
                ("gap", "value"),
                ("gap", "floor"),
                ("retrain_agreement", "value"),
            )
        ]
        texts = ["" if number is None else f"{number:.6f}" for number in numbers]
        best = "yes" if chosen.get(record["method"]) == setting(record) else ""
        start = [record["method"], *setting(record), record["seed"]]
        rows.append([*start, *texts, best, record["command"]])
    return csv_text(HEADER, rows)


def preset(method: str, values: tuple[float, ...]) -> str:
    numbers = ", ".join(f"{name}: {value}" for name, value in zip(SEARCHED, values, strict=True))
    return (
        f"# @package _global_\n# Chosen by scripts/choose.py: see docs/results/classification.md.\n"
        f"defaults:\n  - override /method: {method}\nunlearning: {{{numbers}}}\n"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    parser.add_argument("--out", type=given, default=LISTED, metavar="FILE", help=str(LISTED.name))
    parser.add_argument("--write", action="store_true", help="write conf/tuned/classification/")
    options = parser.parse_args(arguments)
    records = [record for record in collect(options.results) if is_classifier(record)]
    if not records:
        where = ", ".join(map(str, options.results))
        raise UsageError(f"{where}: no run of a classifier there. Type make results-classification")
    chosen = choices(records)
    write_atomically(options.out, listed(records, chosen))
    print(options.out)
    for method, values in sorted(chosen.items()):
        print(method, *(f"{n}={v}" for n, v in zip(SEARCHED, values, strict=True)))
        if options.write:
            write_atomically(PRESETS / f"{method}.yaml", preset(method, values))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        sys.exit(launch.complain(error.problems))
    except OSError as error:
        sys.exit(launch.complain(launch.storage_problems(error) or [str(error)]))
