"""Equal effort for classifiers: of each method's runs of a search, the one nearest to retraining.

python scripts/choose.py outputs/classification-tuning/runs --write

Every method has run the same settings, on seeds and a forget set that are reported nowhere else.
Chosen is the smallest average gap to references of that forget set. All runs are listed in the
file of --out; with --write the choices become presets that are named after its folder, as
+tuned=classification/METHOD.
"""

from collections.abc import Iterator, Sequence

from unrelearn import chosen, launch
from unrelearn.chosen import PRESETS, Setting, by_setting
from unrelearn.config.groups import source
from unrelearn.paths import CONF
from unrelearn.report.classified import is_classifier, value_of
from unrelearn.report.files import csv_text, write_atomically
from unrelearn.report.groups import fingerprint, gathered
from unrelearn.report.records import Record, row_of
from unrelearn.report.words import forgotten

LISTED = CONF.parent / "docs" / "results" / "classification" / "tuning.csv"
# what gaps that are compared have in common, besides what is forgotten and the attack
PROBLEM = ("dataset", "model", "precision", "protocol", "references", "augment", "validation")
MEASURED = {
    "gap": ("gap", "value"),
    "floor": ("gap", "floor"),
    "agreement": ("retrain_agreement", "value"),
    "miss_correlation": ("retrain_agreement", "miss_correlation"),
}
HEADER = ("method", "settings", "seed", *MEASURED, "chosen", "command")
MISSING = "no run of a classifier there. Type make results-classification"


def problem(record: Record) -> dict[str, str]:
    asked = {"forget": forgotten(record), "attack": record["attack"]}
    return fingerprint(record, PROBLEM) | asked


def tried(runs: Sequence[Record]) -> dict[Setting, list[Record]]:
    """By the keys of a method in which its runs differ."""
    settings = [record["config"]["method"] for record in runs]
    keys = [key for key in settings[0] if len({str(each.get(key)) for each in settings}) > 1]
    return by_setting(
        runs, lambda record: tuple((key, record["config"]["method"].get(key)) for key in keys)
    )


def gap(record: Record) -> float | None:
    """None of a run that diverged."""
    return value_of(row_of(record, "unlearned"), "gap")


def listed(trials: dict[Setting, list[Record]], best: Setting | None) -> Iterator[list[object]]:
    """A line a run, the settings in order."""
    for setting, same in trials.items():
        for record in same:
            row = row_of(record, "unlearned")
            numbers = [value_of(row, metric, field) for metric, field in MEASURED.values()]
            texts = ["" if number is None else f"{number:.6f}" for number in numbers]
            about = [record["method"], chosen.words(setting), record["seed"]]
            yield [*about, *texts, "yes" if setting == best else "", chosen.command(record)]


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
    options = chosen.options(arguments, __doc__, LISTED)
    records = chosen.records_of(options.results, is_classifier, MISSING)
    chosen.check_one_problem(records, problem)
    rows: list[list[object]] = []
    for method, runs in sorted(gathered(records, lambda record: record["method"]).items()):
        trials = tried(runs)
        best = chosen.choice(trials, gap)
        rows += listed(trials, best)
        print(method, chosen.words(best or ()))
        if options.write and best is not None:
            page = options.out.resolve().parent.name
            write_atomically(PRESETS / page / f"{method}.yaml", preset(runs[0], best, page))
    write_atomically(options.out, csv_text(HEADER, rows))
    print(options.out)
    return 0


if __name__ == "__main__":
    launch.script(main)
