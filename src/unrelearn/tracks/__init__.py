"""What kinds of model there are: which stages a run of each has.

A file for each, which offers these five functions, and STAGES, the words of `stages` that a run of
it knows; a run's kind of model says which.
"""

from importlib import import_module
from typing import Any

from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.train import Model


def _of(run: Run) -> Any:
    return import_module(f"unrelearn.tracks.{run.kind.track}")


def models(run: Run) -> list[Model]:
    """The models that are measured, each once: original, unlearned, attacked at each place."""
    return _of(run).models(run)


def evaluations(run: Run) -> list[Any]:
    """The stages that measure them: each has its `model`, and `seen`, what it measures of it."""
    return _of(run).evaluations(run)


def targets(run: Run) -> list[Stage]:
    """What `stages` asks for, of which each needs others; all of a run if nothing is left out."""
    return _of(run).targets(run)


def rows(run: Run) -> list[dict[str, Any]]:
    """What its record says of each model."""
    rows: list[dict[str, Any]] = _of(run).rows(run)
    return rows


def about(run: Run) -> dict[str, Any]:
    """What its record says besides."""
    return _of(run).about(run)
