"""Equal effort: the same search for every method that trains, on a tuning class and tuning seeds.

    python scripts/tune.py [METHOD ...] [KEY=VALUE ...] [--write-presets]

What is searched: conf/tune.yaml and conf/tune/METHOD.yaml; without METHOD, all of them. Each trial
is a row of docs/results/tuning/METHOD.csv as soon as it is measured, and is not made again,
whatever becomes of --outputs. At the end: docs/results/tuning/chosen.csv, the table of
docs/results/tuning.md and, if asked for, conf/tuned/METHOD.yaml. No attack is run, and no number of
the held-out classifier is read. Several of these may run side by side: each takes the methods that
no other one is at.
"""

import argparse
import contextlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from unrelearn import launch, progress, tracks, tuned, tuning
from unrelearn.config import Sweep
from unrelearn.errors import UsageError
from unrelearn.paths import CONF, given
from unrelearn.report.files import csv_text, write_atomically
from unrelearn.run import Run
from unrelearn.stage import Stage, make
from unrelearn.stages.measure import Evaluate

PRESETS = CONF / "tuned"
RESULTS = CONF.parent / "docs" / "results" / "tuning"
HERE = ["trainer.checkpoint_every_n_steps=1000"]  # a trial is too short to be continued
OF_THE_RULES = ("method", "forget", "seed", "attack", "eval", "stages", "paths.outputs")


def methods() -> list[str]:
    """Those that are tuned."""
    return sorted(path.stem for path in (CONF / "tune").glob("*.yaml"))


class Workshop:
    """Makes and measures models; what they share is made and read once."""

    def __init__(self, rules: tuning.Rules, more: list[str], outputs: Path):
        self.rules, self.more, self.outputs = rules, more, outputs
        self.sweep = Sweep(
            [f"forget={rules.forget}", *rules.overrides, *more, *HERE, f"paths.outputs={outputs}"]
        )
        self.last: Run | None = None
        self.originals: dict[int, dict] = {}

    def compose(self, method: str, seed: int, settings: tuning.Settings, command: str = "") -> Run:
        words = dict(word.split("=", 1) for word in tuning.in_words(settings))
        cfg, _ = self.sweep.compose({"method": method, "seed": str(seed), **words})
        if cfg.trainer.devices > 1:
            raise UsageError(
                f"trainer.devices={cfg.trainer.devices}: a trial is made on one device. Type "
                "trainer=auto, and the same command once more for each further device"
            )
        if self.last is None:
            launch.processes(cfg.trainer)
        self.last = Run(cfg, command, self.last)
        return self.last

    def original(self, seed: int) -> dict:
        """The measurements of the original model, which is made first, with all that measures, if
        need be.
        """
        if seed not in self.originals:
            run = self.compose("original", seed, {})
            make(tracks.evaluations(run))
            self.originals[seed] = measurements(run)
        return self.originals[seed]

    def trial(
        self, method: str, settings: tuning.Settings, seed: int, command: str
    ) -> tuple[tuning.Row, Run]:
        """What a row says of its result, and the run that has made it."""
        original = self.original(seed)
        run = self.compose(method, seed, settings, command)
        with quiet():
            make([unlearned(run)])
        metrics = measurements(run)
        result = {"status": "diverged", "admissible": "no"}
        if metrics is not None:
            result = {"status": "finished", **tuning.measured(metrics, original, self.rules)}
        own = [run.used[stage.key] for stage in own_stages(run) if stage.key in run.used]
        seconds = sum(used["seconds"] for used in own)
        return result | keys(run) | {"seconds": f"{seconds:.1f}"}, run


def unlearned(run: Run) -> Evaluate:
    """The measurements of the unlearned model, or of the original, if that is all there is."""
    return tracks.evaluations(run)[-1]


def own_stages(run: Run) -> list[Stage]:
    """Those of a trial that it shares with no other."""
    evaluation = unlearned(run)
    return [evaluation.model.stage, evaluation.seen, evaluation]


def measurements(run: Run) -> dict | None:
    """What was measured of a model; None if its training diverged."""
    artifact = unlearned(run).artifact
    return json.loads((artifact.path / "metrics.json").read_text()) if artifact else None


def keys(run: Run) -> tuning.Row:
    """Of the unlearned model and its measurements: what they are made of, by which code."""
    model, _, evaluation = own_stages(run)
    return {model.name: model.key, evaluation.name: evaluation.key}


def discard(run: Run) -> None:
    """Remove what this process has made of a rejected trial: its model, images and measurements."""
    for stage in own_stages(run):
        if run.used.get(stage.key, {}).get("status") == "computed":
            shutil.rmtree(run.store.root / stage.id, ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No line for each stage: a trial has one line."""
    progress.console.quiet = True
    try:
        yield
    finally:
        progress.console.quiet = False


class Search:
    """The trials of one method and the file of their rows."""

    def __init__(self, method: str, workshop: Workshop, results: Path, trials: int):
        self.method, self.workshop = method, workshop
        self.rules, self.trials = workshop.rules, trials
        self.path = results / f"{method}.csv"
        first = workshop.compose(method, self.rules.seeds[0], {})
        space = tuning.read_space(CONF, method, self.rules, first.method.passes)
        self.header = tuning.columns(space, first.cfg.sampler.guidance_scales)
        rows = tuning.read_rows(self.path)
        self.rows = {(int(row["trial"]), int(row["seed"])): row for row in rows}
        most = max([trials, *(trial + 1 for trial, _ in self.rows)])
        self.draws = tuning.draw(space, self.rules, most)
        self.commands = {
            (trial, seed): tuning.command(space, self.rules, settings, seed, workshop.more)
            for trial, settings in enumerate(self.draws)
            for seed in self.rules.seeds
        }
        tuning.check_rows(self.path, rows, self.rules, self.commands)

    @property
    def missing(self) -> list[int]:
        """Trials that lack a row."""
        return [
            trial
            for trial in range(self.trials)
            if any((trial, seed) not in self.rows for seed in self.rules.seeds)
        ]

    def check_code(self) -> None:
        """That the rows there are were made by the code and the defaults that are to make the
        others.
        """
        finished = {row["seed"]: row for row in self.rows.values() if row["status"] == "finished"}
        for seed, row in finished.items():
            now = keys(self.workshop.compose(self.method, int(seed), self.draws[int(row["trial"])]))
            for stage, key in now.items():
                if row[stage] != key:
                    raise UsageError(
                        f"{self.path}: trial {row['trial']} was made by other code or other"
                        f" defaults ({stage} {row[stage]}, now {key}), and the trials that are"
                        f" missing can not stand beside it. Type rm {shlex.quote(str(self.path))}"
                        " to do all of them anew"
                    )

    def run(self, trial: int, keep: bool) -> list[tuning.Row]:
        """Make what a trial lacks; its rows. After a seed that misses the condition, others are
        skipped.
        """
        runs, failed = [], False
        for seed in self.rules.seeds:
            if (trial, seed) not in self.rows:
                result = {"status": "skipped"}
                if not failed:
                    result, run = self.workshop.trial(
                        self.method, self.draws[trial], seed, self.commands[trial, seed]
                    )
                    runs.append(run)
                self.add(trial, seed, result)
            failed = failed or not tuning.admissible(self.rows[trial, seed], self.rules)
        for run in runs if failed and not keep else []:
            discard(run)
        return [self.rows[trial, seed] for seed in self.rules.seeds]

    def add(self, trial: int, seed: int, result: tuning.Row) -> None:
        drawn = [word.split("=", 1)[1] for word in tuning.in_words(self.draws[trial])]
        row = {
            "trial": str(trial),
            "seed": str(seed),
            **dict(zip(self.header[2:], drawn, strict=False)),
            **result,
            "command": self.commands[trial, seed],
        }
        self.rows[trial, seed] = {name: row.get(name, "") for name in self.header}
        lines = [list(row.values()) for _, row in sorted(self.rows.items())]
        write_atomically(self.path, csv_text(self.header, lines))

    def line(self, trial: int, rows: Sequence[tuning.Row]) -> str:
        """One trial: what it drew, and what came out on each seed."""
        drawn = ", ".join(
            f"{name} {rows[0][name]}" for name in self.header[2 : self.header.index("status")]
        )
        seen = []
        for row in rows:
            words = row["status"]
            if words == "finished":
                words = (
                    f"UA {tuned.accuracies([row])}, retained"
                    f" {100 * float(row['retain_accuracy']):.1f}, distance"
                    f" x{tuning.over_original([row]):.2f}"
                    f"{', not admissible' * (row['admissible'] == 'no')}"
                )
            seen.append(f"seed {row['seed']} {words}")
        done = self.trials - len(self.missing)
        return f"{self.method} [{done}/{self.trials}] trial {trial}: {'; '.join([drawn, *seen])}"


class Tuning:
    """All that one call does."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.rules = options, tuning.read_rules(CONF)
        self.trials = options.trials or self.rules.trials
        self.workshop = Workshop(self.rules, options.overrides, options.outputs)
        # all of them before anything is made: what does not fit is said at once
        self.searches = {method: self.search(method) for method in options.methods}

    def search(self, method: str) -> Search:
        return Search(method, self.workshop, self.options.results, self.trials)

    def run(self) -> None:
        todo = {method: search for method, search in self.searches.items() if search.missing}
        for search in todo.values():
            search.check_code()
        for seed in self.rules.seeds if todo else []:
            self.workshop.original(seed)
        self.started, self.done = time.monotonic(), 0
        for method in todo:
            lock = self.options.outputs / "tuning" / f"{method}.lock"
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(lock, timeout=0):
                    self.tune(method)
            except Timeout:
                progress.say(f"{method}: another process is at it, which is left to it")

    def tune(self, method: str) -> None:
        # another process may have made rows since this one has looked
        search = self.searches[method] = self.search(method)
        later = self.options.methods[self.options.methods.index(method) + 1 :]
        after = sum(len(self.searches[name].missing) for name in later)
        while search.missing:
            trial = search.missing[0]
            rows = search.run(trial, self.options.keep)
            self.done += 1
            left = (len(search.missing) + after) * (time.monotonic() - self.started) / self.done
            progress.say(f"{search.line(trial, rows)}; about {left / 60:.0f} min left")

    def write(self) -> None:
        """The tables, and the presets, of everything that is in the folder of results."""
        results = self.options.results
        tables = {method: tuning.read_rows(results / f"{method}.csv") for method in methods()}
        tables = {method: rows for method, rows in tables.items() if rows}
        tuned.write_tables(results, tables, self.rules, self.trials)
        progress.say(f"{results / 'chosen.csv'}, {results}.md")
        if self.options.write_presets:
            for method in tuned.write_presets(PRESETS, tables, self.rules, self.trials):
                progress.say(f"{method}: {tuned.none_admissible(self.trials)}, so it has no preset")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Raises: UsageError: a word that is neither a method that is tuned nor an override that is
    free.
    """
    parser = launch.parser(__doc__)
    add = parser.add_argument
    add(
        "words",
        nargs="*",
        metavar="WORD",
        help="methods (default: all), and overrides KEY=VALUE of every trial",
    )
    add(
        "--trials",
        type=int,
        help="of each method, the first of its sequence (default: 24, of conf/tune.yaml)",
    )
    add(
        "--outputs",
        type=given,
        default=Path("outputs/tuning"),
        metavar="FOLDER",
        help="default: outputs/tuning",
    )
    add(
        "--results",
        type=given,
        default=RESULTS,
        metavar="FOLDER",
        help="default: docs/results/tuning",
    )
    add("--keep", action="store_true", help="keep the models of rejected trials, too")
    add(
        "--write-presets",
        action="store_true",
        help="write conf/tuned/METHOD.yaml of what was chosen",
    )
    options = parser.parse_intermixed_args(arguments)
    options.overrides = [word for word in options.words if "=" in word]
    named = [word for word in options.words if "=" not in word]
    problems = [
        f"{word}: is no method that is tuned; allowed: {', '.join(methods())}. "
        f"Type python scripts/tune.py {methods()[0]}"
        for word in named
        if word not in methods()
    ]
    problems += [
        f"{word}: is given by conf/tune.yaml or --outputs. Leave {word} out"
        for word in options.overrides
        if word.split("=")[0] in OF_THE_RULES
    ]
    if options.trials is not None and not 1 <= options.trials <= 1024:
        problems.append(f"--trials {options.trials}: must be between 1 and 1024. Type --trials 24")
    if problems:
        raise UsageError(problems)
    options.methods = list(dict.fromkeys(named)) or methods()
    return options


def main(arguments: list[str] | None = None) -> int:
    try:
        work = Tuning(parse(arguments))
        work.run()
        work.write()
        return 0
    except UsageError as error:
        return launch.complain(error.problems)
    except OSError as error:
        problems = launch.storage_problems(error)
        if not problems:
            raise
        return launch.complain(problems)
    except KeyboardInterrupt:
        print(
            "\ninterrupted: the same command goes on with the trial that was being made",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
