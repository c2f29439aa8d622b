"""Do few sampling steps rank methods as 1000 ancestral steps do? Frechet distance and forget
accuracy of the same models.

    python benchmarks/ranking.py [OVERRIDES ...]      e.g. seed=1 paths.outputs=outputs

Unlearned models and models attacked by DiMRA, each drawn by every sampler from the same noise: 200
images under the forgotten class and 20 of each other class at guidance 1. Kendall's tau-b compares
each sampler's order of the models with that of 1000 ancestral steps. Trains what is missing;
results in benchmarks/results/ranking.json.
"""

import json
import sys

import torch
from common import RESULTS, configuration
from runs import Cell
from scipy.stats import kendalltau

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.sampling import sample
from unrelearn.evals.evidence import accuracy
from unrelearn.evals.fd_oracle import frechet_distance
from unrelearn.stage import make
from unrelearn.stages.classifier import classifier
from unrelearn.stages.images import images

REFERENCE = ("ddpm", 1000)
SAMPLERS = [
    ("ddim", 10),
    ("ddim", 20),
    ("ddim", 50),
    ("dpmsolver++", 10),
    ("dpmsolver++", 20),
    ("dpmsolver++", 50),
    REFERENCE,
]
MODELS = [
    ("original", False),
    ("retrain", False),
    ("dimum", False),
    ("dimum", True),
    ("salun", True),
    ("random_label", True),
    ("gradient_ascent", False),
    ("gradient_ascent", True),
]
FORGET, RETAIN_EACH = 200, 20


def measure(cell: Cell, model, name: str, steps: int) -> dict:
    network = denoisers.load(model.weights).to(cell.device)
    kept = [c for c in range(len(cell.dataset.class_names)) if c not in cell.forget]
    options = {
        "schedule": cell.settings["model"]["schedule"],
        "name": name,
        "num_inference_steps": steps,
    }
    forget = torch.tensor(cell.forget).repeat(FORGET // len(cell.forget))
    retain, oracle = torch.tensor(kept).repeat(RETAIN_EACH), classifier(cell, "main")
    guess = oracle.look(sample(network, forget, stream="forget", **options))[0].argmax(1)
    features = oracle.look(sample(network, retain, stream="retain", **options))[1]
    real = oracle.look(images(cell).train.of_classes(cell.forget, keep=False).images)[1]
    return {
        "forget_accuracy": accuracy(guess, forget)["value"],
        "fd_oracle": frechet_distance(features, real),
    }


def main() -> None:
    table: dict[str, dict[str, dict]] = {}
    for method, attacked in MODELS:
        cfg = configuration(f"method={method}", "attack=dimra", *sys.argv[1:])
        cell = Cell(cfg, "benchmark")
        make([cell.original.stage])
        make([cell.classifiers("main")])
        make([cell.unlearned.stage])
        if attacked:
            make([cell.attacked[-1].stage])
        model = cell.attacked[-1] if attacked else cell.unlearned
        row = f"{method}, attacked" if attacked else method
        for name, steps in SAMPLERS:
            table.setdefault(f"{name} {steps}", {})[row] = measure(cell, model, name, steps)
        print(
            row,
            {
                sampler: {k: round(v, 3) for k, v in rows[row].items()}
                for sampler, rows in table.items()
            },
            flush=True,
        )
    reference, agreement = table["{} {}".format(*REFERENCE)], {}
    for sampler, rows in table.items():
        agreement[sampler] = {
            metric: float(
                kendalltau(
                    [v[metric] for v in reference.values()],
                    [rows[row][metric] for row in reference],
                ).statistic
            )
            for metric in ("forget_accuracy", "fd_oracle")
        }
        print(sampler, {metric: round(value, 2) for metric, value in agreement[sampler].items()})
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ranking.json").write_text(
        json.dumps(
            {
                "kendall_tau_b": agreement,
                "values": table,
                "command": " ".join(["python", *sys.argv]),
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
