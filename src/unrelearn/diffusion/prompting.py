"""Text-conditional denoisers, as a kind of model, and their training: everything is that of a
class-conditional one, but for what a label stands for.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from unrelearn.data import ImageData, ImageSet
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.captions import Captions, captions_of
from unrelearn.diffusion.denoising import Denoising, DenoisingTask, Pretraining
from unrelearn.diffusion.kind import Denoisers
from unrelearn.method import Method


@dataclass(kw_only=True)
class PromptingTask(DenoisingTask):
    """What a text-conditional denoiser is trained with, besides."""

    captions: Captions

    @property
    def concept(self) -> list[int]:
        """The tokens of the forgotten words."""
        words = self.captions.concept(self.forget_classes)
        return [self.captions.vocabulary.index(word) for word in words]

    def other_class(self, forget_class: int) -> int:
        """The caption with the forgotten word edited, where the data set knows it; else the next
        one.
        """
        return self.counterparts.get(forget_class, super().other_class(forget_class))

    def stand_ins(self, labels: Tensor) -> Tensor:
        """As of classes; the wording stays."""
        rows = len(self.class_names) + 1
        table = torch.arange(rows, device=labels.device)
        for c in self.forget_classes:
            table[c] = self.other_class(c)
        return table[labels % rows] + labels // rows * rows

    def shots(self, num_images: int) -> ImageSet:
        """Under the canonical prompt."""
        held = super().shots(num_images)
        return ImageSet(held.images, held.labels)


class Prompting(Denoising):
    """Train a denoiser that reads text. The encoder and its states are public: they stay, but for
    attacks that learn a state or a token.
    """

    task: PromptingTask  # type: ignore[assignment]

    @property
    def public(self) -> frozenset[str]:  # type: ignore[override]
        names = [name for name, _ in self.network.named_parameters()]
        return frozenset(name for name in names if name.startswith(denoisers.TABLE))

    spared = public


class Prompted(Denoisers):
    batches = ("Denoising", "Prompting")
    parts = ("unet", "schedule", "text")

    @cached_property
    def captions(self) -> Captions:
        return captions_of(self.dataset)

    @property
    def text(self) -> dict[str, Any]:
        assert self.cfg.model.text is not None
        return asdict(self.cfg.model.text)

    def recipe(self) -> dict[str, Any]:
        known = super().recipe()
        return {"model": {**known["model"], "text": self.text}}

    @property
    def shape(self) -> dict[str, Any]:
        text = {name: self.text[name] for name in ("length", "width", "layers", "heads")}
        words = {"wordings": self.captions.wordings, "vocabulary": self.captions.vocabulary}
        return {**super().shape, "prompt": {**text, **words}}

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.text["seed"])
            network = denoisers.build(**self.shape)
        table = network.class_embedding
        table.ids.copy_(self.captions.ids(self.text["length"]))
        table.refresh()
        denoisers.reinitialise(network, self.cfg.seed)
        return network

    def split(self, data: ImageData) -> tuple[ImageSet, ImageSet]:
        """D_f without the images whose caption says a synonym: who makes a model forget knows the
        word alone.
        """
        forget, retain = super().split(data)
        held_out = self.captions.paraphrases(self.forget)
        if forget.wordings is not None:
            place = torch.tensor(held_out, device=forget.wordings.device)
            forget = forget.where(~torch.isin(forget.wordings, place))
        return forget, retain

    def task(self, data: ImageData, **given: Any) -> Any:
        pretrain = self.cfg.model.pretrain
        return PromptingTask(
            **given,
            captions=self.captions,
            schedule=self.schedule,
            loss_reduction=pretrain.loss_reduction,
            antithetic=pretrain.antithetic,
        )

    def training(self, method: Method, task: Any) -> Any:
        return Prompting(method, task)

    def pretraining(self) -> Method:
        method = super().pretraining()
        assert isinstance(method, Pretraining)
        method.train_class_embedding = False
        return method
