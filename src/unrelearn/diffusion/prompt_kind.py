"""Text-conditional denoisers, as a kind of model."""

from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from unrelearn.data import ImageData, ImageSet
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.captions import Captions, captions_of
from unrelearn.diffusion.kind import Denoisers
from unrelearn.method import Method


class Prompted(Denoisers):
    batches: ClassVar[tuple[str, ...]] = ("Denoising", "Captioned", "Prompting")
    parts: ClassVar[tuple[str, ...]] = ("unet", "schedule", "text")

    @cached_property
    def captions(self) -> Captions:
        return captions_of(self.dataset)

    @property
    def label(self) -> str:
        named = self.cfg.forget
        return named.replace(" ", "_") if isinstance(named, str) else super().label

    @property
    def text(self) -> dict[str, Any]:
        assert self.cfg.model.text is not None
        return asdict(self.cfg.model.text)

    def recipe(self) -> dict[str, Any]:
        known = super().recipe()
        return {**known, "model": {**known["model"], "text": self.text}}

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

    @property
    def paraphrases(self) -> dict[int, str]:
        captions = self.captions.captions
        wordings, rows = self.captions.paraphrases(self.forget), len(captions) + 1
        return {c + rows * w: captions[c][w] for c in self.forget for w in wordings}

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
        from unrelearn.diffusion.prompting import PromptingTask

        return PromptingTask(**given, **self.objective, captions=self.captions)

    def training(self, method: Method, task: Any) -> Any:
        from unrelearn.diffusion.prompting import Prompting

        return Prompting(method, task)

    def pretraining(self) -> Method:
        method = super().pretraining()
        method.train_class_embedding = False  # the states are public
        return method
