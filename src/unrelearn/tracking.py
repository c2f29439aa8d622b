"""Weights & Biases: the only file that imports wandb. A view of the results, never their record.

One W&B run per computed artefact, named by its stage and key, so a resumed stage continues under
the same id; one of job type `result` per finished cell (forget accuracy over the attack's budget),
so that W&B draws a line for each method; one of job type `grid` with a table of all cells.
docs/wandb.md says how to read them. Whatever goes wrong costs one warning line and nothing else:
what can not be sent is written offline, and what can not be written is left out.
"""

import contextlib
import hashlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.report.records import guidances, measured, number, row_of, takes_steps
from unrelearn.report.words import guidance_label

SETTINGS = {
    "X_TRANSACTION_LOG_FLUSH_INTERVAL": "1",  # seconds: a killed run keeps its curve
    "INIT_TIMEOUT": "30",
    "FINISH_TIMEOUT": "60",
    "FINISH_TIMEOUT_RAISES": "true",  # by default it waits for the server for ever
    "SILENT": "true",
    "CONSOLE": "off",
    "ERROR_REPORTING": "false",
}


HOMES = {"WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config", "WANDB_DATA_DIR": "data"}


def settle(outputs: Path) -> None:
    """Give W&B folders below outputs for what is not of a run, where the home folder can not be
    written, as in containers.

    It would else print a line of its internal log for each time it tried. A login and settings in a
    home folder stay in use.
    """
    with contextlib.suppress(RuntimeError):  # a user without a home folder
        if os.access(Path.home(), os.W_OK):
            return
    for variable, name in HOMES.items():
        if variable not in os.environ:
            os.environ[variable] = str((outputs / "wandb" / "home" / name).absolute())


class Run:
    """What a stage may log to; does nothing when tracking is off or has failed."""

    def __init__(self, run=None, mode: str = "", section: str = "", axis: str | None = None):
        self._run, self._mode, self._section, self._axis = run, mode, section, axis

    def log(self, row: dict, step: int) -> None:
        """Numbers, possibly nested, at a step of the stage's axis; steps must grow."""
        # W&B joins the parts of a resumed run by its own step
        self._try(lambda: self._run.log(self._point(row, step), step=step))

    def curve(self, points: Iterable[tuple[float, dict]]) -> None:
        """(place on the axis, numbers) of each point, in the order of the line; places need not
        grow.
        """
        for place, row in points:
            self._try(lambda place=place, row=row: self._run.log(self._point(row, place)))

    def summary(self, values: dict) -> None:
        self._try(lambda: self._run.summary.update(_flat(values)))

    def images(self, **grids: Tensor) -> None:
        """uint8 (N, C, H, W) each; the first 40 as one grid of 10 columns."""

        def grid(images: Tensor):
            import wandb

            n = min(40, len(images)) // 10 * 10 or len(images)
            rows = (
                images[:n]
                .movedim(1, -1)
                .reshape(-1, min(10, n), *images.shape[2:], images.shape[1])
            )
            return wandb.Image(
                rows.swapaxes(1, 2)
                .reshape(rows.shape[0] * rows.shape[2], -1, images.shape[1])
                .numpy()
                .squeeze()
            )

        self._try(
            lambda: self._run.log(
                {f"{self._section}/{name}": grid(images) for name, images in grids.items()}
            )
        )

    def table(self, name: str, rows: list[dict]) -> None:
        """Rows with the same keys, which become the columns."""

        def table():
            import wandb

            return wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])

        self._try(lambda: self._run.log({f"{self._section}/{name}": table()}))

    def _point(self, row: dict, place: float) -> dict:
        return {**_flat(row, f"{self._section}/"), self._axis: place}

    def _try(self, action) -> None:
        if self._run is None:
            return
        try:
            action()
        except Exception as error:
            _fail(self._mode, error)
            self._run = None


def _flat(values: dict, prefix: str = "") -> dict:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[f"{prefix}{name}"] = value
    return flat


_failed: set[str] = set()  # of "online" and "offline", what has failed in this process


def _fail(mode: str, error: object) -> None:
    """From now on do without this mode. One line says so, whatever fails after it."""
    if not _failed:
        why = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error)
        progress.say(
            f"warning: W&B does not work here ({(why.splitlines() or [''])[0][:160]}); going on,"
            " results are complete on disk. Type python scripts/sync_wandb.py --online to send"
            " later what could be written, or tracking=none to silence this"
        )
    _failed.add(mode)


class _Messages:
    """What W&B would print by itself, from a thread of its own."""

    def info(self, message: str) -> None:
        pass

    def warning(self, message: str) -> None:
        if (
            "Fatal error while uploading" in message
        ):  # a server that refuses in the middle of a run raises nothing
            _fail("online", re.sub(r"\x1b\[[0-9;]*m|wandb: |WARNING |\. .*", "", message))

    error = warning


@contextlib.contextmanager
def run(
    tracking: dict,
    outputs: Path,
    *,
    stage: str,
    key: str,
    group: str,
    config: dict,
    name: str,
    axis: str | None = None,
) -> Iterator[Run]:
    """A W&B run for one artefact, closed in any case. Online if the configuration says so and it
    works, else offline.

    Args: stage: its job type; `key` makes its id, `{stage}-{key}`. axis: what its curves are drawn
        over. W&B makes a section of what stands before the slash.
    """
    modes = [mode for mode in dict.fromkeys((tracking["mode"], "offline")) if mode not in _failed]
    if tracking["backend"] == "none" or tracking["mode"] == "disabled" or not distributed.is_main():
        modes = []
    logged = Run()
    section = (axis or stage).split("/")[0]
    for mode in modes:
        try:
            handle = _init(
                project=tracking["project"],
                group=tracking["group"] or group,
                job_type=stage,
                id=f"{stage}-{key}",
                name=name,
                resume="allow",
                config=config,
                tags=[stage, *tracking["tags"]],
                dir=outputs,
                mode=mode,
            )
            logged = Run(handle, mode, section, axis)
            if axis:
                handle.define_metric(axis, hidden=True)
                handle.define_metric(f"{section}/*", step_metric=axis)
            break
        except Exception as error:
            _fail(mode, error)
    handle = logged._run  # which forgets it at the first failure
    try:
        yield logged
    finally:
        if handle is not None:
            try:
                handle.finish()
            except Exception as error:
                _fail(logged._mode, error)


def _init(**arguments):
    settle(arguments["dir"])
    for name, value in SETTINGS.items():
        os.environ.setdefault(f"WANDB_{name}", value)
    logging.raiseExceptions = False  # on a full disk each line of W&B's log would be a traceback
    import wandb

    wandb.setup()
    wandb.termsetup(wandb.Settings(silent=True), _Messages())
    try:
        return wandb.init(**arguments)
    except Exception:
        wandb.teardown()  # its process still holds the id
        raise


# finished cells


def _exists(outputs: Path, id: str) -> bool:
    return any((outputs / "wandb").glob(f"*run-*-{id}"))


def result(record: dict, outputs: Path) -> None:
    """A run for a finished cell, unless there is one: forget and retained accuracy over the budget
    of its attack.

    Attacks by optimiser steps share the axis `recovery/budget`; the levels of any other attack have
    one of their own.
    """
    key = hashlib.sha256(record["name"].encode()).hexdigest()[:16]
    if _exists(outputs, f"result-{key}"):
        return
    steps = takes_steps(record)
    said = (
        "dataset",
        "method",
        "attack",
        "seed",
        "forget_classes",
        "protocol",
        "name",
        "command",
        "config",
    )
    group, axis = (
        "-".join(record[name] for name in said[:3]),
        ("recovery/budget" if steps else f"recovery_{record['attack']}/level"),
    )
    with run(
        record["config"]["tracking"],
        outputs,
        stage="result",
        key=key,
        group=group,
        name=record["name"],
        axis=axis,
        config={name: record.get(name) for name in said},
    ) as logged:
        # at no budget the attacked model is the unlearned one; that an edit of level 0 changes
        # nothing is not so of every edit
        logged.curve(
            (row["step"] or 0, _accuracies(row, record))
            for row in record["rows"]
            if row["metrics"]
            and (row["model"] == "attacked" or (steps and row["model"] == "unlearned"))
        )
        logged.summary(
            {
                model: _accuracies(row, record)
                for model in ("original", "unlearned", "attacked")
                if (row := row_of(record, model)) is not None
            }
        )


def _accuracies(row: dict, record: dict) -> dict:
    """{"forget_accuracy@1": 0.93, ...} of one model, at each guidance scale."""
    return {
        f"{metric}@{guidance_label(scale)}": value
        for metric in ("forget_accuracy", "retain_accuracy")
        for scale in guidances(record, metric)
        if (value := number(measured(row, metric, scale))) is not None
    }


def grid(records: list[dict], outputs: Path, tracking: dict) -> None:
    """A run with one table, a row for each cell, unless there is one of the same cells; `tracking`
    as for `run`.
    """
    key = hashlib.sha256(
        " ".join(sorted(record["name"] for record in records)).encode()
    ).hexdigest()[:16]
    if _exists(outputs, f"grid-{key}"):
        return
    values = [
        {
            (name, model): value
            for model in ("original", "unlearned", "attacked")
            for name, value in _accuracies(row_of(record, model) or {}, record).items()
        }
        for record in records
    ]
    names = sorted({name for row in values for name, _ in row})
    rows = [
        {
            **{name: record[name] for name in ("dataset", "method", "attack", "seed")},
            "forget_class": ", ".join(map(str, record["forget_classes"])),
            **{
                f"{name} {model}": row.get((name, model))
                for name in names
                for model in ("original", "unlearned", "attacked")
            },
            "status": record["status"],
            "protocol": record.get("protocol"),
            "run": record["name"],
        }
        for record, row in zip(records, values, strict=True)
    ]
    group = "-".join(sorted({record["dataset"] for record in records}))
    with run(
        tracking,
        outputs,
        stage="grid",
        key=key,
        group=group,
        config={"cells": len(rows)},
        name=f"grid of {len(rows)} cells",
    ) as logged:
        logged.table("cells", rows)


# the hosted service


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


def workspace(
    entity: str, project: str, axes: dict[str, str], scales: Iterable[float] = (1.0, 2.0)
):
    """The saved view of a project as code; `.save()` sends it, `specification` turns it into JSON.
    axes: stage -> what its curves are drawn over. Needs wandb-workspaces.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    # a line is a data set, method and attack: the mean over the seeds, between the lowest and the
    # highest
    over_seeds = {
        "groupby": "Group",
        "groupby_aggfunc": "mean",
        "groupby_rangefunc": "minmax",
        "max_runs_to_show": 100,
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Unrelearn",
        sections=[
            ws.Section(
                name="Recovery",
                is_open=True,
                panels=[
                    wr.LinePlot(
                        title=f"{words}, guidance {scale:g}",
                        x="recovery/budget",
                        y=[f"recovery/{metric}@{scale:g}"],
                        title_x="optimiser steps of the attack",
                        range_y=(0, 1),
                        **over_seeds,
                    )
                    for metric, words in (
                        ("forget_accuracy", "Forget accuracy"),
                        ("retain_accuracy", "Retained accuracy"),
                    )
                    for scale in scales
                ],
            ),
            ws.Section(
                name="Cells",
                is_open=True,
                panels=[wr.WeavePanelSummaryTable(table_name="grid/cells")],
            ),
            ws.Section(
                name="Samples",
                is_open=True,
                panels=[
                    wr.MediaBrowser(
                        title="Under the forgotten and the retained classes",
                        num_columns=2,
                        media_keys=[
                            f"samples/{stream}_{float(scale)}"
                            for stream in ("forget", "retain", "other_sampler", "other_starts")
                            for scale in scales
                        ],
                    )
                ],
            ),
            ws.Section(
                name="Losses",
                panels=[
                    wr.LinePlot(
                        title=stage, x=axis, metric_regex=f"{stage}/.*", max_runs_to_show=20
                    )
                    for stage, axis in axes.items()
                ],
            ),
        ],
        runset_settings=ws.RunsetSettings(pinned_columns=["run:jobType", "run:group"]),
    )


def specification(view) -> str:
    """The workspace as the JSON that would be sent. wandb-workspaces has no public name for it."""
    return view._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=1)
