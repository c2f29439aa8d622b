"""The stage graph: dataset -> pretrain -> unlearn -> attack -> samples -> evaluate, each an
artefact made from artefacts.
"""

import contextlib
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import cache, cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from hydra.utils import get_object, instantiate
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn import cost, distributed, progress, source, tracking
from unrelearn.advice import typed
from unrelearn.artifact import Artifact, Spec, Store, sha256, write_json
from unrelearn.classification.oracle import Classifier, ClassifierTraining, halves, new_classifier
from unrelearn.config import (
    STAGES,
    constructor_arguments,
    forget_classes,
    name_of,
    needs_inception,
    protocol_label,
)
from unrelearn.data import ImageData
from unrelearn.diffusion import checkpoint, inception
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.canonical import canonical
from unrelearn.diffusion.inception import Inception
from unrelearn.diffusion.sampling import Job, draw_all, jobs, sampler_words
from unrelearn.diffusion.weights import compare as compare_weights
from unrelearn.errors import UsageError
from unrelearn.evals.evidence import (
    Eyes,
    Sight,
    accuracy,
    first_of_each_class,
    gather_evidence,
    share,
)
from unrelearn.module import DiffusionModule, Edit, FitOptions, Pretraining, Task, fit

try:
    import resource
except ImportError:  # there is none on Windows
    resource = None

# raise a stage's number when its code changes what it computes: its artefacts and all that follow
# are then made anew
VERSIONS = {
    "dataset": 1,
    "pretrain": 1,
    "oracle": 2,
    "unlearn": 1,
    "attack": 2,
    "samples": 2,
    "reference": 2,
    "evaluate": 4,
    "cached": 1,
}


@dataclass(frozen=True)
class Model:
    """A model somewhere in the graph: an artefact, which may not exist yet, and for an attack the
    step, or level of an edit.
    """

    spec: Spec
    step: float | None = None

    def weights(self, store: Store, pretrained: str) -> Path | None:
        """The folder of its weights; None if its training, or that of its parent, diverged.
        pretrained: "ema" or "raw".
        """
        artifact = store.find(self.spec)
        if artifact is None:
            return None
        if self.step is not None:
            folder = artifact.path / snapshot(self.step) / "raw"
            return folder if folder.exists() else None
        label = artifact.meta["weights"]
        return artifact.path / (pretrained if label == "ema" else label) if label else None


@dataclass(frozen=True)
class Part:
    """What can be made of a run by itself, once what it `needs` is there (keys of other parts).

    stage: that of an artefact; "evaluate" stands for the samples of `model` and what is seen in
    them, "record" for the table and page at the end, whose key is the last part of the run's name.
    what: the method, attack or model it is of.
    """

    stage: str
    key: str
    what: str
    needs: tuple[str, ...] = ()
    model: Model | None = None


def recipe(model: dict) -> dict:
    """The arguments of Pretraining in a configuration's `model`; the loss itself goes to every
    stage, through its Task.
    """
    return {k: v for k, v in model["pretrain"].items() if k not in ("loss_reduction", "antithetic")}


def snapshot(step: float) -> str:
    return f"step_{step:06d}" if isinstance(step, int) else f"level_{step:g}"


class Pipeline:
    """One run of a resolved configuration: `specs` says what it consists of, `run()` makes what is
    missing.
    """

    def __init__(self, cfg: dict, command: str, after: "Pipeline | None" = None):
        """after: another pipeline; if it has the same data set, that is not looked at and loaded
        again.
        """
        self.cfg, self.command = cfg, command
        self.outputs = Path(cfg["paths"]["outputs"])
        self.store = Store(self.outputs / "artifacts", rebuild=cfg["rebuild"], say=progress.say)
        if after is not None and (after.cfg["dataset"], after.cfg["trainer"]) == (
            cfg["dataset"],
            cfg["trainer"],
        ):
            vars(self).update(
                {
                    name: vars(after)[name]
                    for name in ("dataset", "_dataset_slice", "data")
                    if name in vars(after)
                }
            )
        else:
            self.dataset = instantiate(cfg["dataset"], _convert_="all")
        self.forget = forget_classes(cfg["forget"], self.dataset)
        self.names = {group: name_of(cfg[group]) for group in ("dataset", "method", "attack")}
        self.group = "-".join(self.names.values())
        self.used: dict[str, dict] = {}  # artefact key -> what the stage table says of it

    # what there is to make

    @cached_property
    def pretrain_spec(self) -> Spec:
        model = {k: self.cfg["model"][k] for k in ("unet", "schedule", "pretrain")}
        if self.cfg["model"]["checkpoint"] is not None:
            path = Path(self.cfg["model"]["checkpoint"])
            files = (
                sorted(p for p in path.rglob("*") if p.suffix in (".json", ".safetensors"))
                if path.is_dir()
                else [path]
            )
            recipe = {
                k: model["pretrain"][k] for k in ("loss_reduction", "antithetic")
            }  # methods and attacks follow it
            imported = {
                **model,
                "checkpoint": [sha256(file) for file in files],
                "pretrain": recipe,
                "weights": self.cfg["model"]["weights"],
            }
            return self._spec("pretrain", {"dataset": self._dataset_slice, "model": imported})
        return self._spec(
            "pretrain", {"dataset": self._dataset_slice, "model": model, "seed": self.cfg["seed"]}
        )

    def oracle_spec(self, role: str) -> Spec:
        shared = {k: v for k, v in self.cfg["oracle"].items() if k not in ("main", "held_out")}
        config = {"dataset": self._dataset_slice, "classifier": self.cfg["oracle"][role], **shared}
        return Spec("oracle", VERSIONS["oracle"], config)

    @cached_property
    def pretrained(self) -> Model:
        return Model(self.pretrain_spec)

    @cached_property
    def unlearned(self) -> Model:
        if get_object(self.cfg["method"]["_target_"]).identity:
            return self.pretrained
        arguments = {k: v for k, v in self.cfg["method"].items() if k != "_target_"}
        needs_oracle = get_object(self.cfg["method"]["_target_"]).needs_oracle(**arguments)
        parents = [self.pretrain_spec.key] + [self.oracle_spec("main").key] * needs_oracle
        return Model(self._spec("unlearn", self._changed("method"), *parents))

    @cached_property
    def attacked(self) -> list[Model]:
        """The attacked model at each level of an edit, or each budget above 0, where it is the
        unlearned one.
        """
        attack = self.cfg["attack"]
        if get_object(attack["_target_"]).identity:
            return []
        spec = self._spec("attack", self._changed("attack"), self.unlearned.spec.key)
        return [
            Model(spec, at)
            for at in attack.get("levels") or [step for step in attack["budgets"] if step > 0]
        ]

    @property
    def attack_seed(self) -> int:
        return get_object(self.cfg["attack"]["_target_"]).own_seed(**self.cfg["attack"])

    def steps(self, group: str) -> int:
        """Optimiser steps of the method or attack, at most."""
        return get_object(self.cfg[group]["_target_"]).steps(**self.cfg[group])

    def passes(self, group: str) -> tuple[float, float]:
        """What a step of the method or attack costs; see DiffusionModule.passes."""
        return get_object(self.cfg[group]["_target_"]).passes

    def samples_spec(self, model: Model) -> Spec:
        config = {"sampler": self.cfg["sampler"], "forget": self.forget, "step": model.step}
        # two sets of weights lie in what was trained from scratch: the pretrained model, and what
        # `retrain` makes
        if model.step is None and (
            model.spec.stage == "pretrain" or self.cfg["method"].get("ema_decay") is not None
        ):
            config["weights"] = self.cfg["model"]["weights"]
        return self._spec("samples", config, model.spec.key)

    def sampling_jobs(self, model: Model) -> list[Job]:
        """What is drawn of it."""
        attack = get_object(self.cfg["attack"]["_target_"])
        from_images = model.spec.stage == "attack" and getattr(attack, "starts_from_images", False)
        return jobs(
            self.cfg["sampler"],
            self.forget,
            len(self.dataset.class_names),
            self.cfg["model"]["schedule"]["num_train_timesteps"],
            from_images,
        )

    def evaluate_spec(self, model: Model) -> Spec:
        parents = (self.samples_spec(model).key, self.reference_spec.key)
        config = {"eval": self.cfg["eval"], "forget": self.forget}
        targets = {
            name: get_object(measurement["_target_"])
            for name, measurement in self.cfg["eval"].items()
        }
        new = {
            name: digest for name, target in targets.items() if (digest := source.source_of(target))
        }
        return Spec(
            "evaluate", VERSIONS["evaluate"], config | ({"source": new} if new else {}), parents
        )

    @cached_property
    def reference_spec(self) -> Spec:
        protocol, weights = self.cfg["protocol"], self.cfg["paths"]["inception_weights"]
        config = {
            "dataset": self._dataset_slice,
            "contrast_stretch": protocol["contrast_stretch"],
            "images_per_class": protocol["reference_images_per_class"],
            "inception": sha256(Path(weights)) if self._inception and weights else None,
        }
        return Spec(
            "reference",
            VERSIONS["reference"],
            config,
            tuple(self.oracle_spec(r).key for r in ("main", "held_out")),
        )

    @property
    def models(self) -> list[Model]:
        """The models that are measured, each once."""
        return [
            self.pretrained,
            *[self.unlearned] * (self.unlearned != self.pretrained),
            *self.attacked,
        ]

    @cached_property
    def name(self) -> str:
        """Of the run: its folder in outputs/runs. The same whatever comes out of it."""
        identity = Spec(
            "run", 2, {"rows": [self.evaluate_spec(model).key for model in self.models]}
        ).key[:8]
        again = f"-attack{self.attack_seed}" if self.attack_seed else ""
        forgotten = "_".join(map(str, self.forget))
        if len(forgotten) > 100:  # a name of more than 255 bytes is no folder's
            forgotten = f"{self.forget[0]}_and_{len(self.forget) - 1}_more"
        return f"{self.group}-forget{forgotten}-seed{self.cfg['seed']}{again}-{identity}"

    def parts(self) -> list[Part]:
        """Everything the run consists of, each part after those that it needs."""
        decoded = [Spec("dataset", VERSIONS["dataset"], self._dataset_slice)] * hasattr(
            self.dataset, "decode"
        )
        first = tuple(spec.key for spec in decoded)
        oracles = {role: self.oracle_spec(role).key for role in ("main", "held_out")}
        original, reference = self.pretrain_spec, self.reference_spec
        found = [Part("dataset", key, self.names["dataset"]) for key in first]
        found += [Part("pretrain", original.key, "", first)]
        found += [Part("oracle", key, role, first) for role, key in oracles.items()]
        found += [Part("reference", reference.key, self.names["dataset"], tuple(oracles.values()))]
        if self.unlearned != self.pretrained:
            found.append(
                Part(
                    "unlearn",
                    self.unlearned.spec.key,
                    self.names["method"],
                    self.unlearned.spec.parents,
                )
            )
        if self.attacked:
            found.append(
                Part(
                    "attack",
                    self.attacked[0].spec.key,
                    self.names["attack"],
                    self.attacked[0].spec.parents,
                )
            )
        seen = [
            Part(
                "evaluate",
                self.evaluate_spec(model).key,
                model.spec.stage + ("" if model.step is None else f" at {model.step:g}"),
                (model.spec.key, reference.key),
                model,
            )
            for model in self.models
        ]
        return [
            *found,
            *seen,
            Part("record", self.name, self.group, tuple(part.key for part in seen)),
        ]

    def make(self, part: Part) -> None:
        """Make a part, whose needs must be there; what its parents' divergence rules out is left
        out.
        """
        match part.stage:
            case "dataset":
                self._decoded()
            case "pretrain":
                self.run_pretrain()
            case "oracle":
                self.run_oracle(part.what)
            case "reference":
                self.run_reference()
            case "unlearn":
                self.run_unlearn()
            case "attack":
                self.run_attack()
            case "evaluate":
                if part.model.weights(self.store, self.cfg["model"]["weights"]) is not None:
                    self.run_samples(part.model, f"sample the model: {part.what}")
                    self.run_evaluate(part.model)
            case "record":
                keep(self, self.run())

    @property
    def _inception(self) -> bool:
        return any(
            needs_inception(name, measurement) for name, measurement in self.cfg["eval"].items()
        )

    def _spec(self, stage: str, config: dict, *parents: str) -> Spec:
        return Spec(stage, VERSIONS[stage], {**config, "precision": self.cfg["precision"]}, parents)

    def _changed(self, group: str) -> dict:
        # a data set among the arguments is what its images are, wherever they lie
        arguments = {
            k: (
                {
                    "name": v["_target_"].split(".")[-2],
                    "content": instantiate(v, _convert_="all").fingerprint(),
                }
                if isinstance(v, dict) and "_target_" in v
                else v
            )
            for k, v in constructor_arguments(self.cfg[group]).items()
        }
        if "seed" in arguments:
            arguments["seed"] = self.attack_seed
        changed = {
            group: arguments,
            "forget": self.forget,
            "seed": self.cfg["seed"],
            "weights": self.cfg["model"]["weights"],
        }
        digest = source.source_of(
            get_object(self.cfg[group]["_target_"])
        )  # of code that no version of a stage speaks for
        return changed | ({"source": digest} if digest else {})

    @cached_property
    def _dataset_slice(self) -> dict:
        found = {"name": self.names["dataset"], "horizontal_flip": self.dataset.horizontal_flip}
        try:
            return found | {"content": self.dataset.fingerprint()}
        except (UsageError, OSError):
            if not self.cfg["dry_run"]:
                raise
            return found  # the files are not here yet, so nothing made from them can be

    # what it is made from

    @cached_property
    def device(self) -> torch.device:
        if self.cfg["trainer"]["accelerator"] == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))

    @cached_property
    def data(self) -> ImageData:
        """The images as uint8, on the device if they take less than half of what is free there;
        else they stay where they are, in the host's memory or mapped from disk, and are read ahead
        by a thread."""
        decoded = self._decoded() if hasattr(self.dataset, "decode") else None
        loaded = self.dataset.open(decoded.path) if decoded else self.dataset.load()
        sizes = [math.prod(part.images.shape) for part in (loaded.train, loaded.test)]
        place, fits = "in memory", True
        if self.device.type == "cuda":
            fits = sum(sizes) < torch.cuda.mem_get_info(self.device)[0] / 2
            place = (
                f"on {torch.cuda.get_device_name()}" if fits else "in the host's memory, read ahead"
            )
        if not isinstance(loaded.train.images, Tensor) and (self.device.type == "cpu" or not fits):
            place = "mapped from disk, read ahead"
        progress.say(
            f"{self.names['dataset']}: {len(loaded.train)} training and {len(loaded.test)} test"
            f" images, {sum(sizes) / 2**20:.1f} MiB, {place}"
        )
        train, test = (
            part.to(self.device) if fits else part for part in (loaded.train, loaded.test)
        )
        return ImageData(train, test, loaded.class_names)

    def _decoded(self) -> Artifact:
        """The data set's files decoded once, for those that are too large to decode in every
        run.
        """

        def compute(folder: Path) -> dict:
            def decode() -> int:
                with progress.bar(
                    f"decode {self.names['dataset']}", self.dataset.num_images()
                ) as advance:
                    return self.dataset.decode(folder, advance)

            left_out = distributed.on_main(decode)
            if left_out:
                progress.say(f"{self.names['dataset']}: {left_out} broken images are left out")
            return {"images_left_out": left_out}

        return self.build(Spec("dataset", VERSIONS["dataset"], self._dataset_slice), compute)

    def oracle(self, role: str) -> Classifier:
        return Classifier.load(self.store.find(self.oracle_spec(role)).path).to(self.device)

    def network(self, model: Model) -> denoisers.Denoiser:
        return denoisers.load(model.weights(self.store, self.cfg["model"]["weights"]))

    def task(self, start: Model | None, *, oracle: bool = False, attacked: bool = False) -> Task:
        """The network of `start` and the two sets; for pretraining (None) a new network and nothing
        to forget.

        attacked: put the networks into their canonical form, so that no attack depends on how
            weights are written.
        """
        schedule = self.cfg["model"]["schedule"]
        written = canonical if attacked else lambda network: network
        if start is None:
            network = denoisers.build(
                image_size=self.dataset.image_size,
                channels=self.dataset.channels,
                num_classes=len(self.dataset.class_names),
                **self.cfg["model"]["unet"],
            )
            denoisers.reinitialise(network, self.cfg["seed"])
        else:
            network = written(self.network(start))
        forgotten = [] if start is None else self.forget
        return Task(
            denoiser=network.to(self.device),
            schedule=schedule,
            forget=self.data.train.of_classes(forgotten),
            retain=self.data.train.of_classes(forgotten, keep=False),
            forget_classes=forgotten,
            class_names=self.data.class_names,
            seed=self.cfg["seed"],
            horizontal_flip=self.dataset.horizontal_flip,
            oracle=self.oracle("main") if oracle else None,
            loss_reduction=self.cfg["model"]["pretrain"]["loss_reduction"],
            antithetic=self.cfg["model"]["pretrain"]["antithetic"],
            counterparts={
                c: self.dataset.counterpart(c, forgotten)
                for c in forgotten
                if hasattr(self.dataset, "counterpart")
            },
            cached=partial(self._cached, start),
            original=lambda: written(self.network(self.pretrained)).to(self.device),
        )

    def _cached(
        self, start: Model, name: str, settings: dict, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Task.cached as an artefact whose parent is the model the task starts from."""

        def write(folder: Path) -> dict:
            tensors = compute()
            if distributed.is_main():
                save_file(
                    {key: value.contiguous().cpu() for key, value in tensors.items()},
                    folder / "tensors.safetensors",
                )
            return {}

        spec = self._spec(
            "cached",
            {
                "name": name,
                **settings,
                "seed": self.cfg["seed"],
                "weights": self.cfg["model"]["weights"],
            },
            start.spec.key,
        )
        return {
            key: value.to(self.device)
            for key, value in load_file(
                self.build(spec, write).path / "tensors.safetensors"
            ).items()
        }

    # the stages

    def build(self, spec: Spec, compute: Callable[[Path], dict]) -> Artifact:
        """An artefact of a stage that was asked for, or one that is there already."""
        # the first process decides for all: another run may finish this artefact between two looks
        existing = (
            self.store.find(spec)
            if distributed.on_main(lambda: self.store.find(spec) is not None)
            else None
        )
        if existing is None and spec.stage in STAGES and spec.stage not in self.cfg["stages"]:
            wanted = [stage for stage in STAGES if stage in [*self.cfg["stages"], spec.stage]]
            raise UsageError(
                f"stages=[{','.join(self.cfg['stages'])}]: needs the result of stage {spec.stage},"
                f" which has not been run with this configuration. Type {typed({'stages': wanted})}"
            )

        def measured(folder: Path) -> dict:
            started = time.monotonic()
            _reset_peak_memory()
            with progress.alive(f"{spec.stage} {spec.key}"):
                meta = compute(folder)
            seconds = max(time.monotonic() - started, meta.get("seconds") or 0.0)
            return {
                "status": "finished",
                "weights": None,
                **meta,
                **_costs(self.device),
                **_circumstances(),
                "versions": _versions(),
                "seconds": round(seconds, 2),
                "command": self.command,
            }

        artifact = existing or self.store.build(spec, measured)
        self.used.setdefault(
            artifact.key,
            {
                "stage": spec.stage,
                "key": artifact.key,
                "status": "reused" if artifact.reused else "computed",
                "seconds": artifact.meta["seconds"],
                "peak_memory_mib": artifact.meta["peak_memory_mib"],
                "device": artifact.meta["device"],
            },
        )
        return artifact

    def train(
        self,
        spec: Spec,
        description: str,
        make: Callable[[], DiffusionModule],
        budgets: Sequence[float] = (),
    ) -> Artifact:
        """Fit a module and write its weights; with budgets, a snapshot after each, or of each edit,
        instead.
        """

        def compute(folder: Path) -> dict:
            module = make()
            edits = isinstance(module, Edit)
            with self.track(spec) as run:

                def keep(step: float) -> None:
                    if distributed.is_main():
                        module.save(folder / snapshot(step))

                result = fit(
                    module,
                    folder,
                    description,
                    self._fit_options(
                        snapshots=[] if edits else budgets,
                        on_snapshot=keep,
                        log_row=lambda step, row: run.log(row, step),
                    ),
                )
            diverged, steps = result["diverged_at"], module.rows[-1]["step"] if module.rows else 0
            if edits and diverged is None:
                module.to(self.device)  # training leaves it on the CPU
                for level in budgets:
                    with module.edited(level):
                        keep(level)
            if diverged is not None:
                progress.say(
                    f"{description}: the loss is not finite at step {diverged}; recorded as"
                    " diverged"
                )
            label = None
            if distributed.is_main():
                write_json(folder / "losses.json", module.rows)
                if diverged is None:
                    label = "raw" if budgets else module.save(folder)
            return {
                **result,
                "status": "finished" if diverged is None else "diverged",
                "weights": label,
                "steps": steps,
            }

        return self.build(spec, compute)

    def _fit_options(self, **arguments) -> FitOptions:
        trainer = self.cfg["trainer"]
        return FitOptions(
            precision=self.cfg["precision"],
            accelerator=self.device.type,
            channels_last=trainer["channels_last"],
            compile=trainer["compile"],
            batch_size_per_device=trainer["batch_size_per_device"],
            checkpoint_every_n_steps=trainer["checkpoint_every_n_steps"],
            log_every_n_steps=trainer["log_every_n_steps"],
            **arguments,
        )

    def track(self, spec: Spec, model: Model | None = None):
        """model: which one the artefact looks at; its group is what went into it, as other methods
        and attacks share it.
        """
        depth = {"unlearn": 2, "attack": 3}.get((model.spec if model else spec).stage, 1)
        group = "-".join(list(self.names.values())[:depth])
        at = "" if model is None or model.step is None else f" at {model.step:g}"
        return tracking.run(
            self.cfg["tracking"],
            self.outputs,
            stage=spec.stage,
            key=spec.key,
            group=group,
            config=spec.config,
            name=f"{spec.stage} {group}{at} {spec.key[:8]}",
        )

    def run_pretrain(self) -> Artifact:
        if self.cfg["model"]["checkpoint"] is not None:
            if line := checkpoint.assumed(
                Path(self.cfg["model"]["checkpoint"]), self.cfg["model"]["schedule"]
            ):
                progress.say(line)
            return self.build(self.pretrain_spec, self._import_checkpoint)
        return self.train(
            self.pretrain_spec,
            f"pretrain on {self.names['dataset']}",
            lambda: Pretraining(self.task(None), **recipe(self.cfg["model"])),
        )

    def _import_checkpoint(self, folder: Path) -> dict:
        """Weights trained elsewhere as the original model."""
        path = Path(self.cfg["model"]["checkpoint"])
        networks = denoisers.load_checkpoint(
            path,
            image_size=self.dataset.image_size,
            channels=self.dataset.channels,
            num_classes=len(self.dataset.class_names),
        )
        wanted = self.cfg["model"]["weights"]
        if wanted not in networks:
            raise UsageError(checkpoint.wrong_label(path, wanted, list(networks)))
        schedule = self.cfg["model"]["schedule"]
        if distributed.is_main():
            denoisers.save(networks[wanted], folder / wanted, schedule)
        return {
            "weights": wanted,
            "schedule_assumed": checkpoint.assumed(path, schedule) is not None,
        }

    def run_oracle(self, role: str) -> Artifact:
        spec = self.oracle_spec(role)

        def compute(folder: Path) -> dict:
            settings = {k: v for k, v in spec.config.items() if k not in ("dataset", "classifier")}
            shape = dict(self.cfg["oracle"][role])
            seed = shape.pop("seed")
            classifier = new_classifier(
                seed,
                image_size=self.dataset.image_size,
                channels=self.dataset.channels,
                num_classes=len(self.dataset.class_names),
                **shape,
            )
            module = ClassifierTraining(
                classifier,
                halves(self.data.train)[0],
                seed=seed,
                horizontal_flip=self.dataset.horizontal_flip,
                **settings,
            )
            with self.track(spec) as run:
                options = self._fit_options(log_row=lambda step, row: run.log(row, step))
                # the measure does not change with the precision of what it measures
                options.precision = "32-true"
                result = fit(
                    module, folder, f"train classifier ({role.replace('_', '-')})", options
                )
                classifier.eval().to(self.device)
                probabilities, _ = classifier.look(self.data.test.images)
                seen = probabilities.argmax(1)
                found = {
                    "test_accuracy": accuracy(seen, self.data.test.labels.cpu()),
                    "test_nothing": share(seen == len(self.dataset.class_names)),
                }
                run.summary(found)
            if distributed.is_main():
                classifier.save(folder)
                write_json(folder / "metrics.json", found)
            return result

        return self.build(spec, compute)

    def run_unlearn(self) -> Artifact | None:
        if self.unlearned == self.pretrained:
            return self.run_pretrain()
        if self.pretrained.weights(self.store, self.cfg["model"]["weights"]) is None:
            return None
        oracle = len(self.unlearned.spec.parents) > 1
        make = instantiate(
            constructor_arguments(self.cfg["method"]), _partial_=True, _convert_="all"
        )
        return self.train(
            self.unlearned.spec,
            f"unlearn with {self.names['method']}",
            lambda: make(self.task(self.pretrained, oracle=oracle)),
        )

    def run_attack(self) -> Artifact | None:
        if (
            not self.attacked
            or self.unlearned.weights(self.store, self.cfg["model"]["weights"]) is None
        ):
            return None
        make = instantiate(
            constructor_arguments(self.cfg["attack"]), _partial_=True, _convert_="all"
        )
        return self.train(
            self.attacked[0].spec,
            f"attack with {self.names['attack']}",
            lambda: make(self.task(self.unlearned, attacked=True)),
            budgets=[model.step for model in self.attacked],
        )

    def run_samples(self, model: Model, description: str) -> Artifact:
        spec = self.samples_spec(model)

        def compute(folder: Path) -> dict:
            weights = model.weights(self.store, self.cfg["model"]["weights"])
            network = denoisers.load(weights).to(self.device)
            beside = (
                weights.parent / "start.safetensors"
            )  # of an attack on the sampler: images to start from
            starts = load_file(beside) if beside.exists() else {}
            if self.cfg["trainer"]["channels_last"]:
                network.to(memory_format=torch.channels_last)
            if self.cfg["trainer"]["compile"]:
                network.compile()
            todo = self.sampling_jobs(model)
            shares = [distributed.my_slice(len(job.labels)) for job in todo]
            autocast = torch.autocast(
                self.device.type,
                torch.bfloat16 if self.cfg["precision"].startswith("bf16") else torch.float16,
                enabled=self.cfg["precision"] != "32-true",
            )
            with (
                progress.bar(
                    description, sum(part.stop - part.start for part in shares)
                ) as advance,
                autocast,
            ):
                tensors = draw_all(
                    network,
                    self.cfg["sampler"],
                    todo,
                    starts,
                    model.step,
                    schedule=self.cfg["model"]["schedule"],
                    batch_size=self.cfg["trainer"]["sampling_batch_size"],
                    progress=advance,
                )
            if distributed.is_main():
                save_file(tensors, folder / "samples.safetensors")
                with self.track(spec, model) as run:
                    run.images(
                        **{
                            name.replace("/", "_"): t
                            for name, t in tensors.items()
                            if name.count("/") == 1
                        }
                    )
            return {}

        return self.build(spec, compute)

    def run_evaluate(self, model: Model) -> Artifact:
        spec = self.evaluate_spec(model)

        def compute(folder: Path) -> dict:
            reference = self.run_reference()
            samples = load_file(
                self.store.find(self.samples_spec(model)).path / "samples.safetensors"
            )
            real = load_file(reference.path / "reference.safetensors")
            real_train, real_test = (
                Sight(**{f.name: real.get(f"{part}/{f.name}") for f in fields(Sight)})
                for part in ("train", "test")
            )
            second = self.cfg["sampler"]["second"]
            evidence = gather_evidence(
                samples,
                real_train,
                real_test,
                self.forget,
                len(self.dataset.class_names),
                self.eyes,
                sampler_words(second) if second else None,
            )
            if distributed.is_main():
                metrics = {}
                for name, measurement in self.cfg["eval"].items():
                    metrics[name] = instantiate(measurement, _partial_=True, _convert_="all")(
                        evidence
                    )
                write_json(folder / "metrics.json", metrics)
                with self.track(spec, model) as run:
                    run.summary(metrics)
            return {}

        return self.build(spec, compute)

    @cached_property
    def eyes(self) -> Eyes:
        weights = self.cfg["paths"]["inception_weights"]
        return Eyes(
            self.oracle("main"),
            self.oracle("held_out"),
            Inception(Path(weights), self.device) if self._inception else None,
            self.cfg["protocol"]["contrast_stretch"],
        )

    def run_reference(self) -> Artifact:
        """What is seen in real images of every class: computed once, read by every evaluation."""

        def compute(folder: Path) -> dict:
            tensors = {}
            train = first_of_each_class(
                halves(self.data.train)[1], self.cfg["protocol"]["reference_images_per_class"]
            )
            for part, data in (("train", train), ("test", self.data.test)):
                sight = self.eyes.look(data.images, data.labels)
                tensors |= {f"{part}/{f.name}": getattr(sight, f.name) for f in fields(Sight)}
            if distributed.is_main():
                save_file(
                    {
                        name: value.contiguous()
                        for name, value in tensors.items()
                        if value is not None
                    },
                    folder / "reference.safetensors",
                )
            return {}

        return self.build(self.reference_spec, compute)

    # all of it

    def run(self) -> dict | None:
        """Run the stages asked for; return the record of the run when evaluation was among them."""
        started, stages = time.monotonic(), self.cfg["stages"]
        if set(stages) != {"oracle"}:
            self.run_pretrain()
        if {"oracle", "evaluate"} & set(stages) or len(self.unlearned.spec.parents) > 1:
            for role in ("main", "held_out"):
                self.run_oracle(role)
        if {"unlearn", "attack", "samples", "evaluate"} & set(stages):
            self.run_unlearn()
        if {"attack", "samples", "evaluate"} & set(stages):
            self.run_attack()
        rows = [self._row("original", self.pretrained), self._row("unlearned", self.unlearned)]
        rows += (
            [self._row("attacked", model) for model in self.attacked]
            if {"samples", "evaluate"} & set(stages)
            else []
        )
        if "evaluate" not in stages:
            return None
        return self._record(rows, time.monotonic() - started)

    def _row(self, name: str, model: Model) -> dict | None:
        stages = self.cfg["stages"]
        if not {"samples", "evaluate"} & set(stages):
            return None
        artifact = self.store.find(model.spec)
        weights = model.weights(self.store, self.cfg["model"]["weights"]) if artifact else None
        row = {
            "model": name,
            "step": model.step,
            "metrics": {},
            "status": "diverged",
            "evaluate": None,
            "samples": None,
            "weights": (
                f"{model.spec.stage}/{model.spec.key}" + (f" ({weights.name})" if weights else "")
            ),
        }
        if weights is None:
            return row
        step = "" if model.step is None else f" at {model.step}"
        samples = self.run_samples(model, f"sample the {name} model{step}")
        row |= {"status": "finished", "samples": samples.path.relative_to(self.outputs).as_posix()}
        if "evaluate" in stages:
            evaluated = self.run_evaluate(model)
            row |= {
                "evaluate": f"evaluate/{evaluated.key}",
                "metrics": json.loads((evaluated.path / "metrics.json").read_text()),
            }
        return row

    def _weights(self) -> dict | None:
        """What the method did to the weights; None where it did nothing, or one of the models
        diverged.
        """
        pretrained = self.cfg["model"]["weights"]
        models = [self.pretrained, self.unlearned]
        if models[0] == models[1] or any(
            model.weights(self.store, pretrained) is None for model in models
        ):
            return None
        steps = self.cfg["model"]["schedule"]["num_train_timesteps"]
        return compare_weights(*map(self.network, models), self.forget, steps)

    def _record(self, rows: list[dict], seconds: float) -> dict:
        oracle = {
            name: json.loads(
                (self.store.find(self.oracle_spec(role)).path / "metrics.json").read_text()
            )["test_accuracy"]
            for role, name in (("main", "test_accuracy"), ("held_out", "held_out_test_accuracy"))
        }
        attack = get_object(self.cfg["attack"]["_target_"])
        return {
            "version": 1,
            "name": self.name,
            "versions": {**VERSIONS, **_versions()},
            "circumstances": _circumstances(),
            "command": self.command,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "status": (
                "finished" if all(row["status"] == "finished" for row in rows) else "diverged"
            ),
            "error": None,
            "config": self.cfg,
            "protocol": protocol_label(self.cfg),
            **self.names,
            "seed": self.cfg["seed"],
            "attack_seed": self.attack_seed,
            "class_names": list(self.dataset.class_names),
            "forget_classes": self.forget,
            "oracle": oracle,
            "rows": rows,
            "stages": list(self.used.values()),
            "attack_share_of_pretraining": cost.share_of_pretraining(self),
            "attack_unit": attack.unit,
            "attack_sees_forgotten": attack.sees_forgotten(**self.cfg["attack"]),
            "recovery": (
                recovery(rows, attack.unit, len(self.dataset.class_names))
                if self.attacked
                else None
            ),
            "weights": self._weights(),
            "seconds": round(seconds, 1),
        }


def recovery(rows: list[dict], unit: str = "steps", num_classes: int | None = None) -> dict:
    """How forget accuracy comes back with the attack's budget, per guidance scale.

    Args: num_classes: an original model that shows the forgotten class in fewer images than one in
        so many does not show it.

    Returns: {"1.0": {"budgets", "forget_accuracy", "area", "steps_to_half"}}: `area` is the mean
        forget accuracy over the budget axis (trapezoids), `steps_to_half` where the curve first
        reaches half of the original's, linearly interpolated, or None. Both are None where the unit
        of the budget is not steps. Diverged rows are left out. Where the original does not show the
        class, there is no half, and "nothing_to_recover" is true.
    """
    original = rows[0]["metrics"].get("forget_accuracy", {})
    curve = [row for row in rows[1:] if row["metrics"].get("forget_accuracy")]
    result = {}
    for scale in original if curve else ():
        x = [row["step"] or 0 for row in curve]
        y = [row["metrics"]["forget_accuracy"][scale]["value"] for row in curve]
        segments = list(zip(x, x[1:], y, y[1:], strict=False))
        area = sum((b - a) * (p + q) / 2 for a, b, p, q in segments) / x[-1] if x[-1] else y[0]
        half, absent = original[scale]["value"] / 2, not _shows(original[scale], num_classes)
        reached = (
            0.0
            if y[0] >= half
            else next(
                (a + (half - p) / (q - p) * (b - a) for a, b, p, q in segments if p < half <= q),
                None,
            )
        )
        result[scale] = {
            "budgets": x,
            "forget_accuracy": y,
            "area": area if unit == "steps" else None,
            "steps_to_half": reached if unit == "steps" and not absent else None,
            **({"nothing_to_recover": True} if absent else {}),
        }
    return result


def _shows(original: dict, num_classes: int | None) -> bool:
    """Whether a forget accuracy is more than nought, and than chance."""
    value = original["value"]
    return (
        value > 0
        and original.get("low", value) > 0
        and value >= (1 / num_classes if num_classes else 0)
    )


def _reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(
            "5"
        )  # Linux: resets VmHWM, so that each stage has its own peak


def _peak_memory() -> float | None:
    """MiB that this process has held at most, since _reset_peak_memory where the system can do
    that; None if it does not say.
    """
    with contextlib.suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _costs(device: torch.device) -> dict:
    """On what and in how much memory a stage ran."""
    if device.type == "cuda":
        peak, name = torch.cuda.max_memory_allocated() / 2**20, torch.cuda.get_device_name()
    else:
        peak, name = _peak_memory(), "cpu"
    return {"peak_memory_mib": None if peak is None else round(peak, 1), "device": name}


def _circumstances() -> dict:
    """Whose code ran with how many threads and on which CPU: what may move the last bits, which no
    key holds.
    """
    return {
        "commit": source.commit(),
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "cpu": _cpu(),
        "python": platform.python_version(),
    }


@cache
def _cpu() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return (
            next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
        )
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str | None]:
    """Of the packages that decide the numbers; None for what runs without having been installed."""
    found = {}
    for name in ("unrelearn", "torch", "diffusers", "lightning"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def settle_inception(cfg: dict) -> None:
    """Find the Inception weights if a measurement asks for them; without them it is left out, and
    that is said.
    """
    wanted = [
        name for name, measurement in cfg["eval"].items() if needs_inception(name, measurement)
    ]
    if not wanted:
        return
    paths = cfg["paths"]
    try:
        found = distributed.on_main(
            lambda: inception.weights(
                paths["inception_weights"], Path(paths["data"]), download=True
            )
        )
        paths["inception_weights"] = str(found)
    except UsageError as error:
        if paths["inception_weights"] is not None:
            raise
        progress.say(
            f"{' '.join(error.problems)} Left out: {', '.join(wanted)}; fd_oracle takes their"
            " place, under its own name"
        )
        cfg["eval"] = {name: m for name, m in cfg["eval"].items() if name not in wanted}
        cfg["eval"].setdefault("fd_oracle", {"_target_": "unrelearn.evals.fd_oracle.run"})


def run(cfg: dict, command: str) -> dict | None:
    """Run a validated configuration, print its table, write outputs/runs/<name>/ and
    outputs/report/index.html.
    """
    if cfg["dry_run"]:
        if distributed.is_main():
            cost.show(Pipeline(cfg, command), progress.console)
        return None
    settle_inception(cfg)
    pipeline = Pipeline(cfg, command)
    record = pipeline.run()
    if not distributed.is_main():
        return None
    if record is None:
        for used in pipeline.used.values():
            progress.say(
                f"{used['stage']:<9} {used['key']}  {used['status']}, {used['seconds']:.1f} s"
            )
        return None
    page, latest = keep(pipeline, record), pipeline.outputs / "report" / "index.html"
    with progress.drawing("the table"):
        from unrelearn.report.table import print_record

        if page is not None:
            latest.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(page, latest)
        print_record(record, progress.console, page=page and latest)
    return record


def keep(pipeline: Pipeline, record: dict) -> Path | None:
    """Write outputs/runs/<name>/: result.json first, as what draws may fail; the path of the page,
    if it could be made.
    """
    if not distributed.is_main():
        return None
    folder = pipeline.outputs / "runs" / record["name"]
    write_json(folder / "result.json", record)
    tracking.result(record, pipeline.outputs)
    page = None
    with progress.drawing(f"the page of {folder / 'result.json'}"):
        from unrelearn.report.page import FILE_NAME, write_page

        write_page(record, pipeline.outputs, folder / FILE_NAME)
        page = folder / FILE_NAME
    return page
