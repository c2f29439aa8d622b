"""Weights & Biases: the only file that imports wandb. A view of the results, never their record.

One W&B run per computed artefact: its id is the artefact's key, so a resumed stage continues under the same id; group is
the experiment, job type the stage. Whatever goes wrong in it costs one warning line and nothing else.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from unrelearn import distributed, progress


class Run:
    """What a stage may log to; does nothing when tracking is off or has failed."""

    def __init__(self, run=None):
        self._run = run

    def log(self, row: dict, step: int) -> None:
        """Numbers, possibly nested, at an optimiser step."""
        self._try(lambda: self._run.log({**_flat(row), "trainer/global_step": step}, step=step))

    def summary(self, values: dict) -> None:
        self._try(lambda: self._run.summary.update(_flat(values)))

    def images(self, **grids: Tensor) -> None:
        """uint8 (N, C, H, W) each; the first 40 as one grid of 10 columns."""
        import wandb

        def grid(images: Tensor):
            n = min(40, len(images)) // 10 * 10 or len(images)
            rows = images[:n].movedim(1, -1).reshape(-1, min(10, n), *images.shape[2:], images.shape[1])
            return wandb.Image(rows.swapaxes(1, 2).reshape(rows.shape[0] * rows.shape[2], -1, images.shape[1])
                               .numpy().squeeze())

        self._try(lambda: self._run.log({name: grid(images) for name, images in grids.items()}))

    def curve(self, name: str, columns: list[str], rows: list[list]) -> None:
        import wandb

        self._try(lambda: self._run.log({name: wandb.Table(columns=columns, data=rows)}))

    def _try(self, action) -> None:
        if self._run is None:
            return
        try:
            action()
        except Exception as error:
            _warn(error)
            self._run = None


def _flat(values: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[f"{prefix}{name}"] = value
    return flat


_warned = False


def _warn(error: Exception) -> None:
    global _warned
    if not _warned:
        progress.say(f"warning: W&B does not work here ({type(error).__name__}: {' '.join(str(error).split())[:160]}); "
                     "going on without it, results are complete on disk. tracking=none silences this")
    _warned = True


@contextlib.contextmanager
def run(tracking: dict, outputs: Path, *, stage: str, key: str, group: str, config: dict) -> Iterator[Run]:
    """A W&B run for one artefact, closed in any case."""
    if tracking["backend"] == "none" or tracking["mode"] == "disabled" or _warned or not distributed.is_main():
        yield Run()
        return
    handle = None
    try:
        # records reach the disk every second: a killed run keeps its curve
        os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
        import wandb

        handle = wandb.init(
            project=tracking["project"], group=tracking["group"] or group, job_type=stage, id=f"{stage}-{key}",
            name=f"{stage} {key[:8]}", resume="allow", config=config, tags=[stage, *tracking["tags"]], dir=outputs,
            mode=tracking["mode"], settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )
    except Exception as error:
        _warn(error)
    try:
        yield Run(handle)
    finally:
        if handle is not None:
            with contextlib.suppress(Exception):
                handle.finish()
