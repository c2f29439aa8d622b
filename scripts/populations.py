"""Many unlearned classifiers against many retrained ones, image by image.

python scripts/populations.py outputs/classification/runs/digits-salun-none-* --out FOLDER

An attacker who has models of both worlds asks of each forgotten image whether a model has unlearned
it or never saw it. The runs of one method and settings under many seeds are one world, the
references the other:

    U-LiRA    accuracy and AUC over images and models, 95 % of the AUC by a bootstrap over images,
              TPR at 1 % of false ones; 0.5: nothing shows
    RMIA      AUC of "was a member" for D_f against test images of the classes that occur in it,
              mean over the unlearned models
    KLoM      95th percentile over D_f, in nats
    epsilon   of the 2023 unlearning challenge, mean over D_f, and the largest that so many can show

Last the floor: one half of the references against the other. These are fewer models, by which alone
KLoM is larger. What a number means, and its source: unrelearn.audits.populations.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from unrelearn import launch
from unrelearn.audits import bounds, populations
from unrelearn.classification import scores
from unrelearn.config import to_config
from unrelearn.config.schema import defaults, plain
from unrelearn.errors import UsageError
from unrelearn.paths import given
from unrelearn.report.classified import is_classifier
from unrelearn.report.groups import differences, fingerprint, gathered
from unrelearn.report.records import Record, collect, created, row_of
from unrelearn.report.told import tell
from unrelearn.report.words import labelled
from unrelearn.run import Run
from unrelearn.stages.images import images
from unrelearn.stages.predict import HALVES, References

FLOOR = "retrained"
FEWEST = 8  # models of each world: of fewer nothing can be fitted
HEADER = ["method", "models", "retrained", "U-LiRA\naccuracy", "U-LiRA\nAUC", "AUC\nlow"]
HEADER += ["AUC\nhigh", "TPR at\n1 % FPR", "RMIA\nAUC", "KLoM\n95 %", "epsilon", "largest\nepsilon"]
# which models make one population, and what decides its references
SETTINGS = ("model", "precision", "method", "augment.base", "augment.retain", "augment.forget")
ORIGIN = (  # noqa: SIM905
    "dataset model forget forget_seed validation references augment.retrain"
).split()


def outputs_of(record: Record) -> Path:
    """The folder whose runs/ and artifacts/ it lies beside."""
    return Path(record["path"]).parents[2]


def retrained(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """The world that all runs share: logits `retrained` (R, N, K) in D_f and `retrained_test`;
    `labels`, `test_labels`; and which training images are D_f, `forget`.
    """
    (first, *others) = gathered(records, references).values()
    if others:
        unlike = differences([fingerprint(same[0], ORIGIN) for same in (first, *others)])
        words = " / ".join(", ".join(parts) for parts in unlike).replace('"', "")
        raise UsageError(
            f"the runs have {len(unlike)} sets of references ({words}), and a table is of one. Type"
            f" the runs of one, such as {Path(first[0]['path']).parent}"
        )
    outputs = outputs_of(first[0])
    settings, known = first[0]["config"], plain(defaults(), resolve=False)
    settings = known | settings  # older records lack some keys
    settings["references"] = known["references"] | settings["references"]
    settings = settings | {"paths": settings["paths"] | {"outputs": str(outputs)}}
    run = Run(to_config(settings), command="")
    data = images(run)
    forget = run.kind.mask(data).cpu()  # type: ignore[attr-defined]  # a classifier's
    folder = outputs / "artifacts" / References.name / references(first[0])
    half = HALVES[run.cfg.references.half]
    logits = load_file(folder / "logits.safetensors")
    return {
        "retrained": logits["train"][half][:, forget.numpy()],
        "retrained_test": logits["test"][half],
        "labels": data.train.labels.cpu()[forget].numpy(),
        "test_labels": data.test.labels.cpu().numpy(),
        "forget": forget.numpy(),
    }


def references(record: Record) -> str:
    """Key of the artefact."""
    stages = record["stages"]
    return next(stage["key"] for stage in stages if stage["stage"] == References.name)


def unlearned(records: Sequence[Record], forget: np.ndarray) -> dict[str, np.ndarray]:
    """Logits `unlearned` (U, N, K) in D_f and `unlearned_test`, a model a seed."""
    parts = []
    for same in gathered(records, lambda record: record["seed"]).values():
        record = max(same, key=created)
        row = row_of(record, "unlearned")
        assert row is not None
        path = outputs_of(record) / row["predictions"] / "logits.safetensors"
        parts.append(load_file(path))
    return {
        "unlearned": np.stack([part["train"][forget] for part in parts]),
        "unlearned_test": np.stack([part["test"] for part in parts]),
    }


def worlds(records: Sequence[Record]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Of each method and its settings its name, and both worlds; last, of two halves of the
    references.
    """
    known = retrained(records)
    forget = known.pop("forget")
    for method, runs in sorted(gathered(records, lambda record: record["method"]).items()):
        by_settings = gathered(runs, lambda r: json.dumps(fingerprint(r, SETTINGS), sort_keys=True))
        notes = differences([fingerprint(same[0], SETTINGS) for same in by_settings.values()])
        pairs = zip(notes, by_settings.values(), strict=True)
        for note, same in sorted(pairs, key=lambda pair: pair[0]):
            name = labelled(method, ", ".join(note).replace('"', ""))
            yield name, known | unlearned(same, forget)
    halves = {
        f"{world}{part}": known[f"retrained{part}"][start::2]
        for start, world in enumerate(("unlearned", "retrained"))
        for part in ("", "_test")
    }
    yield FLOOR, known | halves


def audited(world: dict[str, np.ndarray]) -> list[float]:
    """The numbers of one method, in the order of HEADER."""
    labels = world["labels"]
    ours, theirs = (
        np.stack([scores.logit_scaled(model, labels) for model in world[name]])
        for name in ("unlearned", "retrained")
    )
    attack = populations.ulira(ours, theirs)
    most = populations.largest_epsilon(len(ours), len(theirs))
    epsilon = np.minimum(populations.challenge_epsilon(ours, theirs), most)
    return [
        attack["accuracy"],
        attack["auc"],
        *populations.auc_interval(ours, theirs),
        attack["tpr_at_1_percent"],
        rmia(world),
        float(np.quantile(populations.klom(ours, theirs), 0.95)),
        float(epsilon.mean()),
        most,
    ]


def rmia(world: dict[str, np.ndarray]) -> float:
    """Mean over the unlearned models of the AUC, with the retrained ones as references."""

    def confidences(models: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.stack([scores.confidence(model, labels) for model in models])

    ours, theirs = (confidences(world[n], world["labels"]) for n in ("unlearned", "retrained"))
    like = np.isin(world["test_labels"], world["labels"])
    test = world["test_labels"][like]
    seen, others = (
        confidences(world[f"{n}_test"][:, like], test) for n in ("unlearned", "retrained")
    )
    half = np.arange(len(test)) % 2 == 0  # one half is the population, the other is attacked
    areas = []
    for number in range(len(ours)):
        population = seen[number][half], others[:, half]
        members = populations.rmia(ours[number], theirs, *population)
        strangers = populations.rmia(seen[number][~half], others[:, ~half], *population)
        areas.append(bounds.auc(members, strangers))
    return float(np.mean(areas))


def lines(records: Sequence[Record]) -> list[list[str]]:
    table = []
    for name, world in worlds(records):
        counts = [len(world["unlearned"]), len(world["retrained"])]
        if min(counts) < FEWEST and name != FLOOR:
            raise UsageError(
                f"{name}: {counts[0]} unlearned and {counts[1]} retrained models, and {FEWEST} of"
                " each are the fewest. Type references.count=64 and more seeds"
            )
        table.append([name, *map(str, counts), *(f"{value:.3f}" for value in audited(world))])
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = launch.parser(__doc__)
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    parser.add_argument("--out", type=given, metavar="FOLDER", help="populations.md and .csv")
    options = parser.parse_args(arguments)
    records = [r for r in collect(options.results) if is_classifier(r) and row_of(r, "unlearned")]
    if not records:
        where = ", ".join(map(str, options.results))
        raise UsageError(f"{where}: no run of a classifier there. Type a folder of runs")
    tell(HEADER, lines(records), options.out and options.out / "populations")
    return 0


if __name__ == "__main__":
    launch.script(main)
