"""The floor: every weight at a random initial value but the class table, as if there had been no
pretraining.

What an attack finds from here it has taught, not brought back. A control for attacks, not a method:
it forgets everything.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrelearn.diffusion.denoiser import reinitialise
from unrelearn.method import Method

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class RandomWeights(Method):
    @torch.no_grad()
    def prepare(self, t: "Denoising") -> None:
        table = t.network.class_embedding.weight.clone()
        reinitialise(t.network, t.task.run_seed)
        t.network.class_embedding.weight.copy_(table)
