"""Samplers and numbers of steps on the original model: share of samples the oracle takes for the
class asked for, and time.

    python benchmarks/samplers.py [OVERRIDES ...]      e.g. seed=1 paths.outputs=outputs

Pretrains first if that was not done. All classes, guidance 1, image i from noise i.
"""

import sys

import torch
from common import configuration, stopwatch
from runs import Cell

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.sampling import sample
from unrelearn.evals.evidence import accuracy
from unrelearn.stage import make
from unrelearn.stages.classifier import classifier

CASES = [
    ("ddim", 10),
    ("ddim", 15),
    ("ddim", 20),
    ("ddim", 50),
    ("dpmsolver++", 10),
    ("dpmsolver++", 15),
    ("ddpm", 1000),
]
IMAGES = {"ddpm": 500}  # of the slow one; 2,000 of the others

if __name__ == "__main__":
    cell = Cell(configuration("method=original", "attack=none", *sys.argv[1:]), "benchmark")
    make([cell.original.stage])
    make([cell.classifiers("main")])
    network = denoisers.load(cell.original.weights).to(cell.device)
    oracle = classifier(cell, "main")
    print(
        "| sampler | steps | accuracy, % | images | ms / image |\n| --- | ---: | ---: | ---: |"
        " ---: |"
    )
    for name, steps in CASES:
        labels = torch.arange(IMAGES.get(name, 2000)) % len(cell.dataset.class_names)
        kept = {}
        seconds = stopwatch(
            lambda name=name, steps=steps, labels=labels, kept=kept: kept.update(
                images=sample(
                    network,
                    labels,
                    schedule=cell.settings["model"]["schedule"],
                    name=name,
                    num_inference_steps=steps,
                )
            )
        )
        right = accuracy(oracle.look(kept["images"])[0].argmax(1), labels)
        print(
            f"| {name} | {steps} | {100 * right['value']:.1f} [{100 * right['low']:.1f},"
            f" {100 * right['high']:.1f}] | {len(labels)} | {1000 * seconds / len(labels):.2f} |",
            flush=True,
        )
