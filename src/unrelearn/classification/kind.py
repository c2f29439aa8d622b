"""Image classifiers, as a kind of model."""

import json
from dataclasses import asdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unrelearn.artifact import sha256
from unrelearn.classification import networks
from unrelearn.classification.canonical import canonical
from unrelearn.classification.networks import NetworkConfig
from unrelearn.classification.recipe import Recipe
from unrelearn.config import Config, forget_classes
from unrelearn.config.classes import class_named
from unrelearn.config.schema import Network
from unrelearn.data import ImageData, ImageSet
from unrelearn.data.splits import Examples, divided, forget_indexes
from unrelearn.forgotten import names_examples
from unrelearn.kind import Kind
from unrelearn.method import Method

GREY = (0.5,), (0.25,)  # mean and deviation of images that nobody measured


class Classifiers(Kind):
    """`forget` names classes as a denoiser's does, or images: see data.splits."""

    track, batches, evidence = "classification", "Classifying", "ClassifierEvidence"
    parts = ("network",)

    def __init__(self, cfg: Config, dataset: Any):
        super().__init__(cfg, dataset)
        self.by_image = names_examples(cfg.forget) and not str(cfg.forget).startswith("class:")
        named = cfg.forget
        if isinstance(named, str) and named.startswith("class:"):
            named = class_named(named, dataset)
        self.forget = [] if self.by_image else forget_classes(named, dataset)

    @property
    def forgotten(self) -> Any:
        if not self.by_image:
            return self.forget
        kind, _, value = str(self.cfg.forget).partition(":")
        if kind == "memorised":
            halves, base = self.cfg.references.halves, self.cfg.augment.base
            return {kind: value, "halves": halves, "augment": base}
        content = sha256(Path(value).expanduser()) if kind == "file" else value
        return {kind: content, "seed": self.cfg.forget_seed}

    @property
    def held_out(self) -> dict[str, Any]:
        """Which training images are kept for validation, for keys; {}: none."""
        validation = self.cfg.validation
        return {"validation": asdict(validation)} if validation.share else {}

    @property
    def label(self) -> str:
        if not self.by_image:
            return super().label
        kind, _, value = str(self.cfg.forget).partition(":")
        part = Path(value).stem[:40] if kind == "file" else value
        return f"_{kind}_{part}" + (f"-{self.cfg.forget_seed}" if self.cfg.forget_seed else "")

    @property
    def settings(self) -> Network:
        assert self.cfg.model.network is not None
        return self.cfg.model.network

    @property
    def network(self) -> NetworkConfig:
        """The architecture."""
        dataset, settings = self.dataset, self.settings
        mean, std = getattr(dataset, "colours", None) or [c * dataset.channels for c in GREY]
        return NetworkConfig(
            settings.name,
            dataset.image_size,
            len(dataset.class_names),
            tuple(mean),
            tuple(std),
            tuple(settings.widths),  # type: ignore[arg-type]  # three of them: config.rules
        )

    def recipe(self) -> dict[str, Any]:
        pretrain = asdict(self.cfg.model.pretrain)
        parts = {"network": asdict(self.settings), "pretrain": pretrain}
        return {"model": parts, "augment": self.cfg.augment.base, **self.held_out}

    def followed(self, method: Method) -> dict[str, Any]:
        augment = asdict(self.cfg.augment)
        if method.stage == "attack":
            return {"augment": augment["attack"]}
        places = ["retrain"] if method.from_scratch else ["retain", "forget"]
        return {"augment": {place: augment[place] for place in places}}

    def build(self) -> nn.Module:
        return networks.build(self.network, self.cfg.seed)

    def load(self, folder: Path) -> nn.Module:
        return networks.load(folder)

    def canonical(self, network: nn.Module) -> nn.Module:
        return canonical(network)

    def cost(self) -> tuple[int, int]:
        return forward_cost(json.dumps(asdict(self.network)))

    def indexes(self, data: ImageData) -> Tensor:
        """Of D_f in the training images, ascending."""
        known = (data.class_names, data.true_labels, data.memorisation)
        examples = Examples(data.train.labels, *known)
        return forget_indexes(str(self.cfg.forget), examples, self.cfg.forget_seed)

    def mask(self, data: ImageData) -> Tensor:
        """Which of the training images are D_f, bool (N,); the original was trained on them all,
        unless `validation.forget_split_seed` asks for another split.
        """
        labels, same_split = data.train.labels, self.cfg.validation.forget_split_seed is None
        if self.by_image:
            mask = torch.zeros(len(labels), dtype=torch.bool)
            mask[self.indexes(data)] = True
            mask = mask.to(labels.device)
        else:
            mask = torch.isin(labels, torch.tensor(self.forget, device=labels.device))
        if same_split and data.seen is not None:
            assert data.seen[mask].all(), "the original never saw an image that is to be forgotten"
        return mask

    def divided(self, data: ImageData) -> ImageData:
        return divided(data, **asdict(self.cfg.validation))

    def split(self, data: ImageData) -> tuple[ImageSet, ImageSet]:
        mask = self.mask(data)
        return data.train.where(mask), data.train.where(~mask)

    def task(self, data: ImageData, **given: Any) -> Any:
        from unrelearn.classification.classifying import ClassifyingTask

        settings, held = self.settings, data.validation
        if data.original and given["forgotten"] is None:  # of the original itself
            held = data.original[1]
        return ClassifyingTask(
            **given,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            batch_norm=settings.batch_norm,
            augment=asdict(self.cfg.augment),
            recipe=self.bank_recipe(given["horizontal_flip"]),
            validation=held,
            public=data.test.take(public_half(len(data.test)).to(data.test.labels.device)),
        )

    def training(self, method: Method, task: Any) -> Any:
        from unrelearn.classification.classifying import Classifying

        return Classifying(method, task)

    @cached_property
    def given(self) -> dict[str, Any]:
        """How a classifier is trained from scratch."""
        denoisers = ("label_dropout", "loss_reduction", "antithetic")
        return {k: v for k, v in asdict(self.cfg.model.pretrain).items() if k not in denoisers}

    def bank_recipe(self, flip: bool, place: str = "retrain") -> Recipe:
        """How many are trained at once, with the augmentation of a place."""
        names = ("max_steps", "batch_size", "learning_rate", "lr_schedule", "grad_clip")
        settings = self.settings
        return Recipe(
            **{name: self.given[name] for name in names},
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            augmentation=getattr(self.cfg.augment, place),
            flip=flip,
        )

    def pretraining(self) -> Method:
        from unrelearn.classification.classifying import Pretraining

        return Pretraining(**self.given)


def public_half(count: int) -> Tensor:
    """Which of the test images an attacker may hold, (count / 2,): every other one."""
    return torch.arange(0, count, 2)


@lru_cache
def forward_cost(network: str) -> tuple[int, int]:
    """(FLOPs of one forward pass of one image, number of weights), of a NetworkConfig as JSON."""
    config = NetworkConfig(**json.loads(network))
    with torch.device("meta"):
        built = networks.build(config, 0).eval()
        x = torch.empty(1, config.channels, config.image_size, config.image_size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            built(x)
    return counter.get_total_flops(), sum(p.numel() for p in built.parameters())
