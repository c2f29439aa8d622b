"""What one setting does, paired: each unlearned classifier against the one that differs in nothing
else, seed by seed.

    python scripts/paired.py outputs/runs --by method.margin --against zero
    python scripts/paired.py outputs/runs --by augment.retain --against none --metric gap,auc
    python scripts/paired.py outputs/runs --by method --against random_mask

A row is a value of the setting in one combination of all other settings; the first is the one that
the others are compared with. Of each metric: the mean over seeds, the mean difference with its 95 %
t-interval over seeds, and what retrained models get (of the gap their floor, of agreement and miss
correlation their ceiling). Differences whose interval leaves out 0 are marked *; nothing is
corrected for the number of rows. Methods are compared at equal steps, batch and learning rate.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from unrelearn import launch
from unrelearn.errors import UsageError
from unrelearn.launch import complain
from unrelearn.paths import given
from unrelearn.report.classified import COLUMNS, BoardColumn, is_classifier, retrained, value_of
from unrelearn.report.files import write_atomically
from unrelearn.report.groups import LATER, differences, gathered
from unrelearn.report.pivot import ABSENT, setting
from unrelearn.report.records import Record, collect, row_of
from unrelearn.report.render import markdown_table
from unrelearn.report.stats import t_interval
from unrelearn.report.words import DASH, labelled, plain

SECTIONS = (  # noqa: SIM905
    "dataset model precision forget forget_seed method augment references protocol validation"
).split()
COLUMN = {column.name: column for column in COLUMNS}
DEFAULT = "gap,agreement,miss_correlation"
# between two methods: what both must have in common, as far as they have it
EFFORT = ("method.batch_size", "method.learning_rate", "method.max_steps")


def text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def chosen(record: Record, key: str) -> str:
    return record["method"] if key == "method" else text(setting(record, key))


def others(record: Record, key: str) -> dict[str, str]:
    """All settings of a run but this one and the seed: key -> value as JSON."""
    flat = {name: value for name, value in LATER.items() if name.partition(".")[0] in SECTIONS}

    def same(name: str) -> bool:
        of_method = key == "method" and name.startswith("method.")
        return name in EFFORT if of_method else name != key

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for part, inner in value.items():
                walk(f"{name}.{part}" if name else part, inner)
        elif same(name):
            flat[name] = json.dumps(value)

    walk("", {section: record["config"].get(section) for section in SECTIONS})
    return flat


def differing(records: Sequence[Record]) -> str:
    """What runs could be compared by, for who asked for something else."""
    flat = [others(record, "") for record in records]
    keys = sorted({key for each in flat for key in each})
    apart = [key for key in keys if len({each.get(key) for each in flat}) > 1]
    return f"one of --by {', '.join(['method', *apart])}" if records else "a folder of runs"


def lines(
    records: Sequence[Record], key: str, against: str, columns: Sequence[BoardColumn]
) -> list[list[str]]:
    """Rows of each method and combination of the other settings in which there are partners."""
    of_methods = gathered(records, lambda r: None if key == "method" else r["method"])
    rows = [row for same in of_methods.values() for row in _of_method(same, key, against, columns)]
    return sorted(rows, key=lambda row: row[0])


def _of_method(
    records: Sequence[Record], key: str, against: str, columns: Sequence[BoardColumn]
) -> Iterator[list[str]]:
    named = [(record, others(record, key)) for record in records]
    by_settings = gathered(named, lambda pair: json.dumps(pair[1], sort_keys=True))
    notes = differences([same[0][1] for same in by_settings.values()])
    for note, same in zip(notes, by_settings.values(), strict=True):
        name = "methods" if key == "method" else records[0]["method"]
        apart = labelled(name, ", ".join(note).replace('"', ""))
        by_value = gathered((record for record, _ in same), lambda r: chosen(r, key))
        partners = by_seed(by_value.pop(against, []))
        pairs = {value: by_seed(members) for value, members in sorted(by_value.items())}
        pairs = {value: ours for value, ours in pairs.items() if ours.keys() & partners.keys()}
        for value, ours in {against: partners, **pairs}.items() if pairs else ():
            yield [apart, value, *line(ours, partners, columns)]


def by_seed(records: Sequence[Record]) -> dict[int, Record]:
    """One run of each seed: of several attacks, before which one model was measured, any.

    Raises:
        UsageError: two of them have other numbers.
    """
    runs: dict[int, Record] = {}
    for record in records:
        one = runs.setdefault(record["seed"], record)
        if value(one, COLUMN["gap"]) != value(record, COLUMN["gap"]):
            names = f"{one['name']} and {record['name']}"
            raise UsageError(
                f"{names}: one setting and seed, and other numbers. Type the runs of one attack"
            )
    return runs


def line(
    ours: dict[int, Record], theirs: dict[int, Record], columns: Sequence[BoardColumn]
) -> list[str]:
    """Of each column the mean, the difference, what retrained models get; and the seeds."""
    seeds = sorted(ours.keys() & theirs.keys())
    cells = []
    for column in columns:
        known = [(value(ours[seed], column), value(theirs[seed], column)) for seed in seeds]
        pairs = [(one, other) for one, other in known if one is not None and other is not None]
        bounds = [retrained(ours[seed])[column.name] for seed in seeds]
        cells += [
            mean([one for one, _ in pairs], column),
            DASH if ours is theirs else difference(pairs, column, len(seeds)),
            mean([bound for bound in bounds if bound is not None], column),
        ]
    return [*cells, str(len(seeds))]


def value(record: Record, column: BoardColumn) -> float | None:
    """None of a model that diverged."""
    return value_of(row_of(record, "unlearned"), column.metric, column.field)


def mean(values: Sequence[float], column: BoardColumn) -> str:
    return plain(fmean(values) if values else None, column.factor, column.digits)


def difference(pairs: Sequence[tuple[float, float]], column: BoardColumn, n: int) -> str:
    """``+3.0 [0.5, 5.5]*``, with ``(n=2)`` where others of the n seeds have no number."""
    if not pairs:
        return DASH
    apart = [column.factor * (ours - theirs) for ours, theirs in pairs]
    words = f"{fmean(apart):+.{column.digits}f}"
    if len(apart) > 1:
        low, high = t_interval(apart)
        words += f" [{low:.{column.digits}f}, {high:.{column.digits}f}]"
        words += "*" if low > 0 or high < 0 else ""
    return words + (f" (n={len(apart)})" if len(apart) < n else "")


def columns_of(words: str) -> list[BoardColumn]:
    names = words.split(",")
    if unknown := [name for name in names if name not in COLUMN]:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]}: must be of {', '.join(COLUMN)}. Type --metric {DEFAULT}"
        )
    return [COLUMN[name] for name in names]


def main(arguments: list[str] | None = None) -> int:
    parser = launch.parser(__doc__)
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    parser.add_argument("--by", required=True, metavar="KEY")
    parser.add_argument("--against", required=True, metavar="VALUE")
    parser.add_argument("--metric", type=columns_of, default=DEFAULT, help=", ".join(COLUMN))
    parser.add_argument("--out", type=given, metavar="FILE", help="a .md; else it is printed")
    options = parser.parse_args(arguments)
    if options.by == "seed":
        return complain(["--by seed: runs are paired by their seeds. Type --by method"])
    logging.basicConfig(format="%(levelname)s: %(message)s")
    every = [record for record in collect(options.results) if is_classifier(record)]
    records = every
    if options.by != "method":
        records = [record for record in every if setting(record, options.by) is not ABSENT]
    if not records:
        where = ", ".join(map(str, options.results))
        wrong = f"--by {options.by}: no run of a classifier in {where} has this setting"
        return complain([f"{wrong}. Type {differing(every)}"])
    known = sorted({chosen(record, options.by) for record in records})
    if options.against not in known:
        wrong = f"--against {options.against}: no run has this {options.by}"
        return complain([f"{wrong}; there are {', '.join(known)}. Type --against {known[0]}"])
    rows = lines(records, options.by, options.against, options.metric)
    if not rows:
        return complain([f"--by {options.by}: no two runs differ in it and in nothing else"])
    headers = ["of", options.by]
    for column in options.metric:
        headers += [column.header, "difference", "retrained"]
    headers.append("seeds")
    table = markdown_table(headers, rows, left=2)
    if options.out is None:
        print(table)
        return 0
    try:
        write_atomically(options.out, table + "\n")
    except OSError as error:
        return complain([str(error)])
    return 0


if __name__ == "__main__":
    launch.script(main)
