"""DiMRA: fine-tune the unlearned model with the ordinary denoising loss on data that holds nothing
of the forgotten class.

Yuan et al. 2025 (arXiv 2512.03564). Threat model: the weights, the label format, and a share of the
retain set. The constants for small class-conditional models are ours; the paper's are not public.
"""

from torch import Tensor

from unrelearn.module import Relearning, Task


class DiMRA(Relearning):
    """Args: retain_fraction: share of D_r the attacker holds, in (0, 1]; at least one image."""

    def __init__(self, task: Task, *, retain_fraction: float = 1.0, **arguments):
        super().__init__(task, **arguments)
        self.auxiliary = self.task.part_of_retain(retain_fraction)

    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(auxiliary=self.draw("auxiliary", self.auxiliary))
