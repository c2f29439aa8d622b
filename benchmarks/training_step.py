"""Our training step (Lightning module, reseeding, EMA, recording) against a bare PyTorch loop of
the same network.

    python benchmarks/training_step.py

Equal maths on both sides: batch 64, noise, label dropout, clipping, fused Adam, one-cycle rate,
EMA. Steps 20 to 120 of each run are timed, so the start of neither counts.
"""

import tempfile
import time
from pathlib import Path

import torch
from common import configuration, interleaved, report
from runs import Cell

from unrelearn import launch, progress
from unrelearn.data import to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.denoising import DenoiserPretraining, Denoising
from unrelearn.diffusion.kind import recipe
from unrelearn.fit import FitOptions, fit

FIRST, LAST = 20, 120


def ours(cell: Cell) -> float:
    stamps = {}
    arguments = {**recipe(cell.settings["model"]["pretrain"]), "max_steps": LAST}
    options = FitOptions(log_row=lambda step, row: stamps.update({step: time.perf_counter()}))
    with tempfile.TemporaryDirectory() as folder:
        module = Denoising(DenoiserPretraining(**arguments), cell.task(None))
        fit(module, Path(folder), "ours", options)
    return (stamps[LAST] - stamps[FIRST]) / (LAST - FIRST)


def bare(cell: Cell) -> float:
    task, settings = cell.task(None), recipe(cell.settings["model"]["pretrain"])
    network, data, device = task.network.train(), task.retain, cell.device
    schedule = maths.alphas_cumprod().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings["learning_rate"], fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings["learning_rate"], total_steps=LAST
    )
    average = [p.detach().clone() for p in network.parameters()]
    n, null = settings["batch_size"], len(task.class_names)
    for step in range(LAST):
        if step == FIRST:
            _wait(device)
            started = time.perf_counter()
        index = torch.randint(len(data), (n,), device=device)
        x_0, t = to_model_range(data.images[index]), torch.randint(1000, (n,), device=device)
        noise = torch.randn_like(x_0)
        labels = torch.where(
            torch.rand(n, device=device) < settings["label_dropout"], null, data.labels[index]
        )
        output = denoisers.predict(network, maths.add_noise(x_0, noise, t, schedule), t, labels)
        (output - noise).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings["grad_clip"])
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(network.parameters()), 1 - settings["ema_decay"])
    _wait(device)
    return (time.perf_counter() - started) / (LAST - FIRST)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    progress.console.quiet = True
    with tempfile.TemporaryDirectory() as outputs:
        cell = Cell(configuration(f"paths.outputs={outputs}"), "benchmark")
        seconds = interleaved(arguments.rounds, ours=lambda: ours(cell), bare=lambda: bare(cell))
    report(
        "training_step",
        seconds["ours"],
        seconds["bare"],
        "<= 1.05",
        what="seconds per step, unet_tiny, batch 64",
    )
