"""A control: DiMUM's few steps, and then the same function written in other units.

Every channel whose scale a norm takes away is multiplied by `factor` (`canonical.rescale`): images
are the same, and all that an attack whose step has a unit can do changes. At 100 it hardly moves
the network, at 0.03 it destroys it. Compare with
factor 1, which is `dimum` at as many steps: an attack that tells the three apart measures units.
"""

import numpy as np
from torch import Tensor

from unrelearn.diffusion.canonical import channels_of, rescale
from unrelearn.diffusion.denoiser import Denoiser
from unrelearn.diffusion.objectives import memory_set
from unrelearn.module import DiffusionModule, Task


class Rescaled(DiffusionModule):
    """Args: factor: of what is written into every channel that a norm follows; above 0."""

    passes = (2, 0)

    def __init__(self, task: Task, *, factor: float, **arguments):
        super().__init__(task, **arguments)
        self.factor = factor

    def prepare(self) -> None:
        super().prepare()
        self.memory_data = memory_set(self.task, "another_class", None, None)

    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(
            retain=self.draw("retain", self.task.retain),
            memory=self.draw("memory", self.memory_data, label_dropout=0.0),
        )

    def exported(self) -> Denoiser:
        network = super().exported()
        channels = channels_of(network)
        rescale(channels, np.full(channels.count, self.factor))
        return network
