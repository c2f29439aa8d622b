"""Weights & Biases: a view of the results, never their record. This file and `hosted` alone import
it.

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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.report.records import (
    MODELS,
    guidances,
    measured,
    number,
    presence,
    row_of,
    takes_steps,
)
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


class LoggedRun:
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
            c, h, w = images.shape[1:]
            rows = images[:n].movedim(1, -1).reshape(-1, min(10, n), h, w, c).swapaxes(1, 2)
            return wandb.Image(rows.reshape(len(rows) * h, -1, c).numpy().squeeze())

        named = {f"{self._section}/{name}": images for name, images in grids.items()}
        self._try(lambda: self._run.log({name: grid(images) for name, images in named.items()}))

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
        # a server that refuses in the middle of a run raises nothing
        if "Fatal error while uploading" in message:
            _fail("online", re.sub(r"\x1b\[[0-9;]*m|wandb: |WARNING |\. .*", "", message))

    error = warning


@dataclass(frozen=True, kw_only=True)
class About:
    """What a W&B run is of."""

    stage: str  # its job type
    key: str  # makes its id, `{stage}-{key}`
    group: str
    config: dict
    name: str
    # what its curves are drawn over; W&B makes a section of what stands before the slash
    axis: str | None = None

    @property
    def section(self) -> str:
        return (self.axis or self.stage).split("/")[0]


@contextlib.contextmanager
def run(tracking: dict, outputs: Path, about: About) -> Iterator[LoggedRun]:
    """A W&B run for one artefact, closed in any case. Online if the configuration says so and it
    works, else offline.
    """
    modes = [mode for mode in dict.fromkeys((tracking["mode"], "offline")) if mode not in _failed]
    if tracking["backend"] == "none" or tracking["mode"] == "disabled" or not distributed.is_main():
        modes = []
    logged = LoggedRun()
    for mode in modes:
        try:
            handle = _init(
                project=tracking["project"],
                group=tracking["group"] or about.group,
                job_type=about.stage,
                id=f"{about.stage}-{about.key}",
                name=about.name,
                resume="allow",
                config=about.config,
                tags=[about.stage, *tracking["tags"]],
                dir=outputs,
                mode=mode,
            )
            logged = LoggedRun(handle, mode, about.section, about.axis)
            if about.axis:
                handle.define_metric(about.axis, hidden=True)
                handle.define_metric(f"{about.section}/*", step_metric=about.axis)
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

# of its record, what a result is found by in W&B
SAID = ["dataset", "method", "attack", "seed", "forget_classes"]
SAID += ["protocol", "name", "command", "config"]


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
    about = About(
        stage="result",
        key=key,
        group="-".join(record[name] for name in SAID[:3]),
        name=record["name"],
        axis="recovery/budget" if steps else f"recovery_{record['attack']}/level",
        config={name: record.get(name) for name in SAID},
    )
    # at no budget the attacked model is the unlearned one; that an edit of level 0 changes nothing
    # is not so of every edit
    shown = ("unlearned", "attacked") if steps else ("attacked",)
    rows = [row for row in record["rows"] if row["metrics"] and row["model"] in shown]
    last = {model: row_of(record, model) for model in MODELS}
    with run(record["config"]["tracking"], outputs, about) as logged:
        logged.curve((row["step"] or 0, _accuracies(row, record)) for row in rows)
        logged.summary({model: _accuracies(row, record) for model, row in last.items() if row})


def _accuracies(row: dict, record: dict) -> dict:
    """{"forget_accuracy@1": 0.93, ...} of one model, at each guidance scale; of a word its concept
    accuracy, as the exact combination says little.
    """
    return {
        f"{metric}@{guidance_label(scale)}": value
        for metric in (presence(record).name, "retain_accuracy")
        for scale in guidances(record, metric)
        if (value := number(measured(row, metric, scale))) is not None
    }


def grid(records: list[dict], outputs: Path, tracking: dict) -> None:
    """A run with one table, a row for each cell, unless there is one of the same cells; `tracking`
    as for `run`.
    """
    cells = " ".join(sorted(record["name"] for record in records))
    key = hashlib.sha256(cells.encode()).hexdigest()[:16]
    if _exists(outputs, f"grid-{key}"):
        return
    values = [
        {
            (name, model): value
            for model in MODELS
            for name, value in _accuracies(row_of(record, model) or {}, record).items()
        }
        for record in records
    ]
    names = sorted({name for row in values for name, _ in row})
    rows = [
        {
            **{name: record[name] for name in ("dataset", "method", "attack", "seed")},
            "forget_class": ", ".join(map(str, record["forget_classes"])),
            **{f"{name} {model}": row.get((name, model)) for name in names for model in MODELS},
            "status": record["status"],
            "protocol": record.get("protocol"),
            "run": record["name"],
        }
        for record, row in zip(records, values, strict=True)
    ]
    group = "-".join(sorted({record["dataset"] for record in records}))
    about = About(
        stage="grid",
        key=key,
        group=group,
        config={"cells": len(rows)},
        name=f"grid of {len(rows)} cells",
    )
    with run(tracking, outputs, about) as logged:
        logged.table("cells", rows)
