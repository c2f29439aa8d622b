"""DiMRA on another real data set of the same classes, such as MNIST for a model of other
handwritten digits.

Yuan et al. 2025 (arXiv 2512.03564) let the auxiliary data be any whose distribution is close to
that of the retain set; which is our choice. Threat model: the weights, the label format, and public
data: no image of the training set, none of a forgotten class. A data set of other things, such as
Fashion-MNIST, is the control for what any training at all brings back.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from unrelearn.data import ImageData
from unrelearn.errors import UsageError
from unrelearn.method import Relearning
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count

if TYPE_CHECKING:
    from unrelearn.training import Training


class DataSet(Protocol):
    """What `unrelearn.data` says a data set offers."""

    def load(self) -> ImageData: ...


@dataclass(kw_only=True)
class DiMRAProxy(Relearning):
    # images of its class k are learned under label k, those of forgotten labels are left out
    proxy: DataSet
    max_images: Count | None = None  # at most so many of its training images; None: all

    def begin(self, t: "Training") -> None:
        images = self.proxy.load().train.of_classes(t.task.retain_classes)
        if not len(images):
            raise UsageError(
                "attack.proxy: holds no image of a retained label. Type attack.proxy.root=FOLDER"
                " with another one"
            )
        g = generator_for(t.task.seed, "attacker's data")
        order = torch.randperm(len(images), generator=g)
        self.auxiliary = images.take(order[: self.max_images]).to(t.task.retain.labels.device)

    def losses(self, t: "Training") -> dict[str, Tensor]:
        return t.losses(auxiliary=t.draw("auxiliary", self.auxiliary))
