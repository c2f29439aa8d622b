"""Many denoisers that were made to forget against many that never saw it, record by record.

python scripts/membership.py outputs/membership/runs --out FOLDER

For each method, attack and score of records, over the seeds of its runs (eval=[membership]):

    alone        AUC of forgotten against held-out images by one model, mean over models; beside it
                 the retrained models' own. The result is the difference, in either direction
    records      U-LiRA: an attacker who has models of both worlds asks of each forgotten image
                 whether a model has unlearned it or never saw it. AUC over images and models, 95 %
                 by a bootstrap over images, TPR at 1 % of false ones; 0.5: nothing shows
    models       whether one model can be told from a retrained one by all its forgotten images at
                 once: AUC of an attack that was fitted to half of them; epsilon by its bound on
                 a quarter, and the largest that so many could have shown. Below 64 models of a
                 world no epsilon is claimed

The rows "original" are the ceiling: nothing was forgotten. Last the floor: one half of the
retrained models against the other. What a number means: docs/audits.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pandas import DataFrame
from safetensors.numpy import load_file

from unrelearn import launch
from unrelearn.audits import bounds, game, populations, scores
from unrelearn.errors import UsageError
from unrelearn.paths import given
from unrelearn.report.records import Record, collect
from unrelearn.report.table import results
from unrelearn.report.told import tell
from unrelearn.report.words import DASH, row_label

FEWEST = 4  # models of each world: of fewer no normal is fitted to one half
HEADER = ["forgotten", "method", "model", "score", "models", "retrained", "AUC\nalone"]
HEADER += ["retrain's\nalone", "records\nAUC", "AUC\nlow", "AUC\nhigh", "TPR at\n1 % FPR"]
HEADER += ["models\nAUC", "epsilon", "largest\nepsilon"]
CEILING, FLOOR = "original", "retrained"
Scores = dict[str, np.ndarray]  # "forget/loss" (N,), "held_out/labels" (M,) ... of one model


class World(NamedTuple):
    """Scores of U models: forget (U, N) and held_out (U, M), higher: rather a member."""

    forget: np.ndarray
    held_out: np.ndarray

    def half(self, start: int) -> "World":
        return World(self.forget[start::2], self.held_out[start::2])


class Line(NamedTuple):
    """One row of the table."""

    words: list[str]  # forgotten, method, model, score
    ours: World
    retrained: World


def read(record: Record, row: dict, name: str = "records") -> Scores:
    """An artefact of scores that a row names."""
    return load_file(Path(record["path"]).parents[2] / row[name] / "scores.safetensors")


def world(files: Sequence[Scores], score: str) -> World:
    """Of the same images, as every seed forgets and holds out the same."""
    same = np.isin(files[0]["held_out/labels"], files[0]["forget/labels"])
    inside = np.stack([file[f"forget/{score}"] for file in files])
    return World(inside, np.stack([file[f"held_out/{score}"] for file in files])[:, same])


def lines(records: Sequence[Record]) -> Iterator[Line]:
    """Of each method and attack the models that it leaves; the ceiling first, the floor last."""
    runs = results(records).runs
    if len(tables := runs["table"].unique()) > 1:
        raise UsageError(
            f"the runs make {len(tables)} tables ({' / '.join(map(str, tables))}), and numbers of"
            f" two never share one. Type the runs of one, such as {records[0]['path']}"
        )
    for what, same in runs.groupby("forgotten", sort=False):
        files, retrained = _files(same)
        for score in records[0]["config"]["eval"]["membership"]["scores"]:
            references = world(retrained, score)
            for names, of in files.items():
                yield Line([str(what), *names, score], world(of, score), references)
            if len(retrained) > 1:
                floor = references.half(0), references.half(1)
                yield Line([str(what), FLOOR, FLOOR, score], *floor)


def _files(runs: DataFrame) -> tuple[dict[tuple[str, str], list[Scores]], list[Scores]]:
    """Of each (method, model) the scores of its models, one a seed; and of the retrained ones."""
    scores: dict[tuple[str, str], dict[int, Scores]] = {}
    references: dict[int, Scores] = {}
    for line in runs.itertuples():
        for row in line.record["rows"]:
            if "records" not in row or row["status"] != "finished":
                continue
            model = row_label(line.record, row)
            method = CEILING if row["model"] == CEILING else line.method_label
            if method == CEILING and row["model"] == "unlearned":  # of method=original: the same
                continue
            attack = f" by {line.attack_label}" if row["model"] == "attacked" else ""
            scores.setdefault((method, model + attack), {})[line.seed] = read(line.record, row)
            references[line.seed] = read(line.record, row, "retrained")
    ordered = {names: [of[seed] for seed in sorted(of)] for names, of in scores.items()}
    return ordered, [references[seed] for seed in sorted(references)]


def audited(line: Line) -> list[str]:
    """The numbers of one line, in the order of HEADER."""
    ours, theirs = line.ours, line.retrained
    counts = len(ours.forget), len(theirs.forget)
    cells = [*map(str, counts), *(f"{_alone(each):.3f}" for each in (ours, theirs))]
    if min(counts) < FEWEST or line.ours is line.retrained or _same(ours, theirs):
        return [*cells, *[DASH] * 7]
    attack = populations.ulira(ours.forget, theirs.forget)
    low, high = populations.auc_interval(ours.forget, theirs.forget)
    known = (attack["auc"], low, high, attack["tpr_at_1_percent"])
    return [*cells, *(f"{value:.3f}" for value in known), *told_apart(ours.forget, theirs.forget)]


def _alone(models: World) -> float:
    pairs = zip(models.forget, models.held_out, strict=True)
    return float(np.mean([bounds.auc(inside, outside) for inside, outside in pairs]))


def _same(ours: World, theirs: World) -> bool:
    """Whether these are the retrained models themselves, to which the floor is the answer."""
    return ours.forget.shape == theirs.forget.shape and np.array_equal(ours.forget, theirs.forget)


def told_apart(ours: np.ndarray, theirs: np.ndarray) -> list[str]:
    """AUC, epsilon and its ceiling of whole models, by the likelihood of all their images."""
    fewest = min(len(ours), len(theirs))
    if fewest < game.FEWEST:
        return [DASH] * 3
    verdict = game.play(ours, theirs, scores.likelihood)
    epsilon = DASH if fewest < bounds.FEWEST_REPLICAS else f"{verdict['epsilon']:.2f}"
    return [f"{verdict['auc']:.3f}", epsilon, f"{verdict['epsilon_ceiling']:.2f}"]


def main(arguments: list[str] | None = None) -> int:
    parser = launch.parser(__doc__)
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    parser.add_argument("--out", type=given, metavar="FOLDER", help="membership.md and .csv")
    options = parser.parse_args(arguments)
    records = [r for r in collect(options.results) if any("records" in row for row in r["rows"])]
    if not records:
        where = ", ".join(map(str, options.results))
        raise UsageError(
            f"{where}: no run with scores of records there. Type python run.py"
            " held_out.share=0.5 eval=[membership]"
        )
    table = [[*line.words, *audited(line)] for line in lines(records)]
    tell(HEADER, table, options.out and options.out / "membership")
    return 0


if __name__ == "__main__":
    launch.script(main)
