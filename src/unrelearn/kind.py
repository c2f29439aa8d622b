"""What a kind of model is: how it is built, trained and written, and what of it decides a result.

The yaml of a model names its kind; stages that train (`stages.train`) know no other.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from unrelearn.config import Config
from unrelearn.data import ImageData, ImageSet
from unrelearn.method import Method

if TYPE_CHECKING:  # a run whose models are there trains nothing, and needs no Lightning
    from unrelearn.task import Task
    from unrelearn.training import Training


class Kind:
    """The models of one run.

    Attributes:
        track: name of the file in tracks/ that lists the stages of a run.
        batches: what methods of this kind alone call their training; several names, where it serves
            the methods of another kind as well.
        evidence: what measurements of this kind read.
        parts: keys of model that it can not do without.
        forget: labels of the forgotten classes; none where images are forgotten one by one.
    """

    track: ClassVar[str]
    batches: ClassVar[str | tuple[str, ...]]
    evidence: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    forget: list[int]

    def __init__(self, cfg: Config, dataset: Any):
        self.cfg, self.dataset = cfg, dataset

    # what decides a result

    def recipe(self) -> dict[str, Any]:
        """The network and its pretraining, for keys."""
        raise NotImplementedError

    @property
    def forgotten(self) -> Any:
        """What is forgotten, for keys."""
        return self.forget

    @property
    def label(self) -> str:
        """What is forgotten, for names of folders."""
        label = "_".join(map(str, self.forget))
        if len(label) > 100:  # a name of more than 255 bytes is no folder's
            return f"{self.forget[0]}_and_{len(self.forget) - 1}_more"
        return label

    @property
    def paraphrases(self) -> list[int]:
        """Conditions that mean what is forgotten in other words, which are measured too."""
        return []

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

    # its training

    def divided(self, data: ImageData) -> ImageData:
        """The data with what is held out from training images, if anything is."""
        return data

    def split(self, data: ImageData) -> tuple[ImageSet, ImageSet]:
        """D_f and D_r."""
        raise NotImplementedError

    def task(self, data: ImageData, **given: Any) -> "Task":
        """given: the arguments of Task."""
        raise NotImplementedError

    def training(self, method: Method, task: "Task") -> "Training":
        raise NotImplementedError

    def pretraining(self) -> Method:
        """How the original model is trained."""
        raise NotImplementedError
