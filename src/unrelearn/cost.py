"""What a command would compute and cost, before any of it: `dry_run=true`.

FLOPs are those of the network, counted by torch (two per multiplication and addition; a backward
pass taken as two forward passes). Classifiers, distances and pictures are left out: beside a
network of millions of weights they are small.
"""

from collections.abc import Iterable
from typing import Any

from unrelearn.config import every_stage
from unrelearn.run import Run
from unrelearn.terminal import Console, Table

BYTES_PER_WEIGHT = 4


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
        if (cost.bytes or cost.steps) and stage.name not in left_out:
            row = {"key": stage.key, "stage": stage.name, "what": stage.what}
            there = run.store.path(stage.spec).exists()
            row |= {"steps": cost.steps, "flops": cost.flops, "bytes": cost.bytes, "there": there}
            rows.append(row)
    return rows


def counted(row: dict[str, Any]) -> bool:
    """Whether FLOPs and bytes of a row of the estimate are known; of federations they are not."""
    return bool(row["flops"]) or not row["steps"]


def show(run: Run, stages: Iterable[Any], console: Console) -> None:
    """Print the estimate and its sum."""
    cost, rows = run.cfg.cost, estimate(run, stages)
    speed = cost.device_tflops * 1e12 * cost.utilisation
    table = Table("stage", "of", "", title=f"dry run: {run.group}", title_justify="left")
    for heading in ("optimiser steps", "PFLOP", "GPU-hours", "GiB on disk"):
        table.add_column(heading, justify="right")
    for row in rows:
        numbers = row["flops"] / 1e15, row["flops"] / speed / 3600, row["bytes"] / 2**30
        table.add_row(
            row["stage"],
            row["what"],
            "there" if row["there"] else "to do",
            f"{row['steps']:,}" if row["steps"] else "",
            *(f"{n:,.3g}" if counted(row) else "not counted" for n in numbers),
        )
    console.print(table)
    for group in ("method", "attack"):
        if parts := run.kind.memory(getattr(run, group)):
            held = ", ".join(f"{name} {size / 2**30:.3g}" for name, size in parts.items())
            whole, weights = (n / 2**30 for n in (sum(parts.values()), parts["weights"]))
            console.print(
                f"a step of {run.names[group]}: at most {whole:.3g} GiB on each device ({held}),"
                f" and {weights:.3g} more where a copy of the first model is held beside"
            )
    missing = [row for row in rows if not row["there"]]
    flops, disk = (sum(row[name] for row in missing) for name in ("flops", "bytes"))
    unknown = [row["stage"] for row in missing if not counted(row)]
    beside = f", and of {unknown[0]} what is not counted" if unknown else ""
    console.print(
        f"to do: {sum(row['steps'] for row in missing):,} optimiser steps, {flops / 1e15:,.3g}"
        f" PFLOP = {flops / speed / 3600:,.3g} GPU-hours at {cost.utilisation:.0%} of"
        f" {cost.device_tflops:g} TFLOP/s (cost.utilisation, cost.device_tflops),"
        f" {disk / 2**30:,.3g} GiB in {run.outputs}{beside};"
        " classifiers and distances come on top. Nothing was computed."
    )
