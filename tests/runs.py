"""A run with its models by name, as the tests speak of them."""

from functools import cached_property
from typing import Any

from unrelearn import record, tracks
from unrelearn.config import Config, to_config
from unrelearn.record import finish, name_of_run
from unrelearn.run import Run
from unrelearn.stage import Stage, make, walk
from unrelearn.stages.classifier import Oracle
from unrelearn.stages.generate import Samples
from unrelearn.stages.measure import Evaluate, Reference
from unrelearn.stages.train import Model, Pretrain, Unlearn
from unrelearn.task import Task


class Cell(Run):
    def __init__(self, settings: dict[str, Any] | Config, command: str = "test"):
        cfg = settings if isinstance(settings, Config) else to_config(settings)
        super().__init__(cfg, command)

    @cached_property
    def models(self) -> list[Model]:
        return tracks.models(self)

    @property
    def original(self) -> Model:
        return self.models[0]

    @property
    def attacked(self) -> list[Model]:
        return [] if self.attack.identity else [m for m in self.models if m.step is not None]

    @property
    def unlearned(self) -> Model:
        return self.models[0 if self.method.identity else 1]

    @property
    def name(self) -> str:
        return name_of_run(self)

    def stages(self) -> list[Stage]:
        return list(walk(tracks.targets(self)))

    def samples(self, model: Model) -> Samples:
        return Samples(self, model)

    def evaluation(self, model: Model) -> Evaluate:
        return Evaluate(self, Samples(self, model))

    @property
    def reference(self) -> Reference:
        return Reference(self)

    def classifiers(self, role: str) -> Oracle:
        return Oracle(self, role)

    def task(self, start: Model | None) -> Task:
        """What a method is given that starts from a model; for None, what pretraining is given."""
        return (Unlearn(self, start.stage) if start else Pretrain(self)).task()

    def complete(self) -> dict[str, Any] | None:
        """Make all that was asked for; the record, if evaluation was."""
        if Evaluate.name in self.cfg.stages:
            return finish(self)
        make(tracks.targets(self))
        return None


def execute(settings: dict[str, Any], command: str) -> dict[str, Any] | None:
    """As the command does, of settings that `compose` gives."""
    return record.execute(to_config(settings), command)
