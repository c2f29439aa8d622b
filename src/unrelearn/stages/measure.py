"""What is seen in real images, and what is measured of a model's."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.artifact import sha256
from unrelearn.classification.classifier import halves
from unrelearn.config import Config, needs_inception
from unrelearn.diffusion import inception
from unrelearn.diffusion.drawing import sampler_words
from unrelearn.diffusion.inception import Inception
from unrelearn.errors import UsageError
from unrelearn.evals import fid_64
from unrelearn.evals.evidence import Observers, Predictions, first_of_each_class, gather_evidence
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.classifier import Oracle, classifier
from unrelearn.stages.evaluation import Evaluation
from unrelearn.stages.generate import Samples
from unrelearn.stages.images import OfData, files, stored
from unrelearn.stages.records import RecordScores, retrained
from unrelearn.stages.train import Model


def uses_inception(run: Run) -> bool:
    return any(needs_inception(name, given) for name, given in run.cfg.eval.items())


def observers(run: Run) -> Observers:
    """The classifiers and, where a measurement asks for it, the Inception network."""
    return run.once("observers", lambda: _observers(run))


def _observers(run: Run) -> Observers:
    weights = run.cfg.paths.inception_weights
    features = Inception(Path(weights), run.device) if weights and uses_inception(run) else None
    main, held_out = (classifier(run, role) for role in Oracle.ROLES)
    stretch, names = run.cfg.protocol.contrast_stretch, getattr(run.dataset, "attributes", {})
    judge, file = _judge(run.dataset, list(names)), _early(run.cfg)
    early = fid_64.Early(file, run.device) if file else None
    return Observers(main, held_out, features, stretch, names, judge, early)


def _early(cfg: Config) -> str | None:
    """The file of eval.fid_64, where that is measured."""
    measured = fid_64.asked(cfg.eval)
    return measured[1] if measured else None


def _judge(dataset: Any, attributes: list[str]) -> Callable[[Tensor], Tensor] | None:
    """What a data set computes of images, as columns; None: it computes nothing."""
    if not hasattr(dataset, "judge"):
        return None

    def judge(images: Tensor) -> Tensor:
        known, none = dataset.judge(images), torch.full((len(images),), -2)
        return torch.stack([known.get(name, none) for name in attributes], 1)

    return judge


class Reference(OfData):
    """What is seen in real images of every class: computed once, read by every evaluation."""

    name = "reference"
    version = 2
    on_demand = True
    seconds = 2.0

    def parents(self) -> list[Stage]:
        return [Oracle(self.run, role) for role in Oracle.ROLES]

    def needs(self) -> list[Stage]:
        return [*files(self.run), *self.parents()]

    def config(self) -> dict[str, Any]:
        protocol, weights = self.run.cfg.protocol, self.run.cfg.paths.inception_weights
        file, early = weights if uses_inception(self.run) else None, _early(self.run.cfg)
        return {
            "dataset": self.run.data_slice,
            "contrast_stretch": protocol.contrast_stretch,
            "images_per_class": protocol.reference_images_per_class,
            "inception": sha256(Path(file)) if file else None,
            **({"early": sha256(Path(early).expanduser())} if early else {}),
        }

    def make(self, folder: Path) -> dict[str, Any]:
        data, each = stored(self.run), self.run.cfg.protocol.reference_images_per_class
        parts = {"train": first_of_each_class(halves(data.train)[1], each), "test": data.test}
        tensors: dict[str, Any] = {}
        for part, image_set in parts.items():
            seen = observers(self.run).look(image_set.images, image_set.labels)
            tensors |= {f"{part}/{f.name}": getattr(seen, f.name) for f in fields(Predictions)}
        if distributed.is_main():
            there = {name: t.contiguous() for name, t in tensors.items() if t is not None}
            save_file(there, folder / "reference.safetensors")
        return {}


class Evaluate(Evaluation):
    """All that is measured of what a model has drawn."""

    version = 4
    seen: Samples

    def __init__(self, run: Run, samples: Samples):
        super().__init__(run)
        self.seen, self.reference, self.model = samples, Reference(run), samples.model
        self.depth, self.step = samples.depth, samples.model.step

    def parents(self) -> list[Stage]:
        return [self.seen, self.reference, *self.kept.values()]

    @cached_property
    def kept(self) -> dict[str, RecordScores | Samples]:
        """What else is read: scores of records by this model and by a retrained one, what the
        original draws; each where it is measured.
        """
        run = self.run
        kept: dict[str, RecordScores | Samples] = {}
        if "membership" in run.cfg.eval:
            kept = {"records": RecordScores(run, self.model), "retrained": retrained(run)}
        if "outside_region" in run.cfg.eval and run.original_known:
            kept["original"] = Samples(run, Model(self.model.stage.original()))
        return kept

    def config(self) -> dict[str, Any]:
        return {**super().config(), "forget": self.run.forget}

    def ruled_out(self) -> bool:
        return super().ruled_out() or any(each.ruled_out() for each in self.kept.values())

    def make(self, folder: Path) -> dict[str, Any]:
        run = self.run
        drawn = self.seen.read()
        real = load_file(self.reference.build().path / "reference.safetensors")
        names = [f.name for f in fields(Predictions)]
        train, test = (
            Predictions(**{name: real.get(f"{part}/{name}") for name in names})
            for part in ("train", "test")
        )
        second = run.cfg.sampler.second
        evidence = gather_evidence(
            drawn,
            train,
            test,
            run.forget,
            observers(run),
            sampler_words(run.slice(second)) if second else None,
        )
        others: dict[str, Any] = {name: each.read() for name, each in self.kept.items()}
        evidence = replace(evidence, **others)
        if distributed.is_main():
            self.keep(folder, dict(self.measured(evidence)))
        return {}


def settle_inception(cfg: Config) -> None:
    """Find the Inception weights if a measurement asks for them; without them it is left out, and
    that is said.
    """
    wanted = [name for name, given in cfg.eval.items() if needs_inception(name, given)]
    if not wanted:
        return
    given, data = cfg.paths.inception_weights, Path(cfg.paths.data)
    try:
        weights = distributed.on_main(lambda: inception.weights(given, data, download=True))
        cfg.paths.inception_weights = str(weights)
    except UsageError as error:
        if given is not None:
            raise
        progress.say(
            f"{' '.join(error.problems)} Left out: {', '.join(wanted)}; fd_oracle takes their"
            " place, under its own name"
        )
        cfg.eval = {name: m for name, m in cfg.eval.items() if name not in wanted}
        cfg.eval.setdefault("fd_oracle", {"_target_": "unrelearn.evals.fd_oracle.run"})
