"""The hosted service of Weights & Biases: who is logged in, sending what was written offline, and
the view of a project.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unrelearn.tracking import settle


def account() -> str:
    """Who is logged in: the entity to which runs are sent.

    Raises:
        Exception: nobody is, or W&B does not answer; the first line says which.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb.Api(timeout=20).viewer.entity


def send(folders: list[Path], seconds: float) -> str | None:
    """Upload the folders of one run by `wandb sync`; why it failed, or None.

    `wandb sync` leaves with exit code 0 and marks a run as synced even where the server refused its
    data: then the mark is removed, so that the next call sends it again.
    """
    settle(folders[0].parents[1])
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, folders)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            env={**os.environ, "WANDB_SILENT": "false", "NO_COLOR": "1"},
        )
        problems = [line for line in done.stdout.splitlines() if "ERROR" in line]
        problems += [] if all(map(sent, folders)) else ["wandb sync did not send it"]
    except subprocess.TimeoutExpired:
        problems = [f"no answer in {seconds:g} s"]
    if not problems:
        return None
    for folder in folders:
        for mark in folder.glob("*.wandb.synced"):
            mark.unlink()
    return problems[0].replace("wandb: ERROR ", "")


def sent(folder: Path) -> bool:
    return any(folder.glob("*.wandb.synced"))


STREAMS = ("forget", "retain", "other_sampler", "other_starts")
# of a class the first is logged, of a word the second
RECOVERY = {
    "Forget accuracy, of a word concept accuracy": ("forget_accuracy", "concept_accuracy"),
    "Retained accuracy": ("retain_accuracy",),
}
# a line is a data set, method and attack: the mean over the seeds, between the lowest and the
# highest
OVER_SEEDS = {
    "groupby": "Group",
    "groupby_aggfunc": "mean",
    "groupby_rangefunc": "minmax",
    "max_runs_to_show": 100,
}


def workspace(
    entity: str, project: str, axes: dict[str, str], scales: Iterable[float] = (1.0, 2.0)
) -> Any:
    """The saved view of a project as code; `.save()` sends it, `specification` turns it into JSON.
    axes: stage -> what its curves are drawn over. Needs wandb-workspaces.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    scales = list(scales)
    recovery = [
        wr.LinePlot(
            title=f"{words}, guidance {scale:g}",
            x="recovery/budget",
            y=[f"recovery/{metric}@{scale:g}" for metric in metrics],
            title_x="optimiser steps of the attack",
            range_y=(0, 1),
            **OVER_SEEDS,
        )
        for words, metrics in RECOVERY.items()
        for scale in scales
    ]
    samples = wr.MediaBrowser(
        title="Under the forgotten and the retained classes",
        num_columns=2,
        media_keys=[f"samples/{stream}_{float(scale)}" for stream in STREAMS for scale in scales],
    )
    losses = [
        wr.LinePlot(title=stage, x=axis, metric_regex=f"{stage}/.*", max_runs_to_show=20)
        for stage, axis in axes.items()
    ]
    cells = wr.WeavePanelSummaryTable(table_name="grid/cells")
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Unrelearn",
        sections=[
            ws.Section(name="Recovery", is_open=True, panels=recovery),
            ws.Section(name="Cells", is_open=True, panels=[cells]),
            ws.Section(name="Samples", is_open=True, panels=[samples]),
            ws.Section(name="Losses", panels=losses),
        ],
        runset_settings=ws.RunsetSettings(pinned_columns=["run:jobType", "run:group"]),
    )


def specification(view: Any) -> str:
    """The workspace as the JSON that would be sent. wandb-workspaces has no public name for it."""
    return view._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=1)
