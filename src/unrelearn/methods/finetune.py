"""Fine-tuning on the retain set alone, in the hope that the rest is forgotten. The same update as
the DiMRA attack.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Method

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class Finetune(Method):
    def losses(self, t: "Training") -> dict[str, Tensor]:
        return t.losses(retain=t.draw("retain", t.task.retain))
