"""Training from scratch on the retain set with the pretraining recipe: what "never having seen the
class" looks like.

The class table keeps its row c_f at the random initialisation, as in the code line of Selective
Amnesia and SalUn, so what is generated under c_f is an arbitrary mixture that depends on the seed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Method

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class Retrain(Method):
    from_scratch = True

    def begin(self, t: "Training") -> None:
        t.reinitialise()

    def losses(self, t: "Training") -> dict[str, Tensor]:
        return t.losses(retain=t.draw("retain", t.task.retain))
