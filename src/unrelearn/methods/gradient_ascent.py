"""Gradient ascent (NegGrad): climb the denoising loss of the forget set while denoising the retain
set.

L = -forget_weight |eps(x_f, t; c_f) - eps|^2 + |eps(x_r, t; c_r) - eps|^2. The first term has no
lower bound; collapse is the normal outcome of a long run, and a non-finite loss is recorded as
`diverged`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from unrelearn.method import Method
from unrelearn.ranges import Weight

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class GradientAscent(Method):
    forget_weight: Weight = 1.0  # of the ascent, in units of the retain loss

    passes = (2, 0)

    def losses(self, t: "Training") -> dict[str, Tensor]:
        losses = t.losses(
            forget=t.draw("forget", t.task.forget, label_dropout=0.0),
            retain=t.draw("retain", t.task.retain),
        )
        return {"forget": -self.forget_weight * losses["forget"], "retain": losses["retain"]}
