"""What the evaluations of every kind of model have in common."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate

from unrelearn import source
from unrelearn.artifact import write_json
from unrelearn.stage import Stage


class Evaluation(Stage):
    """All that is measured of what is `seen` of a model. A measurement whose numbers change says so
    by VERSION in its file, which moves the keys of evaluations that hold it, and no others.
    """

    name = "evaluate"
    seen: Stage
    step: float | None = None  # of an attacked model, or the level of an edit

    @property
    def what(self) -> str:
        return self.seen.what

    def config(self) -> dict[str, Any]:
        given = self.run.cfg.eval
        targets = {name: get_object(one["_target_"]) for name, one in given.items()}
        versions = {n: getattr(inspect.getmodule(t), "VERSION", 1) for n, t in targets.items()}
        revised = {name: version for name, version in versions.items() if version > 1}
        changed = {"versions": revised} if revised else {}
        return {"eval": given, **source.for_keys(targets), **changed}

    def origin(self) -> tuple[Stage, str] | None:
        return self.seen.origin()

    def ruled_out(self) -> bool:
        return self.seen.ruled_out()

    def measured(self, evidence: object) -> Iterator[tuple[str, Any]]:
        """Each measurement by its name."""
        for name, given in self.run.cfg.eval.items():
            yield name, instantiate(given, _partial_=True, _convert_="all")(evidence)

    def keep(self, folder: Path, metrics: dict[str, Any]) -> None:
        write_json(folder / "metrics.json", metrics)
        with self.track("" if self.step is None else f" at {self.step:g}") as logged:
            logged.summary(metrics)
