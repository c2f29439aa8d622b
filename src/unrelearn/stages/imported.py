"""Models from elsewhere: the original one (model.checkpoint), and one that somebody else unlearned
(method=given).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from unrelearn import distributed, progress
from unrelearn.advice import problem
from unrelearn.artifact import sha256
from unrelearn.data import to_model_range
from unrelearn.diffusion import checkpoint, theirs
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.errors import UsageError
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage
from unrelearn.stages.images import stored
from unrelearn.stages.train import Pretrain, Trained, Unlearn


class Imported(Trained):
    """A model from weights that were trained elsewhere."""

    setting = "model.checkpoint"  # the key that names them

    @property
    def path(self) -> Path:
        raise NotImplementedError

    @property
    def reading(self) -> Any:
        """How somebody else's weights are to be read (methods.given.Given); None of others."""
        return self.run.method if self.run.method.elsewhere else None

    def hashes(self) -> dict[str, str]:
        """sha256 of each file that is read, by its place beside the folder."""
        root = self.path if self.path.is_dir() else self.path.parent
        files = checkpoint.files(self.path)
        return {Path(os.path.relpath(file, root)).as_posix(): sha256(file) for file in files}

    @property
    def without_null(self) -> bool:
        """Whether the table has no row for no class; where the network only lends its shape
        (reference=retrain), as it is written.
        """
        if self.reading is not None:
            return bool(self.reading.null_label == "none")
        return self.run.cfg.reference is not None and checkpoint.has_rows(
            self.path, len(self.run.dataset.class_names)
        )

    @property
    def order(self) -> list[int] | None:
        """The rows of the class table, if they are not to be taken as they stand."""
        given, names = self.reading, self.run.dataset.class_names
        if given is None and not self.without_null:
            return None
        labels, null = (given.labels, given.null_label) if given else (None, "none")
        order = theirs.rows(names, labels, null)
        return None if order == list(range(len(names) + 1)) else order

    def config(self) -> dict[str, Any]:
        run, model = self.run, self.run.cfg.model
        pretrain = model.pretrain  # methods and attacks follow these two
        followed = {name: getattr(pretrain, name) for name in ("loss_reduction", "antithetic")}
        imported = {"schedule": run.slice(model.schedule), "pretrain": followed}
        imported |= self.weights_read()
        return {"dataset": run.data_slice, "model": imported, "precision": run.cfg.precision}

    def weights_read(self) -> dict[str, Any]:
        """What is read of the files, for keys."""
        model, order = self.run.cfg.model, self.order
        return {
            "unet": self.run.slice(model.unet),
            "checkpoint": self.contents(),
            "weights": model.weights,
            **({} if order is None else {"order": order}),
        }

    def contents(self) -> list[str]:
        """Hashes, for keys."""
        files, kinds = [self.path], (".json", ".safetensors")
        if self.path.is_dir():
            files = sorted(file for file in self.path.rglob("*") if file.suffix in kinds)
        return [sha256(file) for file in files]

    def cost(self) -> Cost:
        return Cost()

    def networks(self) -> dict[str, denoisers.Denoiser]:
        """What lies there, by the name of its weights, its class table as it stands there."""
        dataset = self.run.dataset
        return denoisers.load_checkpoint(
            self.path,
            image_size=dataset.image_size,
            channels=dataset.channels,
            num_classes=len(dataset.class_names) - self.without_null,
        )

    def say_what_is_assumed(self) -> bool:
        assumed = checkpoint.assumed(self.path, self.run.slice(self.run.cfg.model.schedule))
        if assumed:
            progress.say(checkpoint.of_key(assumed, self.setting))
        return assumed is not None

    def keep(self, network: denoisers.Denoiser, folder: Path) -> None:
        """Write it, with the classes in our order."""
        ordered = network if self.order is None else theirs.in_order(network, self.order)
        if distributed.is_main():
            denoisers.save(ordered, folder, self.run.slice(self.run.cfg.model.schedule))


class Import(Imported):
    """The original model, from weights that were trained elsewhere."""

    name = Pretrain.name
    version = Pretrain.version

    @property
    def path(self) -> Path:
        return Path(self.run.cfg.model.checkpoint or "")

    def make(self, folder: Path) -> dict[str, Any]:
        weights, assumed = self.run.cfg.model.weights, self.say_what_is_assumed()
        networks = self.networks()
        if weights not in networks:
            raise UsageError(checkpoint.wrong_label(self.path, weights, list(networks)))
        self.keep(networks[weights], folder / weights)
        return {"weights": weights, "schedule_assumed": assumed}


class GivenWeights(Imported):
    """The unlearned model, from weights that somebody else has unlearned.

    start: the original model, or None where nobody has it.
    """

    name = Unlearn.name
    version = Unlearn.version
    depth = Unlearn.depth
    setting = "method.checkpoint"

    def __init__(self, run: Run, start: Trained | None):
        super().__init__(run)
        self.start = start

    def original(self) -> Trained:
        if self.start is None:
            raise UsageError(
                "model.checkpoint=null: nobody has given the original model. Type"
                " model.checkpoint=FOLDER"
            )
        return self.start

    @property
    def path(self) -> Path:
        return Path(self.reading.checkpoint)

    @property
    def what(self) -> str:
        return self.run.names["method"]

    def config(self) -> dict[str, Any]:
        config = super().config()
        config["model"] |= {"weights": self.reading.weights, "checkpoint": self.hashes()}
        return config | {"forget": self.run.kind.forgotten}

    def make(self, folder: Path) -> dict[str, Any]:
        assumed = self.say_what_is_assumed()
        try:
            networks = self.networks()
        except UsageError as error:
            raise UsageError(
                [checkpoint.of_key(line, self.setting) for line in error.problems]
            ) from error
        label = self.reading.weights or ("ema" if "ema" in networks else "raw")
        self._check(networks[label])
        self.keep(networks[label], folder / "raw")
        return {"weights": "raw", "taken": label, "schedule_assumed": assumed}

    def needs(self) -> list[Stage]:
        return [*self.parents()]

    def _check(self, network: denoisers.Denoiser) -> None:
        """That its answers to real images of retained classes agree with what is said of it.

        Raises:
            UsageError: what it predicts, or in which order its labels stand, is surely otherwise.
        """
        run, names = self.run, self.run.dataset.class_names
        retained = [c for c in range(len(names)) if c not in run.forget]
        data = theirs.probes(stored(run).train, retained)
        network.to(run.device)
        x_0 = to_model_range(data.images[:]).to(run.device)
        schedule = run.slice(run.cfg.model.schedule)
        seen = [
            theirs.errors(network, x_0, row, schedule)
            for row in range(network.config.num_class_embeds)
        ]
        network.cpu()
        kind = schedule["prediction_type"]
        mean = torch.stack(seen).mean(0)
        if not mean.isfinite().all():
            why = "its answers to real images are not finite, so some of its weights are not either"
            instead = f"Type {self.setting}=FOLDER with another one"
            raise UsageError(problem(self.setting, self.path, why, instead))
        if other := theirs.other_prediction(mean, kind):
            key, whose = "model.schedule.prediction_type", f"{self.setting}={self.path}"
            why = f"the network of {whose} answers as one that predicts {other}"
            folders = checkpoint.networks(self.path).values() if self.path.is_dir() else ()
            file = next(filter(None, map(checkpoint.scheduler_file, folders)), None)
            write = f'Type "prediction_type": "{other}" into {file}'
            raise UsageError(problem(key, kind, why, write if file else {key: other}))
        given = self.reading
        current = theirs.rows(names, given.labels, given.null_label)[:-1]
        under_rows = torch.stack(seen)[:, theirs.PREDICTIONS.index(kind)]
        order = theirs.other_order(under_rows, data.labels.cpu(), current, given.null_label)
        if order:
            raise UsageError(self._order_line(*order))

    def _order_line(self, order: Sequence[int], null: str) -> str:
        names, first = self.run.dataset.class_names, int(null == "first")
        labels = [names[list(order).index(row + first)] for row in range(len(names))]
        instead: dict[str, Any] = {}
        if labels != list(names):
            instead["method.labels"] = labels
        if null != self.reading.null_label:
            instead["method.null_label"] = null
        why = (
            "its labels stand in another order than the classes of the data set, as its losses on"
            " real images of retained classes say"
        )
        return problem(self.setting, self.path, why, instead)
