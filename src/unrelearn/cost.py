"""What a command would compute and cost, before any of it: `dry_run=true`.

FLOPs are those of the denoiser, counted by torch (two per multiplication and addition; a backward
pass taken as two forward passes). Classifiers, distances and pictures are left out: beside a
network of millions of weights they are small.
"""

import json
from functools import lru_cache
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.denoising import Pretraining

BYTES_PER_WEIGHT = 4


def forward_cost(
    *, image_size: int, channels: int, num_classes: int, unet: dict
) -> tuple[int, int]:
    """(FLOPs of one forward pass of one image, number of weights); nothing is allocated, and each
    network counted once.
    """
    return _forward_cost(image_size, channels, num_classes, json.dumps(unet))


@lru_cache
def _forward_cost(image_size: int, channels: int, num_classes: int, unet: str) -> tuple[int, int]:
    unet = json.loads(unet)
    with torch.device("meta"):
        network = denoisers.build(
            image_size=image_size, channels=channels, num_classes=num_classes, **unet
        ).eval()
        x_t, label = (
            torch.empty(1, channels, image_size, image_size),
            torch.zeros(1, dtype=torch.long),
        )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            denoisers.predict(network, x_t, torch.zeros(1, dtype=torch.long), label)
    return counter.get_total_flops(), sum(p.numel() for p in network.parameters())


def forward_passes(settings: dict, steps: int, each: tuple[float, float]) -> float:
    """Of one image, in so many steps; a backward pass counts as two. each: what a step costs, see
    Method.passes.
    """
    trained, only_forward = each
    return steps * settings["batch_size"] * (3 * trained + only_forward) if steps else 0


def share_of_pretraining(pipeline) -> float | None:
    """What the attack's training costs, as a share of the original's; None if either was not
    trained here.

    What an attack draws before its first step is not counted.
    """
    recipe, steps = pipeline.cfg["model"]["pretrain"], pipeline.steps("attack")
    if pipeline.cfg["model"]["checkpoint"] is not None or not pipeline.attacked or not steps:
        return None
    spent = forward_passes(pipeline.cfg["attack"], steps, pipeline.passes("attack"))
    return spent / forward_passes(recipe, recipe["max_steps"], Pretraining.passes)


def estimate(pipeline) -> list[dict]:
    """One row for each artefact with the denoiser in it: {"stage", "what", "there", "steps",
    "flops", "bytes"}.
    """
    cfg, dataset = pipeline.cfg, pipeline.dataset
    forward, weights = forward_cost(
        image_size=dataset.image_size,
        channels=dataset.channels,
        num_classes=len(dataset.class_names),
        unet=cfg["model"]["unet"],
    )
    image = dataset.channels * dataset.image_size**2
    rows = []

    def add(spec, what: str, steps: int, flops: float, size: float) -> None:
        if spec.stage in cfg["stages"] and all(row["key"] != spec.key for row in rows):
            rows.append(
                {
                    "key": spec.key,
                    "stage": spec.stage,
                    "what": what,
                    "steps": steps,
                    "flops": flops,
                    "bytes": size,
                    "there": pipeline.store.path(spec).exists(),
                }
            )

    def training(
        spec, what: str, settings: dict, steps: int, each: tuple[float, float], snapshots: int = 1
    ) -> None:
        copies = snapshots * (1 if settings.get("ema_decay") is None else 2)
        add(
            spec,
            what,
            steps,
            forward * forward_passes(settings, steps, each),
            copies * weights * BYTES_PER_WEIGHT,
        )

    if cfg["model"]["checkpoint"] is None:
        recipe = cfg["model"]["pretrain"]
        training(pipeline.pretrain_spec, "", recipe, recipe["max_steps"], Pretraining.passes)
    if pipeline.unlearned != pipeline.pretrained:
        training(
            pipeline.unlearned.spec,
            pipeline.names["method"],
            cfg["method"],
            pipeline.steps("method"),
            pipeline.passes("method"),
        )
    for model in pipeline.attacked[-1:]:
        training(
            model.spec,
            pipeline.names["attack"],
            cfg["attack"],
            pipeline.steps("attack"),
            pipeline.passes("attack"),
            len(pipeline.attacked),
        )
    for model in (pipeline.pretrained, pipeline.unlearned, *pipeline.attacked):
        step = "" if model.step is None else f" at {model.step}"
        jobs = pipeline.sampling_jobs(model)
        add(
            pipeline.samples_spec(model),
            f"{model.spec.stage}{step}",
            0,
            sum(job.passes for job in jobs) * forward,
            sum(len(job.labels) for job in jobs) * image,
        )
    return rows


def show(pipeline, console: Console) -> None:
    """Print the estimate and its sum."""
    cost, rows = pipeline.cfg["cost"], estimate(pipeline)
    speed = cost["device_tflops"] * 1e12 * cost["utilisation"]
    table = Table("stage", "of", "", title=f"dry run: {pipeline.group}", title_justify="left")
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
    flops = sum(row["flops"] for row in missing)
    console.print(
        f"to do: {sum(row['steps'] for row in missing):,} optimiser steps, {flops / 1e15:,.3g}"
        f" PFLOP = {flops / speed / 3600:,.3g} GPU-hours at {cost['utilisation']:.0%} of"
        f" {cost['device_tflops']:g} TFLOP/s (cost.utilisation, cost.device_tflops),"
        f" {sum(row['bytes'] for row in missing) / 2**30:,.3g} GiB in {Path(pipeline.outputs)}."
        " Nothing was computed."
    )
