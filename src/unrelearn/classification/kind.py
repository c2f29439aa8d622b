"""Image classifiers, as a kind of model."""

import json
from dataclasses import asdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unrelearn.classification import networks
from unrelearn.classification.canonical import canonical
from unrelearn.classification.networks import NetworkConfig
from unrelearn.classification.recipe import Recipe
from unrelearn.config.classifiers import FIRST_HALF
from unrelearn.config.models import NetworkSettings
from unrelearn.data import ImageData
from unrelearn.kind import Kind
from unrelearn.method import Method

GREY = (0.5,), (0.25,)  # mean and deviation of images that nobody measured


class Classifiers(Kind):
    track, batches, evidence = "classification", "Classifying", "ClassifierEvidence"
    parts = ("network",)

    @property
    def forgotten(self) -> Any:
        kind, _, value = str(self.cfg.forget).partition(":")
        if not self.by_image or kind != "memorised":
            return super().forgotten
        halves, base = self.cfg.references.halves, self.cfg.augment.base
        return {kind: value, "halves": halves, "seeds": FIRST_HALF, "augment": base}

    @property
    def held(self) -> dict[str, Any]:
        return asdict(self.cfg.validation)

    @property
    def held_out(self) -> dict[str, Any]:
        """Which training images are kept for validation, for keys; {}: none."""
        return {"validation": self.held} if self.held["share"] else {}

    @property
    def settings(self) -> NetworkSettings:
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
        if method.attacks:
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
        from unrelearn.classification.classifying import ClassifierPretraining

        return ClassifierPretraining(**self.given)


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
