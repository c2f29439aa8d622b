"""The stage graph: dataset -> pretrain -> unlearn -> attack -> samples -> evaluate, each an artefact made from artefacts."""

import contextlib
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import torch
from hydra.utils import get_object, instantiate
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn import cost, distributed, inception, progress, tracking
from unrelearn import denoiser as denoisers
from unrelearn.advice import typed
from unrelearn.artifact import Artifact, Spec, Store, sha256, write_json
from unrelearn.config import STAGES, forget_classes, needs_inception, protocol_label
from unrelearn.data import ImageData
from unrelearn.errors import UsageError
from unrelearn.evals.evidence import Eyes, Sight, accuracy, first_of_each_class, gather_evidence
from unrelearn.inception import Inception
from unrelearn.module import DiffusionModule, Edit, FitOptions, Pretraining, Task, fit
from unrelearn.oracle import Classifier, ClassifierTraining, new_classifier
from unrelearn.sampling import sample

# raise a stage's number when its code changes what it computes: its artefacts and all that follow are then made anew
VERSIONS = {"dataset": 1, "pretrain": 1, "oracle": 1, "unlearn": 1, "attack": 1, "samples": 1, "reference": 1, "evaluate": 3,
            "cached": 1}


@dataclass(frozen=True)
class Model:
    """A model somewhere in the graph: an artefact, which may not exist yet, and for an attack the step, or level of an edit."""

    spec: Spec
    step: float | None = None

    def weights(self, store: Store, pretrained: str) -> Path | None:
        """The folder of its weights; None if its training, or that of its parent, diverged. pretrained: "ema" or "raw"."""
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

    stage: that of an artefact; "evaluate" stands for the samples of `model` and what is seen in them, "record" for the table and
    page at the end, whose key is the last part of the run's name. what: the method, attack or model it is of.
    """

    stage: str
    key: str
    what: str
    needs: tuple[str, ...] = ()
    model: Model | None = None


def recipe(model: dict) -> dict:
    """The arguments of Pretraining in a configuration's `model`; the loss itself goes to every stage, through its Task."""
    return {k: v for k, v in model["pretrain"].items() if k not in ("loss_reduction", "antithetic")}


def snapshot(step: float) -> str:
    return f"step_{step:06d}" if isinstance(step, int) else f"level_{step:g}"


class Pipeline:
    """One run of a resolved configuration: `specs` says what it consists of, `run()` makes what is missing."""

    def __init__(self, cfg: dict, command: str, after: "Pipeline | None" = None):
        """after: another pipeline; if it has the same data set, that is not looked at and loaded again."""
        self.cfg, self.command = cfg, command
        self.outputs = Path(cfg["paths"]["outputs"])
        self.store = Store(self.outputs / "artifacts", rebuild=cfg["rebuild"], say=progress.say)
        if after is not None and (after.cfg["dataset"], after.cfg["trainer"]) == (cfg["dataset"], cfg["trainer"]):
            vars(self).update({name: vars(after)[name] for name in ("dataset", "_dataset_slice", "data") if name in vars(after)})
        else:
            self.dataset = instantiate(cfg["dataset"], _convert_="all")
        self.forget = forget_classes(cfg["forget"], self.dataset)
        self.names = {group: cfg[group]["_target_"].split(".")[-2] for group in ("dataset", "method", "attack")}
        self.group = "-".join(self.names.values())
        self.used: dict[str, dict] = {}  # artefact key -> what the stage table says of it

    # what there is to make

    @cached_property
    def pretrain_spec(self) -> Spec:
        model = {k: self.cfg["model"][k] for k in ("unet", "schedule", "pretrain")}
        if self.cfg["model"]["checkpoint"] is not None:
            path = Path(self.cfg["model"]["checkpoint"])
            files = sorted(p for p in path.rglob("*") if p.suffix in (".json", ".safetensors")) if path.is_dir() else [path]
            recipe = {k: model["pretrain"][k] for k in ("loss_reduction", "antithetic")}  # methods and attacks follow it
            imported = {**model, "checkpoint": [sha256(file) for file in files], "pretrain": recipe,
                        "weights": self.cfg["model"]["weights"]}
            return self._spec("pretrain", {"dataset": self._dataset_slice, "model": imported})
        return self._spec("pretrain", {"dataset": self._dataset_slice, "model": model, "seed": self.cfg["seed"]})

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
        """The attacked model at each level of an edit, or each budget above 0, where it is the unlearned one."""
        attack = self.cfg["attack"]
        if get_object(attack["_target_"]).identity:
            return []
        spec = self._spec("attack", self._changed("attack"), self.unlearned.spec.key)
        return [Model(spec, at) for at in attack.get("levels") or [step for step in attack["budgets"] if step > 0]]

    def steps(self, group: str) -> int:
        """Optimiser steps of the method or attack, at most."""
        return get_object(self.cfg[group]["_target_"]).steps(**self.cfg[group])

    def passes(self, group: str) -> tuple[float, float]:
        """What a step of the method or attack costs; see DiffusionModule.passes."""
        return get_object(self.cfg[group]["_target_"]).passes

    def samples_spec(self, model: Model) -> Spec:
        config = {"sampler": self.cfg["sampler"], "forget": self.forget, "step": model.step}
        # two sets of weights lie in what was trained from scratch: the pretrained model, and what `retrain` makes
        if model.step is None and (model.spec.stage == "pretrain" or self.cfg["method"].get("ema_decay") is not None):
            config["weights"] = self.cfg["model"]["weights"]
        return self._spec("samples", config, model.spec.key)

    def evaluate_spec(self, model: Model) -> Spec:
        parents = (self.samples_spec(model).key, self.reference_spec.key)
        return Spec("evaluate", VERSIONS["evaluate"], {"eval": self.cfg["eval"], "forget": self.forget}, parents)

    @cached_property
    def reference_spec(self) -> Spec:
        protocol, weights = self.cfg["protocol"], self.cfg["paths"]["inception_weights"]
        config = {"dataset": self._dataset_slice, "contrast_stretch": protocol["contrast_stretch"],
                  "images_per_class": protocol["reference_images_per_class"],
                  "inception": sha256(Path(weights)) if self._inception and weights else None}
        return Spec("reference", VERSIONS["reference"], config, tuple(self.oracle_spec(r).key for r in ("main", "held_out")))

    @property
    def models(self) -> list[Model]:
        """The models that are measured, each once."""
        return [self.pretrained, *[self.unlearned] * (self.unlearned != self.pretrained), *self.attacked]

    @cached_property
    def name(self) -> str:
        """Of the run: its folder in outputs/runs. The same whatever comes out of it."""
        identity = Spec("run", 2, {"rows": [self.evaluate_spec(model).key for model in self.models]}).key[:8]
        return f"{self.group}-forget{'_'.join(map(str, self.forget))}-seed{self.cfg['seed']}-{identity}"

    def parts(self) -> list[Part]:
        """Everything the run consists of, each part after those that it needs."""
        decoded = [Spec("dataset", VERSIONS["dataset"], self._dataset_slice)] * hasattr(self.dataset, "decode")
        first = tuple(spec.key for spec in decoded)
        oracles = {role: self.oracle_spec(role).key for role in ("main", "held_out")}
        original, reference = self.pretrain_spec, self.reference_spec
        found = [Part("dataset", key, self.names["dataset"]) for key in first]
        found += [Part("pretrain", original.key, "", first)]
        found += [Part("oracle", key, role, first) for role, key in oracles.items()]
        found += [Part("reference", reference.key, self.names["dataset"], tuple(oracles.values()))]
        if self.unlearned != self.pretrained:
            found.append(Part("unlearn", self.unlearned.spec.key, self.names["method"], self.unlearned.spec.parents))
        if self.attacked:
            found.append(Part("attack", self.attacked[0].spec.key, self.names["attack"], self.attacked[0].spec.parents))
        seen = [Part("evaluate", self.evaluate_spec(model).key,
                     model.spec.stage + ("" if model.step is None else f" at {model.step:g}"),
                     (model.spec.key, reference.key), model) for model in self.models]
        return [*found, *seen, Part("record", self.name, self.group, tuple(part.key for part in seen))]

    def make(self, part: Part) -> None:
        """Make a part, whose needs must be there; what its parents' divergence rules out is left out."""
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
        return any(needs_inception(name, measurement) for name, measurement in self.cfg["eval"].items())

    def _spec(self, stage: str, config: dict, *parents: str) -> Spec:
        return Spec(stage, VERSIONS[stage], {**config, "precision": self.cfg["precision"]}, parents)

    def _changed(self, group: str) -> dict:
        # a data set among the arguments is what its images are, wherever they lie
        arguments = {k: {"name": v["_target_"].split(".")[-2], "content": instantiate(v, _convert_="all").fingerprint()}
                     if isinstance(v, dict) and "_target_" in v else v for k, v in self.cfg[group].items()}
        return {group: arguments, "forget": self.forget, "seed": self.cfg["seed"], "weights": self.cfg["model"]["weights"]}

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
        """The images as uint8, on the device if they take less than half of what is free there; else they stay where they
        are, in the host's memory or mapped from disk, and are read ahead by a thread."""
        decoded = self._decoded() if hasattr(self.dataset, "decode") else None
        loaded = self.dataset.open(decoded.path) if decoded else self.dataset.load()
        sizes = [math.prod(part.images.shape) for part in (loaded.train, loaded.test)]
        place, fits = "in memory", True
        if self.device.type == "cuda":
            fits = sum(sizes) < torch.cuda.mem_get_info(self.device)[0] / 2
            place = f"on {torch.cuda.get_device_name()}" if fits else "in the host's memory, read ahead"
        if not isinstance(loaded.train.images, Tensor) and (self.device.type == "cpu" or not fits):
            place = "mapped from disk, read ahead"
        progress.say(f"{self.names['dataset']}: {len(loaded.train)} training and {len(loaded.test)} test images, "
                     f"{sum(sizes) / 2**20:.1f} MiB, {place}")
        train, test = (part.to(self.device) if fits else part for part in (loaded.train, loaded.test))
        return ImageData(train, test, loaded.class_names)

    def _decoded(self) -> Artifact:
        """The data set's files decoded once, for those that are too large to decode in every run."""
        def compute(folder: Path) -> dict:
            def decode() -> int:
                with progress.bar(f"decode {self.names['dataset']}", self.dataset.num_images()) as advance:
                    return self.dataset.decode(folder, advance)

            left_out = distributed.on_main(decode)
            if left_out:
                progress.say(f"{self.names['dataset']}: {left_out} broken images are left out")
            return {"images_left_out": left_out}

        return self.build(Spec("dataset", VERSIONS["dataset"], self._dataset_slice), compute)

    def oracle(self, role: str) -> Classifier:
        return Classifier.load(self.store.find(self.oracle_spec(role)).path).to(self.device)

    def task(self, start: Model | None, *, oracle: bool = False) -> Task:
        """The network of `start` and the two sets; for pretraining (None) a new network and nothing to forget."""
        schedule = self.cfg["model"]["schedule"]
        if start is None:
            network = denoisers.build(
                image_size=self.dataset.image_size, channels=self.dataset.channels,
                num_classes=len(self.dataset.class_names), **self.cfg["model"]["unet"])
            denoisers.reinitialise(network, self.cfg["seed"])
        else:
            network = denoisers.load(start.weights(self.store, self.cfg["model"]["weights"]))
        forgotten = [] if start is None else self.forget
        return Task(
            denoiser=network.to(self.device), schedule=schedule,
            forget=self.data.train.of_classes(forgotten), retain=self.data.train.of_classes(forgotten, keep=False),
            forget_classes=forgotten, class_names=self.data.class_names, seed=self.cfg["seed"],
            horizontal_flip=self.dataset.horizontal_flip, oracle=self.oracle("main") if oracle else None,
            loss_reduction=self.cfg["model"]["pretrain"]["loss_reduction"],
            antithetic=self.cfg["model"]["pretrain"]["antithetic"],
            counterparts={c: self.dataset.counterpart(c, forgotten) for c in forgotten
                          if hasattr(self.dataset, "counterpart")},
            cached=partial(self._cached, start),
            original=lambda: denoisers.load(self.pretrained.weights(self.store, self.cfg["model"]["weights"])).to(self.device))

    def _cached(self, start: Model, name: str, settings: dict, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Task.cached as an artefact whose parent is the model the task starts from."""
        def write(folder: Path) -> dict:
            tensors = compute()
            if distributed.is_main():
                save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, folder / "tensors.safetensors")
            return {}

        spec = self._spec("cached", {"name": name, **settings, "seed": self.cfg["seed"], "weights": self.cfg["model"]["weights"]},
                          start.spec.key)
        return {key: value.to(self.device)
                for key, value in load_file(self.build(spec, write).path / "tensors.safetensors").items()}

    # the stages

    def build(self, spec: Spec, compute: Callable[[Path], dict]) -> Artifact:
        """An artefact of a stage that was asked for, or one that is there already."""
        # the first process decides for all: another run may finish this artefact between two looks
        existing = self.store.find(spec) if distributed.on_main(lambda: self.store.find(spec) is not None) else None
        if existing is None and spec.stage in STAGES and spec.stage not in self.cfg["stages"]:
            wanted = [stage for stage in STAGES if stage in [*self.cfg["stages"], spec.stage]]
            raise UsageError(f"stages=[{','.join(self.cfg['stages'])}]: needs the result of stage {spec.stage}, which has not "
                             f"been run with this configuration. Type {typed({'stages': wanted})}")

        def measured(folder: Path) -> dict:
            started = time.monotonic()
            _reset_peak_memory()
            meta = compute(folder)
            seconds = max(time.monotonic() - started, meta.get("seconds") or 0.0)
            return {"status": "finished", "weights": None, **meta, **_circumstances(self.device),
                    "seconds": round(seconds, 2), "command": self.command}

        artifact = existing or self.store.build(spec, measured)
        self.used.setdefault(artifact.key, {
            "stage": spec.stage, "key": artifact.key, "status": "reused" if artifact.reused else "computed",
            "seconds": artifact.meta["seconds"], "peak_memory_mib": artifact.meta["peak_memory_mib"],
            "device": artifact.meta["device"]})
        return artifact

    def train(self, spec: Spec, description: str, make: Callable[[], DiffusionModule],
              budgets: list[float] = []) -> Artifact:  # noqa: B006 - never changed
        """Fit a module and write its weights; with budgets, a snapshot after each, or of each edit, instead."""
        def compute(folder: Path) -> dict:
            module = make()
            edits = isinstance(module, Edit)
            with self.track(spec) as run:
                def keep(step: float) -> None:
                    if distributed.is_main():
                        module.save(folder / snapshot(step))

                result = fit(module, folder, description, self._fit_options(
                    snapshots=[] if edits else budgets, on_snapshot=keep,
                    log_row=lambda step, row: run.log(row, step)))
            diverged, steps = result["diverged_at"], module.rows[-1]["step"] if module.rows else 0
            if edits and diverged is None:
                module.to(self.device)  # training leaves it on the CPU
                for level in budgets:
                    with module.edited(level):
                        keep(level)
            if diverged is not None:
                progress.say(f"{description}: the loss is not finite at step {diverged}; recorded as diverged")
            label = None
            if distributed.is_main():
                write_json(folder / "losses.json", module.rows)
                if diverged is None:
                    label = "raw" if budgets else module.save(folder)
            return {**result, "status": "finished" if diverged is None else "diverged", "weights": label, "steps": steps}

        return self.build(spec, compute)

    def _fit_options(self, **arguments) -> FitOptions:
        trainer = self.cfg["trainer"]
        return FitOptions(precision=self.cfg["precision"], accelerator=self.device.type,
                          channels_last=trainer["channels_last"], compile=trainer["compile"],
                          batch_size_per_device=trainer["batch_size_per_device"],
                          checkpoint_every_n_steps=trainer["checkpoint_every_n_steps"],
                          log_every_n_steps=trainer["log_every_n_steps"], **arguments)

    def track(self, spec: Spec, model: Model | None = None):
        """model: which one the artefact looks at; its group is what went into it, as other methods and attacks share it."""
        depth = {"unlearn": 2, "attack": 3}.get((model.spec if model else spec).stage, 1)
        group = "-".join(list(self.names.values())[:depth])
        at = "" if model is None or model.step is None else f" at {model.step:g}"
        return tracking.run(self.cfg["tracking"], self.outputs, stage=spec.stage, key=spec.key, group=group, config=spec.config,
                            name=f"{spec.stage} {group}{at} {spec.key[:8]}")

    def run_pretrain(self) -> Artifact:
        if self.cfg["model"]["checkpoint"] is not None:
            return self.build(self.pretrain_spec, self._import_checkpoint)
        return self.train(self.pretrain_spec, f"pretrain on {self.names['dataset']}",
                          lambda: Pretraining(self.task(None), **recipe(self.cfg["model"])))

    def _import_checkpoint(self, folder: Path) -> dict:
        """Weights trained elsewhere as the original model."""
        networks = denoisers.load_checkpoint(Path(self.cfg["model"]["checkpoint"]), image_size=self.dataset.image_size,
                                             channels=self.dataset.channels, num_classes=len(self.dataset.class_names))
        wanted = self.cfg["model"]["weights"]
        if wanted not in networks:
            raise UsageError(f"model.weights={wanted}: {self.cfg['model']['checkpoint']} holds only "
                             f"{' and '.join(networks)} weights. Type model.weights={next(iter(networks))}")
        if distributed.is_main():
            denoisers.save(networks[wanted], folder / wanted, self.cfg["model"]["schedule"])
        return {"weights": wanted}

    def run_oracle(self, role: str) -> Artifact:
        spec = self.oracle_spec(role)

        def compute(folder: Path) -> dict:
            settings = {k: v for k, v in spec.config.items() if k not in ("dataset", "classifier")}
            shape = dict(self.cfg["oracle"][role])
            seed = shape.pop("seed")
            classifier = new_classifier(seed, image_size=self.dataset.image_size, channels=self.dataset.channels,
                                        num_classes=len(self.dataset.class_names), **shape)
            module = ClassifierTraining(classifier, self.data.train, seed=seed,
                                        horizontal_flip=self.dataset.horizontal_flip, **settings)
            with self.track(spec) as run:
                options = self._fit_options(log_row=lambda step, row: run.log(row, step))
                options.precision = "32-true"  # the measure does not change with the precision of what it measures
                result = fit(module, folder, f"train classifier ({role.replace('_', '-')})", options)
                classifier.eval().to(self.device)
                probabilities, _ = classifier.look(self.data.test.images)
                test = accuracy(probabilities.argmax(1), self.data.test.labels.cpu())
                run.summary({"test_accuracy": test})
            if distributed.is_main():
                classifier.save(folder)
                write_json(folder / "metrics.json", {"test_accuracy": test})
            return result

        return self.build(spec, compute)

    def run_unlearn(self) -> Artifact | None:
        if self.unlearned == self.pretrained:
            return self.run_pretrain()
        if self.pretrained.weights(self.store, self.cfg["model"]["weights"]) is None:
            return None
        oracle = len(self.unlearned.spec.parents) > 1
        make = instantiate(self.cfg["method"], _partial_=True, _convert_="all")
        return self.train(self.unlearned.spec, f"unlearn with {self.names['method']}",
                          lambda: make(self.task(self.pretrained, oracle=oracle)))

    def run_attack(self) -> Artifact | None:
        if not self.attacked or self.unlearned.weights(self.store, self.cfg["model"]["weights"]) is None:
            return None
        make = instantiate(self.cfg["attack"], _partial_=True, _convert_="all")
        return self.train(self.attacked[0].spec, f"attack with {self.names['attack']}",
                          lambda: make(self.task(self.unlearned)), budgets=[model.step for model in self.attacked])

    def run_samples(self, model: Model, description: str) -> Artifact:
        spec, s = self.samples_spec(model), self.cfg["sampler"]
        forgotten = torch.tensor(self.forget).repeat(-(-s["num_images"] // len(self.forget)))[:s["num_images"]]
        kept = [c for c in range(len(self.dataset.class_names)) if c not in self.forget]
        retained = torch.tensor(kept).repeat(s["images_per_retained_class"])
        jobs = ([("forget", scale, forgotten) for scale in s["guidance_scales"]]
                + [("retain", scale, retained) for scale in s["retain_guidance_scales"]])

        def compute(folder: Path) -> dict:
            weights = model.weights(self.store, self.cfg["model"]["weights"])
            network = denoisers.load(weights).to(self.device)
            beside = weights.parent / "start.safetensors"  # of an attack on the sampler: images to start from
            started = {"start": load_file(beside)["images"], "start_time": model.step} if beside.exists() else {}
            if self.cfg["trainer"]["channels_last"]:
                network.to(memory_format=torch.channels_last)
            if self.cfg["trainer"]["compile"]:
                network.compile()
            tensors = {}
            shares = [distributed.my_slice(len(labels)) for _, _, labels in jobs]
            autocast = torch.autocast(self.device.type, torch.bfloat16 if self.cfg["precision"].startswith("bf16")
                                      else torch.float16, enabled=self.cfg["precision"] != "32-true")
            with progress.bar(description, sum(part.stop - part.start for part in shares)) as advance, autocast:
                for (stream, scale, labels), part in zip(jobs, shares, strict=True):
                    images = sample(network, labels[part], schedule=self.cfg["model"]["schedule"], name=s["name"],
                                    num_inference_steps=s["num_inference_steps"], eta=s["eta"],
                                    clip_sample=s["clip_sample"], guidance_scale=scale,
                                    seed=s["seed"], stream=stream, first=part.start,
                                    batch_size=self.cfg["trainer"]["sampling_batch_size"], progress=advance,
                                    **started if stream == "forget" else {})
                    tensors[f"{stream}/{float(scale)}"] = distributed.gather(images)
                    tensors[f"{stream}/{float(scale)}/labels"] = labels.clone()
            if distributed.is_main():
                save_file(tensors, folder / "samples.safetensors")
                with self.track(spec, model) as run:
                    run.images(**{name.replace("/", "_"): t for name, t in tensors.items() if not name.endswith("labels")})
            return {}

        return self.build(spec, compute)

    def run_evaluate(self, model: Model) -> Artifact:
        spec = self.evaluate_spec(model)

        def compute(folder: Path) -> dict:
            reference = self.run_reference()
            samples = load_file(self.store.find(self.samples_spec(model)).path / "samples.safetensors")
            real = load_file(reference.path / "reference.safetensors")
            real_train, real_test = (Sight(**{f.name: real.get(f"{part}/{f.name}") for f in fields(Sight)})
                                     for part in ("train", "test"))
            evidence = gather_evidence(samples, real_train, real_test, self.forget, len(self.dataset.class_names), self.eyes)
            if distributed.is_main():
                metrics = {}
                for name, measurement in self.cfg["eval"].items():
                    metrics[name] = instantiate(measurement, _partial_=True, _convert_="all")(evidence)
                write_json(folder / "metrics.json", metrics)
                with self.track(spec, model) as run:
                    run.summary(metrics)
            return {}

        return self.build(spec, compute)

    @cached_property
    def eyes(self) -> Eyes:
        weights = self.cfg["paths"]["inception_weights"]
        return Eyes(self.oracle("main"), self.oracle("held_out"),
                    Inception(Path(weights), self.device) if self._inception else None,
                    self.cfg["protocol"]["contrast_stretch"])

    def run_reference(self) -> Artifact:
        """What is seen in real images of every class: computed once, read by every evaluation."""
        def compute(folder: Path) -> dict:
            tensors = {}
            train = first_of_each_class(self.data.train, self.cfg["protocol"]["reference_images_per_class"])
            for part, data in (("train", train), ("test", self.data.test)):
                sight = self.eyes.look(data.images, data.labels)
                tensors |= {f"{part}/{f.name}": getattr(sight, f.name) for f in fields(Sight)}
            if distributed.is_main():
                save_file({name: value.contiguous() for name, value in tensors.items() if value is not None},
                          folder / "reference.safetensors")
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
        rows += [self._row("attacked", model) for model in self.attacked] \
            if {"samples", "evaluate"} & set(stages) else []
        if "evaluate" not in stages:
            return None
        return self._record(rows, time.monotonic() - started)

    def _row(self, name: str, model: Model) -> dict | None:
        stages = self.cfg["stages"]
        if not {"samples", "evaluate"} & set(stages):
            return None
        artifact = self.store.find(model.spec)
        weights = model.weights(self.store, self.cfg["model"]["weights"]) if artifact else None
        row = {"model": name, "step": model.step, "metrics": {}, "status": "diverged", "evaluate": None, "samples": None,
               "weights": f"{model.spec.stage}/{model.spec.key}" + (f" ({weights.name})" if weights else "")}
        if weights is None:
            return row
        step = "" if model.step is None else f" at {model.step}"
        samples = self.run_samples(model, f"sample the {name} model{step}")
        row |= {"status": "finished", "samples": samples.path.relative_to(self.outputs).as_posix()}
        if "evaluate" in stages:
            evaluated = self.run_evaluate(model)
            row |= {"evaluate": f"evaluate/{evaluated.key}",
                    "metrics": json.loads((evaluated.path / "metrics.json").read_text())}
        return row

    def _record(self, rows: list[dict], seconds: float) -> dict:
        oracle = {name: json.loads((self.store.find(self.oracle_spec(role)).path / "metrics.json").read_text())["test_accuracy"]
                  for role, name in (("main", "test_accuracy"), ("held_out", "held_out_test_accuracy"))}
        attack = get_object(self.cfg["attack"]["_target_"])
        return {
            "version": 1, "name": self.name, "versions": {**VERSIONS, **{p: version(p) for p in ("unrelearn", "torch")}},
            "command": self.command, "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "status": "finished" if all(row["status"] == "finished" for row in rows) else "diverged", "error": None,
            "config": self.cfg, "protocol": protocol_label(self.cfg), **self.names,
            "seed": self.cfg["seed"], "class_names": list(self.dataset.class_names),
            "forget_classes": self.forget, "oracle": oracle, "rows": rows, "stages": list(self.used.values()),
            "attack_unit": attack.unit, "attack_sees_forgotten": attack.sees_forgotten(**self.cfg["attack"]),
            "recovery": recovery(rows, attack.unit) if self.attacked else None,
            "seconds": round(seconds, 1),
        }


def recovery(rows: list[dict], unit: str = "steps") -> dict:
    """How forget accuracy comes back with the attack's budget, per guidance scale.

    Returns:
        {"1.0": {"budgets", "forget_accuracy", "area", "steps_to_half"}}: `area` is the mean forget accuracy over the
        budget axis (trapezoids), `steps_to_half` where the curve first reaches half of the original's, linearly
        interpolated, or None. Both are None where the unit of the budget is not steps. Diverged rows are left out.
    """
    original = rows[0]["metrics"].get("forget_accuracy", {})
    curve = [row for row in rows[1:] if row["metrics"].get("forget_accuracy")]
    result = {}
    for scale in original if curve else ():
        x = [row["step"] or 0 for row in curve]
        y = [row["metrics"]["forget_accuracy"][scale]["value"] for row in curve]
        segments = list(zip(x, x[1:], y, y[1:], strict=False))
        area = sum((b - a) * (p + q) / 2 for a, b, p, q in segments) / x[-1] if x[-1] else y[0]
        half = original[scale]["value"] / 2
        reached = 0.0 if y[0] >= half else next(
            (a + (half - p) / (q - p) * (b - a) for a, b, p, q in segments if p < half <= q), None)
        result[scale] = {"budgets": x, "forget_accuracy": y, "area": area if unit == "steps" else None,
                         "steps_to_half": reached if unit == "steps" else None}
    return result


def _reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM, so that each stage has its own peak


def _circumstances(device: torch.device) -> dict:
    """On what, with what and in how much memory a stage ran."""
    if device.type == "cuda":
        peak, name = torch.cuda.max_memory_allocated() / 2**20, torch.cuda.get_device_name()
    else:
        peak, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "cpu"
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return {"peak_memory_mib": round(peak, 1), "device": name, "processes": distributed.world_size(),
            "threads": torch.get_num_threads(), "commit": _commit(), "python": platform.python_version(),
            "versions": {name: version(name) for name in ("torch", "diffusers", "lightning", "unrelearn")}}


def _commit() -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=Path(__file__).parent, timeout=5,
                              capture_output=True, text=True, check=True).stdout.strip()
    return None


def settle_inception(cfg: dict) -> None:
    """Find the Inception weights if a measurement asks for them; without them it is left out, and that is said."""
    wanted = [name for name, measurement in cfg["eval"].items() if needs_inception(name, measurement)]
    if not wanted:
        return
    paths = cfg["paths"]
    try:
        found = distributed.on_main(lambda: inception.weights(paths["inception_weights"], Path(paths["data"]), download=True))
        paths["inception_weights"] = str(found)
    except UsageError as error:
        if paths["inception_weights"] is not None:
            raise
        progress.say(f"{' '.join(error.problems)} Left out: {', '.join(wanted)}; fd_oracle takes their place, under its own name")
        cfg["eval"] = {name: m for name, m in cfg["eval"].items() if name not in wanted}
        cfg["eval"].setdefault("fd_oracle", {"_target_": "unrelearn.evals.fd_oracle.run"})


def run(cfg: dict, command: str) -> dict | None:
    """Run a validated configuration, print its table, write outputs/runs/<name>/ and outputs/report/index.html."""
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
            progress.say(f"{used['stage']:<9} {used['key']}  {used['status']}, {used['seconds']:.1f} s")
        return None
    from unrelearn.report.table import print_record

    page, latest = keep(pipeline, record), pipeline.outputs / "report" / "index.html"
    latest.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page, latest)
    print_record(record, progress.console, page=latest)
    return record


def keep(pipeline: Pipeline, record: dict) -> Path | None:
    """Write outputs/runs/<name>/: the page first, whose path is returned, as a record that is there is complete."""
    if not distributed.is_main():
        return None
    from unrelearn.report.page import FILE_NAME, write_page

    folder = pipeline.outputs / "runs" / record["name"]
    write_page(record, pipeline.outputs, folder / FILE_NAME)
    write_json(folder / "result.json", record)
    tracking.result(record, pipeline.outputs)
    return folder / FILE_NAME
