"""Many unlearned classifiers against many retrained ones, image by image.

python scripts/populations.py outputs/classification/runs/digits-salun-none-* --out FOLDER

An attacker who has models of both worlds asks of each forgotten image whether a model has unlearned
it or never saw it. The runs of a method under many seeds are one world, its references the other:

    U-LiRA    accuracy and AUC over images and models, TPR at 1 % of false ones; 0.5: nothing shows
    RMIA      AUC of "was a member" for D_f against test images, mean over the unlearned models
    KLoM      95th percentile over D_f, in nats, beside that of two halves of the references
    epsilon   of the 2023 unlearning challenge, mean over D_f, and the largest that so many can show

What a number means, and its source: unrelearn.classification.banks.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import load_file

from unrelearn import launch
from unrelearn.classification import banks, scores
from unrelearn.config import to_config
from unrelearn.errors import UsageError
from unrelearn.paths import given
from unrelearn.report.classified import is_classifier
from unrelearn.report.files import csv_text, write_atomically
from unrelearn.report.groups import gathered
from unrelearn.report.records import Record, collect, row_of
from unrelearn.report.render import console_table, markdown_table
from unrelearn.report.words import display_name
from unrelearn.run import Run

FEWEST = 8  # models of each world: of fewer nothing can be fitted
HEADER = ["method", "models", "retrained", "U-LiRA\naccuracy", "U-LiRA\nAUC", "TPR at\n1 % FPR"]
HEADER += ["RMIA\nAUC", "KLoM\n95 %", "KLoM of\nretrained", "epsilon", "largest\nepsilon"]


def outputs_of(record: Record) -> Path:
    """The folder whose runs/ and artifacts/ it lies beside."""
    return Path(record["path"]).parents[2]


def worlds(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Logits of one method: `unlearned` (U, N, K) and `retrained` (R, N, K) in D_f; the same for
    the test images, `unlearned_test` and `retrained_test`; `labels`, `test_labels`.
    """
    first, unlearned = records[0], []
    run = Run(to_config(first["config"]), command="")
    data = run.dataset.load()
    forget = run.kind.mask(data).numpy()  # type: ignore[attr-defined]  # a classifier's
    for record in records:
        row = row_of(record, "unlearned")
        if row is not None:
            path = outputs_of(record) / row["predictions"] / "logits.safetensors"
            unlearned.append(load_file(path))
    (key,) = {s["key"] for r in records for s in r["stages"] if s["stage"] == "references"}
    folder = outputs_of(first) / "artifacts" / "references" / key
    retrained = load_file(folder / "logits.safetensors")
    return {
        "unlearned": np.stack([each["train"][forget] for each in unlearned]),
        "unlearned_test": np.stack([each["test"] for each in unlearned]),
        "retrained": retrained["train"][:, forget],
        "retrained_test": retrained["test"],
        "labels": data.train.labels[torch.from_numpy(forget)].numpy(),
        "test_labels": data.test.labels.numpy(),
    }


def audited(world: dict[str, np.ndarray]) -> list[float]:
    """The numbers of one method, in the order of HEADER."""
    labels = world["labels"]
    ours, theirs = (
        np.stack([scores.logit_scaled(model, labels) for model in world[name]])
        for name in ("unlearned", "retrained")
    )
    attack = banks.ulira(ours, theirs)
    among = banks.klom(theirs[0::2], theirs[1::2])
    most = banks.largest_epsilon(len(ours), len(theirs))
    epsilon = np.minimum(banks.challenge_epsilon(ours, theirs), most)
    return [
        attack["accuracy"],
        attack["auc"],
        attack["tpr_at_1_percent"],
        rmia(world),
        float(np.quantile(banks.klom(ours, theirs), 0.95)),
        float(np.quantile(among, 0.95)),
        float(epsilon.mean()),
        most,
    ]


def rmia(world: dict[str, np.ndarray]) -> float:
    """Mean over the unlearned models of the AUC, with the retrained ones as references."""

    def confidences(models: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.stack([scores.confidence(model, labels) for model in models])

    ours, theirs = (confidences(world[n], world["labels"]) for n in ("unlearned", "retrained"))
    test = world["test_labels"]
    seen, others = (confidences(world[f"{n}_test"], test) for n in ("unlearned", "retrained"))
    half = np.arange(len(test)) % 2 == 0  # one half is the population, the other is attacked
    areas = []
    for number in range(len(ours)):
        population = seen[number][half], others[:, half]
        members = banks.rmia(ours[number], theirs, *population)
        strangers = banks.rmia(seen[number][~half], others[:, ~half], *population)
        areas.append(scores.auc(members, strangers))
    return float(np.mean(areas))


def lines(records: Sequence[Record]) -> list[list[str]]:
    table = []
    for method, runs in sorted(gathered(records, lambda record: record["method"]).items()):
        one = [same[0] for same in gathered(runs, lambda record: record["seed"]).values()]
        world = worlds(one)
        counts = [len(world["unlearned"]), len(world["retrained"])]
        if min(counts) < FEWEST:
            raise UsageError(
                f"{method}: {counts[0]} unlearned and {counts[1]} retrained models, and {FEWEST} of"
                " each are the fewest. Type references.count=64 and more seeds"
            )
        numbers = [f"{value:.3f}" for value in audited(world)]
        table.append([display_name(method), *map(str, counts), *numbers])
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=given, metavar="RESULTS")
    parser.add_argument("--out", type=given, metavar="FOLDER", help="populations.md and .csv")
    options = parser.parse_args(arguments)
    records = [r for r in collect(options.results) if is_classifier(r) and row_of(r, "unlearned")]
    if not records:
        where = ", ".join(map(str, options.results))
        raise UsageError(f"{where}: no run of a classifier there. Type outputs/.../runs")
    table = lines(records)
    Console().print(console_table((HEADER, table)), crop=False)
    if options.out:
        write_atomically(options.out / "populations.md", markdown_table(HEADER, table) + "\n")
        header = [name.replace("\n", " ") for name in HEADER]
        write_atomically(options.out / "populations.csv", csv_text(header, table))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        sys.exit(launch.complain(error.problems))
    except OSError as error:
        sys.exit(launch.complain(launch.storage_problems(error) or [str(error)]))
