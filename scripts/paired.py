"""What one setting does, paired: each unlearned classifier against the one that differs in nothing
else, seed by seed.

    python scripts/paired.py outputs/runs --by method.margin --against zero
    python scripts/paired.py outputs/runs --by augment.retain --against none --metric gap

A row is a value of the setting in one combination of all other settings: the mean, that of its
partners, and the mean difference with its 95 % t-interval over seeds. Differences whose interval
leaves out 0 are marked *; nothing is corrected for the number of rows.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from unrelearn.launch import complain
from unrelearn.paths import given
from unrelearn.report.classified import is_classifier, value_of
from unrelearn.report.files import write_atomically
from unrelearn.report.groups import gathered
from unrelearn.report.pivot import ABSENT, setting
from unrelearn.report.records import Record, collect, row_of
from unrelearn.report.render import markdown_table
from unrelearn.report.stats import t_interval

SECTIONS = ("dataset", "model", "forget", "method", "augment", "references", "protocol")


def text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def others(record: Record, key: str) -> dict[str, str]:
    """All settings of a run but this one and the seed: key -> value as JSON."""
    flat: dict[str, str] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for part, inner in value.items():
                walk(f"{name}.{part}" if name else part, inner)
        elif name != key:
            flat[name] = json.dumps(value)

    walk("", {section: record["config"].get(section) for section in SECTIONS})
    return flat


def lines(records: Sequence[Record], key: str, against: str, metric: str) -> list[list[str]]:
    """A row for each value of the setting and each combination of the others."""
    named = [(record, others(record, key)) for record in records]
    alike = gathered(named, lambda pair: json.dumps(pair[1], sort_keys=True))
    first = next(iter(alike.values()))[0][1]
    unlike = [k for k in first if len({settings.get(k) for _, settings in named}) > 1]
    rows = []
    for same in alike.values():
        apart = ", ".join(f"{k}={json.loads(same[0][1].get(k, 'null'))}" for k in unlike)
        by_value = gathered((record for record, _ in same), lambda r: text(setting(r, key)))
        partners = values(by_value.pop(against, []), metric)
        for value, members in by_value.items():
            if row := line(values(members, metric), partners):
                rows.append([apart, value, *row])
    return sorted(rows)


def values(records: Sequence[Record], metric: str) -> dict[int, float]:
    """By seed, of the unlearned models that did not diverge."""
    found = {record["seed"]: value_of(row_of(record, "unlearned"), metric) for record in records}
    return {seed: value for seed, value in found.items() if value is not None}


def line(ours: dict[int, float], theirs: dict[int, float]) -> list[str] | None:
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    apart = [100 * (ours[seed] - theirs[seed]) for seed in seeds]
    mean = f"{fmean(apart):+.1f}"
    if len(seeds) > 1:
        low, high = t_interval(apart)
        mean += f" [{low:.1f}, {high:.1f}]" + ("\\*" if low > 0 or high < 0 else "")
    means = [f"{100 * fmean(each[seed] for seed in seeds):.1f}" for each in (ours, theirs)]
    return [*means, mean, str(len(seeds))]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    parser.add_argument("--by", required=True, metavar="KEY")
    parser.add_argument("--against", required=True, metavar="VALUE")
    parser.add_argument("--metric", default="retrain_agreement", help="gap, forget_accuracy, ...")
    parser.add_argument("--out", type=given, metavar="FILE", help="a .md; else it is printed")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    records = [record for record in collect(options.results) if is_classifier(record)]
    records = [record for record in records if setting(record, options.by) is not ABSENT]
    if not records:
        return complain([f"--by {options.by}: no run of a classifier there has this setting"])
    known = sorted({text(setting(record, options.by)) for record in records})
    if options.against not in known:
        wrong = f"--against {options.against}: no run has this {options.by}"
        return complain([f"{wrong}; there are {', '.join(known)}. Type --against {known[0]}"])
    rows = lines(records, options.by, options.against, options.metric)
    if not rows:
        return complain([f"--by {options.by}: no two runs differ in it and in nothing else"])
    headers = ["of", options.by, f"{options.metric} %", options.against, "difference", "seeds"]
    table = markdown_table(headers, rows)
    if options.out is None:
        print(table)
        return 0
    try:
        write_atomically(options.out, table + "\n")
    except OSError as error:
        return complain([str(error)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
