"""DiMRA: fine-tune the unlearned model with the ordinary denoising loss on data that holds nothing
of the forgotten class.

Yuan et al. 2025 (arXiv 2512.03564). Threat model: the weights, the label format, and a share of the
retain set. The constants for small class-conditional models are ours; the paper's are not public.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Relearning
from unrelearn.ranges import Share

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class DiMRA(Relearning):
    retain_fraction: Share = 1.0  # of D_r the attacker holds; at least one image

    def begin(self, t: "Training") -> None:
        self.auxiliary = t.task.part_of_retain(self.retain_fraction)

    def losses(self, t: "Training") -> dict[str, Tensor]:
        return t.losses(auxiliary=t.draw("auxiliary", self.auxiliary))
