"""Class-conditional denoisers, as a kind of model."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unrelearn.advice import problem
from unrelearn.config import Config, forget_classes
from unrelearn.data import ImageData, ImageSet
from unrelearn.data.splits import divided
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.canonical import canonical
from unrelearn.errors import UsageError
from unrelearn.kind import Kind
from unrelearn.method import Method


class Denoisers(Kind):
    track, evidence = "diffusion", "Evidence"
    batches: ClassVar[str | tuple[str, ...]] = "Denoising"
    parts: ClassVar[tuple[str, ...]] = ("unet", "schedule")

    def __init__(self, cfg: Config, dataset: Any):
        super().__init__(cfg, dataset)
        before = cfg.forgotten_before  # by whoever made model.checkpoint
        self.before = forget_classes(before, dataset) if before else []

    @property
    def forgotten(self) -> Any:
        now = super().forgotten
        return {"now": now, "before": self.before} if self.before else now

    @property
    def held(self) -> dict[str, Any]:
        return {**asdict(self.cfg.held_out), "forget_split_seed": None}

    def divided(self, data: ImageData) -> ImageData:
        """Raises: UsageError: what is forgotten has no held-out image to be told from."""
        data = divided(data, **self.held, group="held_out")
        if "membership" in self.cfg.eval and data.validation is not None:
            forget, _ = self.split(data)
            if not torch.isin(data.validation.labels, forget.labels).any():
                why = "holds out no image of the classes that are forgotten"
                instead = "Type forget=CLASS with one of more images"
                raise UsageError(problem("held_out.share", self.cfg.held_out.share, why, instead))
        return data

    @property
    def unet(self) -> dict[str, Any]:
        assert self.cfg.model.unet is not None
        return asdict(self.cfg.model.unet)

    @property
    def schedule(self) -> dict[str, Any]:
        assert self.cfg.model.schedule is not None
        return asdict(self.cfg.model.schedule)

    @property
    def objective(self) -> dict[str, Any]:
        """Of every task, besides the data."""
        pretrain = self.cfg.model.pretrain
        return {
            "before": self.before,
            "schedule": self.schedule,
            "loss_reduction": pretrain.loss_reduction,
            "antithetic": pretrain.antithetic,
        }

    def recipe(self) -> dict[str, Any]:
        pretrain = asdict(self.cfg.model.pretrain)
        model = {"unet": self.unet, "schedule": self.schedule, "pretrain": pretrain}
        held_out = asdict(self.cfg.held_out)  # images that the original never saw, if any
        return {"model": model, **({"held_out": held_out} if held_out["share"] else {})}

    @property
    def shape(self) -> dict[str, Any]:
        """Of the network, as `denoiser.build` takes it."""
        dataset = self.dataset
        return {
            "image_size": dataset.image_size,
            "channels": dataset.channels,
            "num_classes": len(dataset.class_names),
            **self.unet,
        }

    def build(self) -> nn.Module:
        network = denoisers.build(**self.shape)
        denoisers.reinitialise(network, self.cfg.seed)
        return network

    def load(self, folder: Path) -> nn.Module:
        return denoisers.load(folder)

    def canonical(self, network: nn.Module) -> nn.Module:
        return canonical(network)

    def cost(self) -> tuple[int, int]:
        return forward_cost(**self.shape)

    def split(self, data: ImageData) -> tuple[ImageSet, ImageSet]:
        forget, retain = super().split(data)
        return forget, retain.of_classes(self.before, keep=False) if self.before else retain

    def task(self, data: ImageData, **given: Any) -> Any:
        from unrelearn.diffusion.denoising import DenoisingTask

        return DenoisingTask(**given, **self.objective)

    def training(self, method: Method, task: Any) -> Any:
        from unrelearn.diffusion.denoising import Denoising

        return Denoising(method, task)

    def finish(self, device: torch.device) -> Callable[[Tensor], Tensor] | None:
        """What makes uint8 images of what is drawn; None: no more than rounding."""
        return None

    def pretraining(self) -> Method:
        from unrelearn.diffusion.denoising import DenoiserPretraining

        return DenoiserPretraining(**recipe(asdict(self.cfg.model.pretrain)))


def recipe(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of DenoiserPretraining, of a configuration's model.pretrain; the loss itself
    goes to every stage, through its Task.
    """
    return {k: v for k, v in settings.items() if k not in ("loss_reduction", "antithetic")}


def forward_cost(
    *, image_size: int, channels: int, num_classes: int, **unet: Any
) -> tuple[int, int]:
    """(FLOPs of one forward pass of one image, number of weights); nothing is allocated, and each
    network counted once.
    """
    return _forward_cost(image_size, channels, num_classes, json.dumps(unet))


@lru_cache
def _forward_cost(image_size: int, channels: int, num_classes: int, unet: str) -> tuple[int, int]:
    with torch.device("meta"):
        network = denoisers.build(
            image_size=image_size, channels=channels, num_classes=num_classes, **json.loads(unet)
        ).eval()
        x_t = torch.empty(1, channels, image_size, image_size)
        label = torch.zeros(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            denoisers.predict(network, x_t, torch.zeros(1, dtype=torch.long), label)
    return counter.get_total_flops(), sum(p.numel() for p in network.parameters())
