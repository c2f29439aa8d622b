"""What is measured of a classifier's answers, beside those of its references."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file

from unrelearn import distributed
from unrelearn.classification.kind import public_half
from unrelearn.evals.answers import Answers, ClassifierEvidence
from unrelearn.report.records import ONLY
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.evaluation import Evaluation
from unrelearn.stages.images import images
from unrelearn.stages.predict import Predict, References, kind_of
from unrelearn.stages.train import Model


class Score(Evaluation):
    """All that is measured of a classifier."""

    version = 1
    kept: ClassVar[dict[str, Stage]] = {}  # what the record names besides

    def __init__(self, run: Run, model: Model):
        super().__init__(run)
        self.model = model
        self.seen, self.references = Predict(run, model), References(run)
        self.depth, self.step = model.stage.depth, model.step

    def parents(self) -> list[Stage]:
        return [self.seen, self.references]

    def config(self) -> dict[str, Any]:
        config = {**super().config(), "forget": self.run.kind.forgotten}
        if self.run.attack.holds_public:
            config["test"] = "private half"
        if (half := self.run.cfg.references.half) is not None:
            config["half"] = half
        return config

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
            for name, measured in self.measured(evidence):
                metrics[name] = measured if ONLY in measured else {ONLY: measured}
            self.keep(folder, metrics)
        return {}
