"""Many denoisers that were made to forget against many that never saw it, record by record.

python scripts/membership.py outputs/membership/runs --out FOLDER

For each method, attack and score of records, over the seeds of its runs (eval=[membership]):

    alone        AUC of forgotten against held-out images by one model, mean and standard deviation
                 over models; beside it the retrained models' own. The result is the difference, in
                 either direction
    records      U-LiRA: an attacker who has models of both worlds asks of each forgotten image
                 whether a model has unlearned it or never saw it. AUC over images and models, 95 %
                 by a bootstrap over images, TPR at 1 % of false ones; 0.5: nothing shows
    strangers    the same of held-out images, which neither saw: what a method changes of all images
                 shows there too, and is no membership
    models       whether one model can be told from a retrained one by all its forgotten images at
                 once: AUC of an attack that was fitted to half of them; epsilon by its bound on
                 a quarter, and the largest that so many could have shown. Below 64 models of a
                 world no epsilon is claimed

After an attack the models that never saw the images are those that it was tried on too, where
method=retrain was run. The rows "original" are the ceiling: nothing was forgotten. Last the floors:
one half of the models that never saw the images against the other. With --out also a picture of
"records" for each score. What a number means: docs/audits.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame
from safetensors.numpy import load_file

from unrelearn import launch
from unrelearn.audits import bounds, game, populations, scores
from unrelearn.errors import UsageError
from unrelearn.paths import given
from unrelearn.report.drawing import MODEL_STYLE, new_axes, save, styled, title_and_legend
from unrelearn.report.records import Record, collect
from unrelearn.report.table import results
from unrelearn.report.told import tell
from unrelearn.report.words import DASH, row_label

FEWEST = 4  # models of each world: of fewer no normal is fitted to one half
AUC, STRANGERS = "records\nAUC", "strangers\nAUC"
HEADER = ["forgotten", "method", "model", "score", "models", "retrained", "AUC\nalone", "alone\n±"]
HEADER += ["retrain's\nalone", "retrain's\n±", AUC, "AUC\nlow", "AUC\nhigh", STRANGERS]
HEADER += ["TPR at\n1 % FPR", "models\nAUC", "epsilon", "largest\nepsilon"]
CEILING, FLOOR = "original", "retrained"
HOLLOW = "hollow: of images that neither saw"
Key = TypeVar("Key")
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
    """Of each method and attack the models that it leaves; the ceiling first, the floors last."""
    runs = results(records).runs
    if len(tables := runs["table"].unique()) > 1:
        raise UsageError(
            f"the runs make {len(tables)} tables ({' / '.join(map(str, tables))}), and numbers of"
            f" two never share one. Type the runs of one, such as {records[0]['path']}"
        )
    for what, same in runs.groupby("forgotten", sort=False):
        files, never_saw = _files(same)
        for score in records[0]["config"]["eval"]["membership"]["scores"]:
            worlds = {model: world(of, score) for model, of in never_saw.items()}
            for names, of in files.items():
                references = worlds.get(names[1], worlds[FLOOR])
                yield Line([str(what), *names, score], world(of, score), references)
            for model, references in worlds.items():
                if len(references.forget) > 1:
                    floor = references.half(0), references.half(1)
                    yield Line([str(what), FLOOR, model, score], *floor)


def _files(runs: DataFrame) -> tuple[dict[tuple[str, str], list[Scores]], dict[str, list[Scores]]]:
    """Of each (method, model) the scores of its models, one a seed; and of those that never saw the
    images: the retrained ones, and by the label of each attack those that it was tried on.
    """
    scores: dict[tuple[str, str], dict[int, Scores]] = {}
    references: dict[str, dict[int, Scores]] = {FLOOR: {}}
    for line in runs.itertuples():
        for row in line.record["rows"]:
            if "records" not in row or row["status"] != "finished":
                continue
            model = row_label(line.record, row)
            method = CEILING if row["model"] == CEILING else line.method_label
            if method == CEILING and row["model"] == "unlearned":  # of method=original: the same
                continue
            attack = f" by {line.attack_label}" if row["model"] == "attacked" else ""
            own = read(line.record, row)
            scores.setdefault((method, model + attack), {})[line.seed] = own
            references[FLOOR][line.seed] = read(line.record, row, "retrained")
            if attack and line.record["method"] == "retrain":
                references.setdefault(model + attack, {})[line.seed] = own
    return _by_seed(scores), _by_seed(references)


def _by_seed(scores: dict[Key, dict[int, Scores]]) -> dict[Key, list[Scores]]:
    return {names: [of[seed] for seed in sorted(of)] for names, of in scores.items()}


def audited(line: Line) -> list[str]:
    """The numbers of one line, in the order of HEADER."""
    ours, theirs = line.ours, line.retrained
    counts = len(ours.forget), len(theirs.forget)
    cells = [*map(str, counts), *_alone(ours), *_alone(theirs)]
    if min(counts) < FEWEST or line.ours is line.retrained or _same(ours, theirs):
        return [*cells, *[DASH] * 8]
    attack = populations.ulira(ours.forget, theirs.forget)
    strangers = populations.ulira(ours.held_out, theirs.held_out)["auc"]
    low, high = populations.auc_interval(ours.forget, theirs.forget)
    known = (attack["auc"], low, high, strangers, attack["tpr_at_1_percent"])
    return [*cells, *(f"{value:.3f}" for value in known), *told_apart(ours.forget, theirs.forget)]


def _alone(models: World) -> list[str]:
    """Mean and standard deviation over models of the AUC that one of them gives."""
    pairs = zip(models.forget, models.held_out, strict=True)
    aucs = [bounds.auc(inside, outside) for inside, outside in pairs]
    spread = f"{np.std(aucs, ddof=1):.3f}" if len(aucs) > 1 else DASH
    return [f"{np.mean(aucs):.3f}", spread]


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


@styled
def picture(rows: Sequence[Sequence[str]]) -> Figure:
    """The "records" of lines of the table, a method a line; the band is the floor's interval."""
    shown = [dict(zip(HEADER, row, strict=True)) for row in rows if row[HEADER.index(AUC)] != DASH]
    methods = list(dict.fromkeys(line["method"] for line in shown if line["method"] != FLOOR))
    _, axes = new_axes(height=1.4 + 0.32 * len(methods))
    for line in shown:
        center, low, high = (float(line[name]) for name in (AUC, "AUC\nlow", "AUC\nhigh"))
        if line["method"] == FLOOR:
            if line["model"] == FLOOR:
                axes.axvspan(low, high, color="#e3e3e3", linewidth=0, label="floor")
            continue
        attacked = " by " in line["model"]
        kind = CEILING if line["method"] == CEILING else "attacked" if attacked else "unlearned"
        style = MODEL_STYLE["attacked" if attacked else kind]
        place = methods.index(line["method"]) + (0.15 if attacked else -0.15)
        looks = {"color": style["color"], "marker": style["marker"], "linestyle": "none"}
        _, known = axes.get_legend_handles_labels()
        label = None if line["model"] in known else line["model"]
        sides = [[center - low], [high - center]]
        axes.errorbar([center], [place], xerr=sides, capsize=2, markersize=5, label=label, **looks)
        hollow = None if HOLLOW in known else HOLLOW
        where = float(line[STRANGERS])
        axes.plot([where], [place], mfc="white", zorder=3, markersize=5, label=hollow, **looks)
    axes.axvline(0.5, color="#888888", linewidth=0.8, linestyle=":")
    axes.set(yticks=range(len(methods)), yticklabels=methods, ylim=(len(methods) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("AUC of a forgotten image: models that unlearned it, or never saw it")
    return title_and_legend(axes, f"Told by {shown[0]['score']}", 2)


def main(arguments: list[str] | None = None) -> int:
    parser = launch.parser(__doc__)
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    parser.add_argument(
        "--out", type=given, metavar="FOLDER", help="for membership.md, .csv and .png"
    )
    options = parser.parse_args(arguments)
    if options.out and options.out.is_file():
        raise UsageError(f"--out {options.out}: is a file. Type --out FOLDER")
    records = [r for r in collect(options.results) if any("records" in row for row in r["rows"])]
    if not records:
        where = ", ".join(map(str, options.results))
        raise UsageError(
            f"{where}: no run with scores of records there. Type python run.py"
            " held_out.share=0.5 eval=[membership]"
        )
    table = [[*line.words, *audited(line)] for line in lines(records)]
    tell(HEADER, table, options.out and options.out / "membership")
    for score in {row[3]: None for row in table} if options.out else ():
        rows = [row for row in table if row[3] == score]
        if any(row[HEADER.index(AUC)] != DASH for row in rows):
            save(picture(rows), options.out / f"membership-{score}.png")
    return 0


if __name__ == "__main__":
    launch.script(main)
