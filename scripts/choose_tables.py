"""Equal effort for federated generators: of each design's settings the one nearest to real rows.

python scripts/choose_tables.py outputs/vflgan-tuning/runs --write

Every design has run the same rates and penalty weights, on seeds that are reported nowhere else.
Chosen is the smallest mean Frechet distance of the columns (fd_raw), never the dependence between
parties, which is what the tables are about. All trials are listed in the file of --out; with
--write the choices become a preset that is named after its folder and the data set, as
+tuned=vflgan/digits_halves.
"""

from collections.abc import Iterator
from functools import partial

from unrelearn import chosen, launch
from unrelearn.chosen import PRESETS, Setting, by_setting
from unrelearn.errors import UsageError
from unrelearn.paths import CONF
from unrelearn.report.files import csv_text, write_atomically
from unrelearn.report.groups import fingerprint
from unrelearn.report.published import is_published, value_of
from unrelearn.report.records import Record, Row, number

LISTED = CONF.parent / "docs" / "results" / "vflgan" / "tuning.csv"
SEARCHED = {"learning_rate": "model.pretrain", "penalty_weight": "model.gan"}
PROBLEM = ("dataset", "model", "precision", "gan")  # what distances that are compared share
HEADER = ("design", "settings", "seed", "fd_raw", "sd", "diverged", "chosen", "command")
MISSING = "no run of federated generators there. Type make results-vflgan"


def problem(record: Record) -> dict[str, str]:
    searched = [f"{group}.{key}" for key, group in SEARCHED.items()]
    searched += [f"gan.design.{name}.{k}" for name in designs_of(record) for k in SEARCHED]
    settings = fingerprint(record, PROBLEM)
    return {key: value for key, value in settings.items() if key not in searched}


def designs_of(record: Record) -> list[str]:
    return list(record["config"]["gan"]["design"])


def setting(record: Record, design: str) -> Setting:
    """What the design was trained with: its own settings, or those of the model."""
    model, own = record["config"]["model"], record["config"]["gan"]["design"][design]
    shared = {key: model[group.partition(".")[2]][key] for key, group in SEARCHED.items()}
    return tuple(
        (key, value if own.get(key) is None else own[key]) for key, value in shared.items()
    )


def searches(records: list[Record]) -> dict[str, dict[Setting, list[Record]]]:
    """The trials of each design.

    Raises:
        UsageError: one was tried with settings that another was not.
    """
    trials = {
        design: by_setting(records, partial(setting, design=design))
        for design in designs_of(records[0])
    }
    first, known = next(iter(trials.items()))
    for design, others in trials.items():
        if odd := sorted(map(chosen.words, known.keys() ^ others.keys())):
            raise UsageError(
                f"{odd[0]}: only one of {first} and {design} was tried with it, which is no equal"
                " effort. Type a folder with one search of model.pretrain.learning_rate and"
                " model.gan.penalty_weight"
            )
    return trials


def row_of(record: Record, design: str) -> Row:
    """Of the design without privacy.

    Raises:
        UsageError: there is none.
    """
    for row in record["rows"]:
        if row["model"] == design:
            return row
    raise UsageError(f"{record['name']}: has no {design} without privacy. Type privacy=[none]")


def distance(record: Record, design: str) -> float | None:
    """Mean over replicas; None where one diverged."""
    row = row_of(record, design)
    return None if row["diverged"] else number(value_of(row, "fd_raw"))


def listed(
    design: str, trials: dict[Setting, list[Record]], best: Setting | None
) -> Iterator[list[object]]:
    """A line a run, the settings in order."""
    for given, same in trials.items():
        for record in same:
            row = row_of(record, design)
            numbers = [number(value_of(row, "fd_raw"), field) for field in ("value", "sd")]
            texts = ["" if one is None else f"{one:.6f}" for one in numbers]
            about = [design, chosen.words(given), record["seed"], *texts, row["diverged"]]
            yield [*about, "yes" if given == best else "", chosen.command(record)]


def preset(choices: dict[str, Setting], where: str) -> str:
    """The yaml of what was chosen for each design. where: the file that lists the search."""
    lines = ["# @package _global_", f"# Chosen by scripts/choose_tables.py: {where}"]
    lines += ["gan:", "  design:"]
    for design, best in choices.items():
        lines.append(f"    {design}: {{{', '.join(f'{key}: {value}' for key, value in best)}}}")
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    options = chosen.options(arguments, __doc__, LISTED)
    records = chosen.records_of(options.results, is_published, MISSING)
    chosen.check_one_problem(records, problem)
    for record in records:
        if "fd_raw" not in record["config"]["eval"]:
            raise UsageError(f"{record['name']}: fd_raw was not measured. Type eval=[fd_raw]")
    rows: list[list[object]] = []
    choices: dict[str, Setting] = {}
    for design, trials in searches(records).items():
        best = chosen.choice(trials, partial(distance, design=design))
        rows += listed(design, trials, best)
        print(design, chosen.words(best or ()) or "broken by every setting")
        choices |= {} if best is None else {design: best}
    if options.write:
        page, dataset = options.out.resolve().parent.name, records[0]["dataset"]
        text = preset(choices, f"docs/results/{page}/{options.out.name}")
        write_atomically(PRESETS / page / f"{dataset}.yaml", text)
    write_atomically(options.out, csv_text(HEADER, rows))
    print(options.out)
    return 0


if __name__ == "__main__":
    launch.script(main)
