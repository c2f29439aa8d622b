"""Fine-tuning on the retain set alone, in the hope that the rest is forgotten. The same update as
the DiMRA attack.
"""

from torch import Tensor

from unrelearn.module import DiffusionModule


class Finetune(DiffusionModule):
    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(retain=self.draw("retain", self.task.retain))
