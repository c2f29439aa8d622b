"""What a command would compute and cost, before any of it: `dry_run=true`.

FLOPs are those of the denoiser, counted by torch (two per multiplication and addition; a backward
pass taken as two forward passes). Classifiers, distances and pictures are left out: beside a
network of millions of weights they are small.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from unrelearn.config import every_stage
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.run import Run

BYTES_PER_WEIGHT = 4


def of_network(run: Run) -> tuple[int, int]:
    """(FLOPs of one forward pass of one image, number of weights) of the network of a run."""
    return forward_cost(
        image_size=run.dataset.image_size,
        channels=run.dataset.channels,
        num_classes=len(run.dataset.class_names),
        unet=run.slice(run.cfg.model.unet),
    )


def forward_cost(
    *, image_size: int, channels: int, num_classes: int, unet: dict[str, Any]
) -> tuple[int, int]:
    """(FLOPs of one forward pass of one image, number of weights); nothing is allocated, and each
    network counted once.
    """
    return _forward_cost(image_size, channels, num_classes, json.dumps(unet))


@lru_cache
def _forward_cost(image_size: int, channels: int, num_classes: int, unet: str) -> tuple[int, int]:
    with torch.device("meta"):
        network = denoisers.build(
            image_size=image_size, channels=channels, num_classes=num_classes, **json.loads(unet)
        ).eval()
        x_t = torch.empty(1, channels, image_size, image_size)
        label = torch.zeros(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            denoisers.predict(network, x_t, torch.zeros(1, dtype=torch.long), label)
    return counter.get_total_flops(), sum(p.numel() for p in network.parameters())


def forward_passes(settings: dict[str, Any], steps: int, each: tuple[float, float]) -> float:
    """Of one image, in so many steps; a backward pass counts as two. each: what a step costs, see
    Method.passes.
    """
    trained, only_forward = each
    return steps * settings["batch_size"] * (3 * trained + only_forward) if steps else 0


def estimate(run: Run, stages: Iterable[Any]) -> list[dict[str, Any]]:
    """One row for each stage that costs something: {"key", "stage", "what", "there", "steps",
    "flops", "bytes"}.
    """
    rows, left_out = [], set(every_stage()) - set(run.cfg.stages)
    for stage in sorted(stages, key=lambda stage: not stage.trains):
        cost = stage.cost()
        if cost.bytes and stage.name not in left_out:
            row = {"key": stage.key, "stage": stage.name, "what": stage.what}
            there = run.store.path(stage.spec).exists()
            row |= {"steps": cost.steps, "flops": cost.flops, "bytes": cost.bytes, "there": there}
            rows.append(row)
    return rows


def show(run: Run, stages: Iterable[Any], console: Console) -> None:
    """Print the estimate and its sum."""
    cost, rows = run.cfg.cost, estimate(run, stages)
    speed = cost.device_tflops * 1e12 * cost.utilisation
    table = Table("stage", "of", "", title=f"dry run: {run.group}", title_justify="left")
    for heading in ("optimiser steps", "PFLOP", "GPU-hours", "GiB on disk"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["stage"],
            row["what"],
            "there" if row["there"] else "to do",
            f"{row['steps']:,}" if row["steps"] else "",
            f"{row['flops'] / 1e15:,.3g}",
            f"{row['flops'] / speed / 3600:,.3g}",
            f"{row['bytes'] / 2**30:,.3g}",
        )
    console.print(table)
    missing = [row for row in rows if not row["there"]]
    flops, disk = (sum(row[name] for row in missing) for name in ("flops", "bytes"))
    console.print(
        f"to do: {sum(row['steps'] for row in missing):,} optimiser steps, {flops / 1e15:,.3g}"
        f" PFLOP = {flops / speed / 3600:,.3g} GPU-hours at {cost.utilisation:.0%} of"
        f" {cost.device_tflops:g} TFLOP/s (cost.utilisation, cost.device_tflops),"
        f" {disk / 2**30:,.3g} GiB in {run.outputs}. Nothing was computed."
    )
