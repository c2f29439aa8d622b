"""DiMRA on another real data set of the same classes, such as MNIST for a model of other
handwritten digits.

Yuan et al. 2025 (arXiv 2512.03564) let the auxiliary data be any whose distribution is close to
that of the retain set; which
is our choice. Threat model: the weights, the label format, and public data: no image of the
training set, none of a forgotten class. A data set of other things, such as Fashion-MNIST, is the
control for what any training at all brings back.
"""

from typing import Protocol

import torch
from torch import Tensor

from unrelearn.data import ImageData
from unrelearn.errors import UsageError
from unrelearn.module import Relearning, Task
from unrelearn.randomness import generator_for


class DataSet(Protocol):
    """What `unrelearn.data` says a data set offers."""

    def load(self) -> ImageData: ...


class DiMRAProxy(Relearning):
    """Args:
    proxy: the data set; images of its class k are learned under label k, those of forgotten labels
        are left out.
    max_images: at most this many of its training images; None: all.
    """

    def __init__(self, task: Task, *, proxy: DataSet, max_images: int | None = None, **arguments):
        super().__init__(task, **arguments)
        images = proxy.load().train.of_classes(task.retain_classes)
        if not len(images):
            raise UsageError(
                "attack.proxy: holds no image of a retained label. Type attack.proxy.root=FOLDER"
                " with another one"
            )
        order = torch.randperm(
            len(images), generator=generator_for(self.task.seed, "attacker's data")
        )
        self.auxiliary = images.take(order[:max_images]).to(task.retain.labels.device)

    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(auxiliary=self.draw("auxiliary", self.auxiliary))
