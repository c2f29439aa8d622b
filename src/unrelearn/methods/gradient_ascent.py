"""Gradient ascent (NegGrad): climb the denoising loss of the forget set while denoising the retain
set.

L = -forget_weight |eps(x_f, t; c_f) - eps|^2 + |eps(x_r, t; c_r) - eps|^2. The first term has no
lower bound; collapse is the normal outcome of a long run, and a non-finite loss is recorded as
`diverged`.
"""

from torch import Tensor

from unrelearn.module import DiffusionModule, Task


class GradientAscent(DiffusionModule):
    """Args: forget_weight: weight of the ascent, in units of the retain loss."""

    passes = (2, 0)

    def __init__(self, task: Task, *, forget_weight: float = 1.0, **arguments):
        super().__init__(task, **arguments)
        self.forget_weight = forget_weight

    def losses(self) -> dict[str, Tensor]:
        losses = self.denoising_losses(
            forget=self.draw("forget", self.task.forget, label_dropout=0.0),
            retain=self.draw("retain", self.task.retain),
        )
        return {"forget": -self.forget_weight * losses["forget"], "retain": losses["retain"]}
