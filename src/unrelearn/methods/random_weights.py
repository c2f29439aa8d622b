"""The floor: every weight at a random initial value but the class table, as if there had been no
pretraining.

What an attack finds from here it has taught, not brought back. A control for attacks, not a method:
    it forgets everything.
"""

import torch

from unrelearn.diffusion.denoiser import reinitialise
from unrelearn.module import DiffusionModule


class RandomWeights(DiffusionModule):
    @torch.no_grad()
    def prepare(self) -> None:
        table = self.denoiser.class_embedding.weight.clone()
        reinitialise(self.denoiser, self.task.seed)
        self.denoiser.class_embedding.weight.copy_(table)
