"""Our training step of a classifier against a bare PyTorch loop of the same network.

    python benchmarks/classifier_step.py experiment=classification
    python benchmarks/classifier_step.py experiment=classification precision=bf16-mixed

Equal maths on both sides: a random batch, cross-entropy, clipping, SGD with momentum and weight
decay, one-cycle rate. The steps after the first 20 of each run are timed. The bare loop is always
float32; with another precision the ratio says what that is worth.
"""

import tempfile
import time
from pathlib import Path

import torch
from common import configuration, interleaved, report
from runs import Cell
from torch.nn import functional as F

from unrelearn import launch, progress
from unrelearn.classification.classifying import ClassifierPretraining, Classifying, unit
from unrelearn.fit import FitOptions, fit

FIRST = 20


def ours(cell: Cell, last: int) -> float:
    stamps = {}
    recipe = cell.cfg.model.pretrain
    method = ClassifierPretraining(
        max_steps=last,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_schedule="one_cycle",
    )
    options = FitOptions(
        log_row=lambda step, row: stamps.update({step: time.perf_counter()}),
        precision=cell.cfg.precision,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(Classifying(method, cell.task(None)), Path(folder), "ours", options)
    return (stamps[last] - stamps[FIRST]) / (last - FIRST)


def bare(cell: Cell, last: int) -> float:
    task, recipe = cell.task(None), cell.cfg.model.pretrain
    network, data = task.network.train(), task.retain
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=5e-4
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=last)
    for step in range(last):
        if step == FIRST:
            started = time.perf_counter()
        index = torch.randint(len(data), (recipe.batch_size,))
        loss = F.cross_entropy(network(unit(data.images[index])), data.labels[index])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    return (time.perf_counter() - started) / (last - FIRST)


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("overrides", nargs="+", metavar="OVERRIDE")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    last = FIRST + arguments.steps
    progress.console.quiet = True
    with tempfile.TemporaryDirectory() as outputs:
        settings = configuration(
            *arguments.overrides, f"paths.outputs={outputs}", "trainer.accelerator=cpu"
        )
        cell = Cell(settings, "benchmark")
        seconds = interleaved(
            arguments.rounds, ours=lambda: ours(cell, last), bare=lambda: bare(cell, last)
        )
    parts = (cell.cfg.dataset["_target_"].split(".")[-1], cell.cfg.model.name, cell.cfg.precision)
    report(
        "_".join(("classifier_step", *parts)),
        seconds["ours"],
        seconds["bare"],
        "<= 1.05",
        what=f"seconds per step, batch {cell.cfg.model.pretrain.batch_size}",
    )
