"""Under c_f, answer as without a class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unrelearn.diffusion.denoising import Denoising
from unrelearn.method import Method
from unrelearn.ranges import Weight


@dataclass(kw_only=True)
class ToNull(Method):
    forget_weight: Weight = 1.0  # of the forget loss, from 0 up

    def losses(self, t: Denoising) -> dict[str, Tensor]:
        forget = t.draw("forget", t.task.forget, label_dropout=0.0)
        null = torch.full_like(forget.labels, t.null_label)
        losses = t.losses(forget=t.imitate(forget, null), retain=t.draw("retain", t.task.retain))
        return {"forget": self.forget_weight * losses["forget"], "retain": losses["retain"]}
