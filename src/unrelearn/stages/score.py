"""What is measured of a classifier's answers, beside those of its references."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from hydra.utils import get_object, instantiate
from safetensors.torch import load_file

from unrelearn import distributed, source
from unrelearn.artifact import write_json
from unrelearn.classification.kind import public_half
from unrelearn.evals.answers import Answers, ClassifierEvidence
from unrelearn.report.records import ONLY
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.images import images
from unrelearn.stages.predict import Predictions, References, kind_of
from unrelearn.stages.train import Model


class Score(Stage):
    """All that is measured of a classifier."""

    name = "evaluate"
    version = 1
    kept: ClassVar[dict[str, Stage]] = {}  # what the record names besides

    def __init__(self, run: Run, model: Model):
        super().__init__(run)
        self.model = model
        self.seen, self.references = Predictions(run, model), References(run)
        self.depth = model.stage.depth

    @property
    def what(self) -> str:
        return self.seen.what

    def parents(self) -> list[Stage]:
        return [self.seen, self.references]

    @cached_property
    def targets(self) -> dict[str, Any]:
        """Name of a measurement -> its function."""
        return {name: get_object(given["_target_"]) for name, given in self.run.cfg.eval.items()}

    def config(self) -> dict[str, Any]:
        config = {"eval": self.run.cfg.eval, "forget": self.run.kind.forgotten}
        if self.run.attack.holds_public:
            config["test"] = "private half"
        if (half := self.run.cfg.references.half) is not None:
            config["half"] = half
        digests = {name: source.source_of(target) for name, target in self.targets.items()}
        new = {name: digest for name, digest in digests.items() if digest}
        return config | ({"source": new} if new else {})

    def origin(self) -> tuple[Stage, str] | None:
        return self.seen.origin()

    def ruled_out(self) -> bool:
        return self.seen.ruled_out()

    def evidence(self) -> ClassifierEvidence:
        run, data = self.run, images(self.run)
        ours = load_file(self.seen.build().path / "logits.safetensors")
        theirs = self.references.read()
        forget = kind_of(run).mask(data).cpu()
        labels, test = data.train.labels.cpu(), data.test.labels.cpu()

        def part(mask: Any) -> Answers:
            return Answers(ours["train"][mask], labels[mask], theirs["train"][:, mask])

        kept = torch.ones(len(test), dtype=torch.bool)
        if run.attack.holds_public:  # of all models alike
            kept[public_half(len(test))] = False
        return ClassifierEvidence(
            {ONLY: part(forget)},
            {ONLY: part(~forget)},
            Answers(ours["test"][kept], test[kept], theirs["test"][:, kept]),
            run.forget,
            len(data.class_names),
        )

    def make(self, folder: Path) -> dict[str, Any]:
        evidence = self.evidence()
        if distributed.is_main():
            metrics = {}
            for name, given in self.run.cfg.eval.items():
                measured = instantiate(given, _partial_=True, _convert_="all")(evidence)
                metrics[name] = measured if ONLY in measured else {ONLY: measured}
            write_json(folder / "metrics.json", metrics)
            step = self.model.step
            with self.track("" if step is None else f" at {step:g}") as logged:
                logged.summary(metrics)
        return {}
