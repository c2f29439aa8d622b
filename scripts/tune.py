"""Equal effort: the same search for every method that trains, judged on a class and on seeds that are never reported.

    python scripts/tune.py [METHOD ...] [KEY=VALUE ...] [--write-presets]

What is searched: conf/tune.yaml and conf/tune/METHOD.yaml; without METHOD, all of them. Each trial is a row of
docs/results/tuning/METHOD.csv as soon as it is measured, and is not made again, whatever becomes of --outputs. At the end:
docs/results/tuning/chosen.csv, the table of docs/results/tuning.md and, if asked for, conf/tuned/METHOD.yaml.
No attack is run, and no number of the held-out classifier is read. Several of these may run side by side: each takes the
methods that no other one is at.
"""

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from unrelearn import launch, progress, tuning
from unrelearn.config import CONF, Sweep
from unrelearn.errors import UsageError
from unrelearn.pipeline import Model, Pipeline
from unrelearn.report import csv_text, write_atomically

PRESETS = CONF / "tuned"
RESULTS = CONF.parent / "docs" / "results" / "tuning"
BEGIN, END = "<!-- trials -->\n", "<!-- end -->"
HERE = ["trainer.checkpoint_every_n_steps=1000"]  # a trial is too short to be continued


def methods() -> list[str]:
    """Those that are tuned."""
    return sorted(path.stem for path in (CONF / "tune").glob("*.yaml"))


class Workshop:
    """Makes and measures models; what they share is made once and read once."""

    def __init__(self, rules: tuning.Rules, more: list[str], outputs: Path):
        self.rules, self.more, self.outputs = rules, more, outputs
        self.pipeline: Pipeline | None = None
        self.originals: dict[int, dict] = {}

    def compose(self, method: str, seed: int, settings: Mapping, command: str = "") -> Pipeline:
        fixed = [
            f"method={method}",
            f"forget={self.rules.forget}",
            f"seed={seed}",
            *self.rules.overrides,
            *self.more,
            *HERE,
            f"paths.outputs={self.outputs}",
            *tuning.in_words(settings),
        ]
        cfg, _ = Sweep(fixed).compose({})
        if cfg["trainer"]["devices"] > 1:
            raise UsageError(
                f"trainer.devices={cfg['trainer']['devices']}: a trial is made on one device. Type trainer=auto, "
                "and the same command once more for each further device"
            )
        if self.pipeline is None:
            launch.processes(cfg["trainer"])
        self.pipeline = Pipeline(cfg, command, self.pipeline)
        return self.pipeline

    def original(self, seed: int) -> dict:
        """The measurements of the original model; it, the classifiers and the reference are made if they are not there."""
        if seed not in self.originals:
            pipeline = self.compose("original", seed, {})
            for part in pipeline.parts()[:-1]:  # all but the record of the run
                pipeline.make(part)
            self.originals[seed] = read(pipeline, pipeline.pretrained)
        return self.originals[seed]

    def trial(
        self, space: tuning.Space, settings: Mapping, seed: int, command: str
    ) -> tuple[tuning.Row, Pipeline]:
        """What a row says of its result, and the pipeline that has made it."""
        original = self.original(seed)
        started = time.monotonic()
        pipeline = self.compose(space.method, seed, settings, command)
        with quiet():
            for part in pipeline.parts():
                if part.stage == "unlearn" or (
                    part.stage == "evaluate" and part.model == pipeline.unlearned
                ):
                    pipeline.make(part)
        row = {
            "unlearn": pipeline.unlearned.spec.key,
            "evaluate": pipeline.evaluate_spec(pipeline.unlearned).key,
        }
        metrics = read(pipeline, pipeline.unlearned)
        row |= (
            {"status": "diverged", "admissible": "no"}
            if metrics is None
            else {"status": "finished", **tuning.measured(metrics, original, self.rules)}
        )
        return row | {"seconds": f"{time.monotonic() - started:.1f}"}, pipeline


def read(pipeline: Pipeline, model: Model) -> dict | None:
    """What is measured of a model; None if it diverged."""
    artifact = pipeline.store.find(pipeline.evaluate_spec(model))
    return json.loads((artifact.path / "metrics.json").read_text()) if artifact else None


def discard(pipeline: Pipeline) -> None:
    """Remove what this process has made of a rejected trial: its model, images and measurements."""
    for used in pipeline.used.values():
        if used["stage"] in ("unlearn", "samples", "evaluate") and used["status"] == "computed":
            shutil.rmtree(pipeline.store.root / used["stage"] / used["key"], ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No line for each stage: a trial has one line."""
    progress.console.quiet = True
    try:
        yield
    finally:
        progress.console.quiet = False


class Search:
    """The trials of one method, and the file of its rows."""

    def __init__(self, method: str, workshop: Workshop, results: Path, trials: int):
        self.workshop, self.rules, self.trials = workshop, workshop.rules, trials
        self.path = results / f"{method}.csv"
        first = workshop.compose(method, self.rules.seeds[0], {})
        self.space = tuning.read_space(CONF, method, self.rules, first.passes("method"))
        self.header = tuning.columns(
            self.space, [str(float(s)) for s in first.cfg["sampler"]["guidance_scales"]]
        )
        rows = tuning.read_rows(self.path)
        self.rows = {(int(row["trial"]), int(row["seed"])): row for row in rows}
        self.draws = tuning.draw(
            self.space, self.rules, max([trials, *(1 + trial for trial, _ in self.rows)])
        )
        self.commands = {
            (trial, seed): tuning.command(self.space, self.rules, settings, seed, workshop.more)
            for trial, settings in enumerate(self.draws)
            for seed in self.rules.seeds
        }
        tuning.check_commands(
            self.path, rows, {(str(t), str(s)): text for (t, s), text in self.commands.items()}
        )

    @property
    def missing(self) -> list[int]:
        """Trials that lack the row of a seed."""
        return [
            trial
            for trial in range(self.trials)
            if any((trial, seed) not in self.rows for seed in self.rules.seeds)
        ]

    def check_code(self) -> None:
        """That the rows there are, and those to come, are made by the same code from the same defaults."""
        for seed in self.rules.seeds:
            row = next(
                (
                    row
                    for row in self.rows.values()
                    if row["seed"] == str(seed) and row["status"] == "finished"
                ),
                None,
            )
            if row is not None:
                pipeline = self.workshop.compose(
                    self.space.method, seed, self.draws[int(row["trial"])]
                )
                now = {
                    "unlearn": pipeline.unlearned.spec.key,
                    "evaluate": pipeline.evaluate_spec(pipeline.unlearned).key,
                }
                for column, key in now.items():
                    if row[column] != key:
                        raise UsageError(
                            f"{self.path}: trial {row['trial']} was made by other code or other defaults ({column} {row[column]}, "
                            f"now {key}), and rows of both in one table can not be compared. Type rm {self.path} to do it anew"
                        )

    def run(self, trial: int, keep: bool) -> list[tuning.Row]:
        """Make what a trial lacks; its rows. After a seed that misses the condition the others are skipped."""
        made, failed = [], False
        for seed in self.rules.seeds:
            at = (trial, seed)
            if at not in self.rows:
                row = {"status": "skipped"}
                if not failed:
                    row, pipeline = self.workshop.trial(
                        self.space, self.draws[trial], seed, self.commands[at]
                    )
                    made.append(pipeline)
                self.add(trial, seed, row)
            failed = failed or not tuning.admissible(self.rows[at], self.rules)
        if failed and not keep:
            for pipeline in made:
                discard(pipeline)
        return [self.rows[trial, seed] for seed in self.rules.seeds]

    def add(self, trial: int, seed: int, result: tuning.Row) -> None:
        drawn = [word.split("=", 1)[1] for word in tuning.in_words(self.draws[trial])]
        known = {
            "trial": str(trial),
            "seed": str(seed),
            **dict(zip(self.header[2:], drawn, strict=False)),
            **result,
            "command": self.commands[trial, seed],
        }
        self.rows[trial, seed] = {name: known.get(name, "") for name in self.header}
        write_atomically(
            self.path,
            csv_text(
                self.header,
                ([row[name] for name in self.header] for _, row in sorted(self.rows.items())),
            ),
        )


def line(search: Search, trial: int, rows: Sequence[tuning.Row], left: float) -> str:
    """One trial, what it drew, what came out on each seed, and how long the rest may take."""
    drawn = ", ".join(
        f"{name} {rows[0][name]}" for name in search.header[2 : search.header.index("status")]
    )
    seen = []
    for row in rows:
        accuracy = " / ".join(
            f"{100 * float(value):.1f}"
            for name, value in row.items()
            if name.startswith("unlearning_accuracy@") and value
        )
        seen.append(
            f"seed {row['seed']}: {row['status']}"
            if not accuracy
            else f"seed {row['seed']}: UA {accuracy}, retained {100 * float(row['retain_accuracy']):.1f}, distance "
            f"{tuning.over_original([row]):+.2f}{'' if row['admissible'] == 'yes' else ' (not admissible)'}"
        )
    done = search.trials - len(search.missing)
    return (
        f"{search.space.method} [{done}/{search.trials}] trial {trial}: {drawn}; {'; '.join(seen)}. "
        f"About {left / 60:.0f} min left at most"
    )


class Clock:
    """Seconds that the trials to come will take, from those that this process has made."""

    def __init__(self) -> None:
        self.started, self.trials = time.monotonic(), 0

    def left(self, trials: int) -> float:
        return trials * (time.monotonic() - self.started) / max(1, self.trials)

    def restart(self) -> None:
        """What was made until now is shared by all trials."""
        self.started = time.monotonic()


class Tuning:
    """All that one call does."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.rules = options, tuning.read_rules(CONF)
        self.trials = options.trials or self.rules.trials
        self.workshop = Workshop(self.rules, options.overrides, options.outputs)
        self.clock = Clock()

    @cached_property
    def searches(self) -> dict[str, Search]:
        """Before anything is made: what does not fit is said at once."""
        return {
            method: Search(method, self.workshop, self.options.results, self.trials)
            for method in self.options.methods
        }

    def run(self) -> None:
        todo = [method for method, search in self.searches.items() if search.missing]
        for method in todo:
            self.searches[method].check_code()
        if todo:
            for seed in self.rules.seeds:
                self.workshop.original(seed)
        self.clock.restart()
        for method in todo:
            lock = FileLock(self.options.outputs / "tuning" / f"{method}.lock")
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            try:
                with lock.acquire(timeout=0):
                    self.tune(method, todo[todo.index(method) + 1 :])
            except Timeout:
                progress.say(f"{method}: another process is at it, which is left to it")

    def tune(self, method: str, later: Sequence[str]) -> None:
        # another process may have made rows since this one has looked
        search = Search(method, self.workshop, self.options.results, self.trials)
        after = sum(len(self.searches[name].missing) for name in later)
        while search.missing:
            trial = search.missing[0]
            rows = search.run(trial, self.options.keep)
            self.clock.trials += 1
            progress.say(line(search, trial, rows, self.clock.left(len(search.missing) + after)))

    def write(self) -> None:
        """The tables of everything that is in the folder of results, and the presets."""
        results = self.options.results
        tables = {method: tuning.read_rows(results / f"{method}.csv") for method in methods()}
        tables = {method: rows for method, rows in tables.items() if rows}
        write_atomically(
            results / "chosen.csv", csv_text(*tuning.chosen_csv(tables, self.rules, self.trials))
        )
        page = results.with_name(f"{results.name}.md")
        text = page.read_text(encoding="utf-8") if page.exists() else f"# Tuning\n\n{BEGIN}{END}\n"
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise UsageError(
                f"{page}: has no line {BEGIN.strip()} with a line {END} below it. Add both where the table is to stand"
            )
        write_atomically(
            page,
            before + begin + tuning.to_markdown(tables, self.rules, self.trials) + end + after,
        )
        progress.say(f"{results / 'chosen.csv'}, {page}")
        if self.options.write_presets:
            self.write_presets(tables)

    def write_presets(self, tables: Mapping[str, Sequence[tuning.Row]]) -> None:
        for method, rows in tables.items():
            if not tuning.finished(rows, self.rules, self.trials):
                continue
            ranked = tuning.ranking(rows, self.rules, self.trials)
            for place in range(1, tuning.SHOWN + 1):
                path = PRESETS / f"{tuning.preset_name(method, place)}.yaml"
                path.unlink(missing_ok=True)  # of an earlier search
                if place <= len(ranked):
                    write_atomically(
                        path,
                        tuning.preset(
                            method,
                            ranked[place - 1],
                            place=place,
                            admissible=len(ranked),
                            rules=self.rules,
                            trials=self.trials,
                        ),
                    )
            if not ranked:
                progress.say(
                    f"{method}: {tuning.none_admissible(self.trials)}, so there is no preset"
                )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="methods (default: all), and overrides KEY=VALUE of every trial",
    )
    parser.add_argument(
        "--trials",
        type=int,
        help="of each method, the first of its sequence (default: 24, of conf/tune.yaml)",
    )
    parser.add_argument("--outputs", type=Path, default=Path("outputs/tuning"), metavar="FOLDER")
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FOLDER",
        help="of the tables (default: docs/results/tuning)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the models of rejected trials, too"
    )
    parser.add_argument(
        "--write-presets",
        action="store_true",
        help="write conf/tuned/METHOD.yaml of what was chosen",
    )
    options = parser.parse_intermixed_args(arguments)
    options.overrides = [word for word in options.words if "=" in word]
    options.methods = [word for word in options.words if "=" not in word] or methods()
    return options


def check(options: argparse.Namespace) -> None:
    problems = [
        f"{word}: is no method that is tuned; allowed: {', '.join(methods())}. Type python scripts/tune.py {methods()[0]}"
        for word in options.methods
        if word not in methods()
    ]
    if options.trials is not None and not 1 <= options.trials <= 1024:
        problems.append(f"--trials {options.trials}: must be between 1 and 1024. Type --trials 24")
    if problems:
        raise UsageError(problems)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        check(options)
        work = Tuning(options)
        work.run()
        work.write()
        return 0
    except UsageError as error:
        return launch.complain(error.problems)
    except OSError as error:
        if not (problems := launch.storage_problems(error)):
            raise
        return launch.complain(problems)
    except KeyboardInterrupt:
        print(
            "\ninterrupted: the same command continues with the trial that was being made",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
