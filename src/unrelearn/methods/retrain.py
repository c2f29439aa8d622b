"""Training from scratch on the retain set with the pretraining recipe: what "never having seen the
class" looks like.

The class table keeps its row c_f at the random initialisation, as in the code line of Selective
Amnesia and SalUn, so what is generated under c_f is an arbitrary mixture that depends on the seed.
"""

from torch import Tensor

from unrelearn.diffusion.denoiser import reinitialise
from unrelearn.module import DiffusionModule, Task


class Retrain(DiffusionModule):
    def __init__(self, task: Task, **arguments):
        reinitialise(task.denoiser, task.seed)
        super().__init__(task, **arguments)

    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(retain=self.draw("retain", self.task.retain))
