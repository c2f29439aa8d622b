"""Stages that train a model: the original one, the unlearned one, the attacked one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from unrelearn import cost, distributed, progress
from unrelearn.artifact import write_json
from unrelearn.method import Edit, Method
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage
from unrelearn.stages.cached import Cached
from unrelearn.stages.classifier import Oracle, classifier
from unrelearn.stages.images import decoded, images
from unrelearn.stages.text import encoders, new_network

if TYPE_CHECKING:  # a run whose models are there trains nothing, and needs no Lightning
    from torch import Tensor, nn

    from unrelearn.fit import FitOptions
    from unrelearn.task import Task
    from unrelearn.training import Training


def snapshot(step: float) -> str:
    """The folder of the weights after so many steps, or of an edit of this level."""
    return f"step_{step:06d}" if isinstance(step, int) else f"level_{step:g}"


def fit_options(run: Run, **arguments: Any) -> "FitOptions":
    from unrelearn.fit import FitOptions

    trainer = run.cfg.trainer
    return FitOptions(
        precision=run.cfg.precision,
        accelerator=run.device.type,
        channels_last=trainer.channels_last,
        compile=trainer.compile,
        batch_size_per_device=trainer.batch_size_per_device,
        checkpoint_every_n_steps=trainer.checkpoint_every_n_steps,
        log_every_n_steps=trainer.log_every_n_steps,
        **arguments,
    )


class Trained(Stage):
    """A stage that leaves the weights of a model."""

    trains = True
    start: "Trained | None" = None  # the model that it starts from
    places: Sequence[float] = ()  # budgets or levels at which weights are kept, of an attack
    spared: float = 0.0  # seconds of what it would have computed itself (Cached)

    def training(self) -> "Training":
        """What is fitted."""
        raise NotImplementedError

    def fitted(self, method: Method, **wanted: bool) -> "Training":
        """A method with the network and the data; wanted: as `task` has it."""
        task, held = self.task(**wanted), method.forget_images
        if held is not None:
            task = replace(task, forget=task.forget.take(torch.arange(len(task.forget))[:held]))
        return self.run.kind.training(method, task)

    @property
    def description(self) -> str:
        raise NotImplementedError

    def parents(self) -> list[Stage]:
        return [self.start] if self.start else []

    def needs(self) -> list[Stage]:
        return [*decoded(self.run), *self.parents()]

    def weights(self, at: float | None = None) -> Path | None:
        """The folder of its weights; None if its training, or that of its parent, diverged."""
        artifact = self.artifact
        if artifact is None:
            return None
        if at is not None:
            folder = artifact.path / snapshot(at) / "raw"
            return folder if folder.exists() else None
        label = artifact.meta["weights"]
        if not label:
            return None
        return artifact.path / (self.run.cfg.model.weights if label == "ema" else label)

    def network(self, at: float | None = None) -> "nn.Module":
        folder = self.weights(at)
        if folder is None:
            raise FileNotFoundError(f"{self.id}: has no weights, as its training diverged")
        return self.run.kind.load(folder)

    def origin(self) -> tuple[Stage, str] | None:
        return (self.start, "") if self.start else None

    def ruled_out(self) -> bool:
        return self.start is not None and self.start.weights() is None

    def make(self, folder: Path) -> dict[str, Any]:
        """Fit a module and write its weights; of an attack a snapshot for each place instead."""
        from unrelearn.fit import fit

        module = self.training()
        edits = isinstance(module.method, Edit)

        def keep(step: float) -> None:
            if distributed.is_main():
                module.save(folder / snapshot(step))

        with self.track() as logged:
            options = fit_options(
                self.run,
                snapshots=[] if edits else self.places,
                on_snapshot=keep,
                log_row=lambda step, row: logged.log(row, step),
            )
            result = fit(module, folder, self.description, options)
        diverged = result["diverged_at"]
        steps = module.rows[-1]["step"] if module.rows else 0  # edits add rows of their own
        if edits and diverged is None:
            self._edit(module, keep)
        if diverged is not None:
            progress.say(
                f"{self.description}: the loss is not finite at step {diverged}; recorded as"
                " diverged"
            )
        label = None
        if distributed.is_main():
            write_json(folder / "losses.json", module.rows)
            if diverged is None:
                label = "raw" if self.places else module.save(folder)
        return {
            **result,
            "seconds": result["seconds"] + self.spared,
            "status": "finished" if diverged is None else "diverged",
            "weights": label,
            "steps": steps,
        }

    def _edit(self, module: "Training", keep: Callable[[float], None]) -> None:
        module.to(self.run.device)  # training leaves it on the CPU
        for level in self.places:
            with module.edited(level):
                keep(level)

    def task(self, *, oracle: bool = False, attacked: bool = False) -> "Task":
        """The network that this stage starts from and the two sets.

        attacked: put the networks into their canonical form, so that no attack depends on how
            weights are written.
        """
        run, start, kind = self.run, self.start, self.run.kind
        written = kind.canonical if attacked else lambda network: network
        data, dataset = images(run), run.dataset
        network = written(start.network()) if start else new_network(run)
        forgotten = run.forget if start else []
        everything = data.original[0] if data.original else data.train
        forget, retain = kind.split(data) if start else (everything.of_classes([]), everything)
        has_counterparts = hasattr(dataset, "counterpart")
        return kind.task(
            data,
            network=network.to(run.device),
            forget=forget,
            retain=retain,
            forget_classes=forgotten,
            forgotten=kind.forgotten if start else None,
            class_names=data.class_names,
            seed=run.cfg.seed,
            horizontal_flip=dataset.horizontal_flip,
            oracle=classifier(run, Oracle.MAIN) if oracle else None,
            counterparts={
                c: dataset.counterpart(c, forgotten) for c in forgotten if has_counterparts
            },
            cached=self.cached,
            original=lambda: written(self.original().network()).to(run.device),
            fitting=run.fitting,
        )

    def cached(
        self, name: str, settings: dict[str, Any], compute: Callable[[], dict[str, "Tensor"]]
    ) -> "dict[str, Tensor]":
        """Task.cached as an artefact whose parent is the model that the task starts from."""
        artifact = Cached(self.start or self, {"name": name, **settings}, compute).build()
        if artifact.reused:
            self.spared += artifact.meta.get("seconds", 0.0)
        tensors = load_file(artifact.path / "tensors.safetensors")
        return {key: value.to(self.run.device) for key, value in tensors.items()}

    def original(self) -> "Trained":
        """The first model of the run."""
        return self.start.original() if self.start else self

    def training_cost(self, settings: dict[str, Any], steps: int, passes: tuple) -> Cost:
        """Of so many steps, of which each takes these passes, and of the weights that are kept."""
        forward, weights = self.run.kind.cost()
        copies = max(1, len(self.places)) * (1 if settings.get("ema_decay") is None else 2)
        flops = forward * cost.forward_passes(settings, steps, passes)
        return Cost(steps, flops, copies * weights * cost.BYTES_PER_WEIGHT)


class Pretrain(Trained):
    """The original model, from random weights."""

    name = "pretrain"
    axis = "pretrain/step"

    def parents(self) -> list[Stage]:
        return list(encoders(self.run))

    def config(self) -> dict[str, Any]:
        run = self.run
        return {
            "dataset": run.data_slice,
            **run.kind.recipe(),
            "seed": run.cfg.seed,
            "precision": run.cfg.precision,
        }

    @property
    def description(self) -> str:
        return f"pretrain on {self.run.names['dataset']}"

    def training(self) -> "Training":
        return self.fitted(self.run.kind.pretraining())

    def cost(self) -> Cost:
        settings = self.run.slice(self.run.cfg.model.pretrain)
        return self.training_cost(settings, settings["max_steps"], Method.passes)


class Changed(Trained):
    """What a method or an attack makes of a model."""

    group: str  # of the configuration

    def __init__(self, run: Run, start: Trained):
        super().__init__(run)
        self.start = start

    @property
    def method(self) -> Method:
        return getattr(self.run, self.group)

    @property
    def what(self) -> str:
        return self.run.names[self.group]

    def config(self) -> dict[str, Any]:
        return self.run.changed(self.group)

    def cost(self) -> Cost:
        method, settings = self.method, self.run.settings[self.group]
        return self.training_cost(settings, method.max_steps, method.passes)


class Unlearn(Changed):
    """What a method makes of the original model."""

    name = "unlearn"
    axis = "unlearn/step"
    depth = 2
    group = "method"

    def parents(self) -> list[Stage]:
        oracle = [Oracle(self.run, Oracle.MAIN)] if self.method.needs_oracle else []
        return [*super().parents(), *oracle]

    @property
    def description(self) -> str:
        return f"unlearn with {self.what}"

    def training(self) -> "Training":
        return self.fitted(self.run.record(self.group), oracle=self.method.needs_oracle)


class Attack(Changed):
    """What an attack makes of the unlearned model, at each budget or level."""

    name = "attack"
    version = 2
    axis = "attack/budget"
    depth = 3
    group = "attack"

    @property
    def places(self) -> list[float]:  # type: ignore[override]
        return self.method.measured_at

    @property
    def description(self) -> str:
        return f"attack with {self.what}"

    def training(self) -> "Training":
        return self.fitted(self.run.record(self.group), attacked=True)


def chain(original: Trained) -> "list[Model]":
    """The models of a run, each once: original, unlearned, attacked at each place."""
    run = original.run
    if run.method.identity:
        return [Model(original), *attacked(original)]
    unlearned = Unlearn(run, original)
    return [Model(original), Model(unlearned), *attacked(unlearned)]


def attacked(unlearned: Trained) -> "list[Model]":
    """What the run's attack makes of a model, at each place."""
    run, models = unlearned.run, []
    if not run.attack.identity:
        attack = Attack(run, unlearned)
        models = [Model(attack, at) for at in attack.places]
    return models


@dataclass(frozen=True)
class Model:
    """A model that is measured: a stage and, of an attack, the step, or the level of an edit."""

    stage: Trained
    step: float | None = None

    @property
    def weights(self) -> Path | None:
        return self.stage.weights(self.step)

    @property
    def folder(self) -> str:
        """Of its weights, in the stage's artefact, if there are several."""
        return "" if self.step is None else snapshot(self.step)

    @property
    def what(self) -> str:
        return self.stage.name + ("" if self.step is None else f" at {self.step:g}")


class OfModel(Stage):
    """What is found out about one model, and made again with it."""

    alone = False
    beside = True

    def __init__(self, run: Run, model: Model):
        super().__init__(run)
        self.model = model
        self.depth = model.stage.depth

    @property
    def what(self) -> str:
        return self.model.what

    def network(self) -> "nn.Module":
        """On the device, its weights laid out as trainer.channels_last says."""
        network = self.model.stage.network(self.model.step).to(self.run.device)
        if self.run.cfg.trainer.channels_last:
            network.to(memory_format=torch.channels_last)
        return network

    def parents(self) -> list[Stage]:
        return [self.model.stage]

    def origin(self) -> tuple[Stage, str] | None:
        return self.model.stage, self.model.folder

    def ruled_out(self) -> bool:
        return self.model.weights is None
