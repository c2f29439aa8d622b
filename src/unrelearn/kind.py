"""What a kind of model is: how it is built, trained and written, and what of it decides a result.

The yaml of a model names its kind; stages that train (`stages.train`) know no other.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from unrelearn.artifact import sha256
from unrelearn.config import Config, forget_classes
from unrelearn.data import ImageData, ImageSet
from unrelearn.data.splits import Examples, divided, forget_indexes
from unrelearn.forgotten import names_images
from unrelearn.method import Method

if TYPE_CHECKING:  # a run whose models are there trains nothing, and needs no Lightning
    from unrelearn.task import Task
    from unrelearn.training import Training


class Kind:
    """The models of one run. `forget` names classes, or images one by one: see data.splits.

    Attributes:
        track: name of the file in tracks/ that lists the stages of a run.
        batches: what methods of this kind alone call their training; several names, where it serves
            the methods of another kind as well.
        evidence: what measurements of this kind read.
        parts: keys of model that it can not do without.
        forget: labels of the forgotten classes; none where images are forgotten one by one.
        before: labels of classes that the given weights had forgotten already.
    """

    track: ClassVar[str]
    batches: ClassVar[str | tuple[str, ...]]
    evidence: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    forget: list[int]

    def __init__(self, cfg: Config, dataset: Any):
        self.cfg, self.dataset = cfg, dataset
        self.before: list[int] = []
        self.by_image = names_images(cfg.forget)
        self.forget = [] if self.by_image else forget_classes(cfg.forget, dataset)

    # what decides a result

    def recipe(self) -> dict[str, Any]:
        """The network and its pretraining, for keys."""
        raise NotImplementedError

    @property
    def forgotten(self) -> Any:
        """What is forgotten, for keys."""
        if not self.by_image:
            return self.forget
        kind, _, value = str(self.cfg.forget).partition(":")
        content = sha256(Path(value).expanduser()) if kind == "file" else value
        return {kind: content, "seed": self.cfg.forget_seed}

    @property
    def asked(self) -> dict[str, Any]:
        """What is forgotten, for records. A file may have other contents another day."""
        asked = {"forget": str(self.cfg.forget), "forget_seed": self.cfg.forget_seed}
        content = self.forgotten.get("file") if self.by_image else None
        return {**asked, "content": content[:8]} if content else asked

    @property
    def label(self) -> str:
        """What is forgotten, for names of folders."""
        if self.by_image:
            kind, _, value = str(self.cfg.forget).partition(":")
            part = Path(value).stem[:40] if kind == "file" else value
            seed = f"-{self.cfg.forget_seed}" if self.cfg.forget_seed else ""
            return f"_{kind}_{part}{seed}"
        label = "_".join(map(str, self.forget))
        if len(label) > 100:  # a name of more than 255 bytes is no folder's
            return f"{self.forget[0]}_and_{len(self.forget) - 1}_more"
        return label

    @property
    def paraphrases(self) -> dict[int, str]:
        """Conditions that mean what is forgotten in other words, which are measured too, and their
        captions.
        """
        return {}

    def followed(self, method: Method) -> dict[str, Any]:
        """What a method or attack reads besides its own settings, for keys."""
        return {}

    # the network

    def build(self) -> nn.Module:
        """Of random weights, a function of the seed of the run."""
        raise NotImplementedError

    def load(self, folder: Path) -> nn.Module:
        raise NotImplementedError

    def canonical(self, network: nn.Module) -> nn.Module:
        """The same function, in weights that do not depend on how they were written."""
        raise NotImplementedError

    def cost(self) -> tuple[int, int]:
        """(FLOPs of one forward pass of one image, number of weights)."""
        raise NotImplementedError

    def memory(self, method: Method) -> dict[str, int]:
        """Bytes that a training step takes at most, by what they hold; {}: it takes none, or they
        are few beside any device.
        """
        return {}

    # its training

    @property
    def held(self) -> dict[str, Any]:
        """What is held out from training images: share, seed, and forget_split_seed."""
        raise NotImplementedError

    def divided(self, data: ImageData) -> ImageData:
        """The data with what is held out from training images, if anything is."""
        return divided(data, **self.held)

    def mask(self, data: ImageData) -> Tensor:
        """Which of the training images are D_f, bool (N,); the original was trained on them all,
        unless `validation.forget_split_seed` asks for another split.
        """
        labels = data.train.labels
        if self.by_image:
            mask = torch.zeros(len(labels), dtype=torch.bool)
            mask[self.indexes(data)] = True
            mask = mask.to(labels.device)
        else:
            mask = torch.isin(labels, torch.tensor(self.forget, device=labels.device))
        if self.held["forget_split_seed"] is None and data.seen is not None:
            assert data.seen[mask].all(), "the original never saw an image that is to be forgotten"
        return mask

    def indexes(self, data: ImageData) -> Tensor:
        """Of D_f in the training images, ascending."""
        known = (data.class_names, data.true_labels, data.memorisation)
        examples = Examples(data.train.labels, *known)
        return forget_indexes(str(self.cfg.forget), examples, self.cfg.forget_seed)

    def split(self, data: ImageData) -> tuple[ImageSet, ImageSet]:
        """D_f and D_r."""
        mask = self.mask(data)
        return data.train.where(mask), data.train.where(~mask)

    def task(self, data: ImageData, **given: Any) -> "Task":
        """given: the arguments of Task."""
        raise NotImplementedError

    def training(self, method: Method, task: "Task") -> "Training":
        raise NotImplementedError

    def pretraining(self) -> Method:
        """How the original model is trained."""
        raise NotImplementedError
