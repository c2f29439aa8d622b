"""Training from scratch on the retain set with the pretraining recipe: what "never having seen the
class" looks like.

The class table keeps its row c_f at the random initialisation, as in the code line of Selective
Amnesia and SalUn, so what is generated under c_f is an arbitrary mixture that depends on the seed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.diffusion.denoiser import reinitialise
from unrelearn.method import Method

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class Retrain(Method):
    def begin(self, t: "Denoising") -> None:
        reinitialise(t.network, t.task.run_seed)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        return t.losses(retain=t.draw("retain", t.task.retain))
