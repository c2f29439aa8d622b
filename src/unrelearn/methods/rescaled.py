"""A control: DiMUM's few steps, and then the same function written in other units.

Every channel whose scale a norm takes away is multiplied by `factor` (`canonical.rescale`): images
are the same, and all that an attack whose step has a unit can do changes. At 100 it hardly moves
the network, at 0.03 it destroys it. Compare with factor 1, which is `dimum` at as many steps: an
attack that tells the three apart measures units.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from unrelearn.diffusion.canonical import channels_of, rescale
from unrelearn.diffusion.memory import memory_set
from unrelearn.method import Method
from unrelearn.ranges import Positive

if TYPE_CHECKING:
    from unrelearn.diffusion.denoiser import Denoiser
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class Rescaled(Method):
    factor: Positive  # of what is written into every channel that a norm follows

    by_class = True
    passes = (2, 0)

    def prepare(self, t: "Denoising") -> None:
        self.memory_data = memory_set(t.task, "another_class", None, None)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        return t.losses(
            retain=t.draw("retain", t.task.retain),
            memory=t.draw("memory", self.memory_data, label_dropout=0.0),
        )

    def exported(self, network: "Denoiser") -> "Denoiser":
        network = copy.deepcopy(network)
        channels = channels_of(network)
        rescale(channels, np.full(channels.count, self.factor))
        return network
