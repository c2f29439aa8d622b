"""Restricted gradient: ascend on the forget set, descend on the retain set, each without its
component along the other.

Ko et al. 2024, "Boosting Alignment for Post-Unlearning Text-to-Image Generative Models" (arXiv
2412.07808, NeurIPS 2024), their losses for class-conditional CIFAR-10 as released, combined by
`gradients.projection`:

    L_f = -mean(min((eps(x_f, t; c_f) - eps)^2, truncation)),    L_r = retain_weight |eps(x_r, t;
                                                                 c_r) - eps|^2

Elements whose squared error is past the truncation no longer pull, which bounds the ascent. Where
we differ: the released code truncates the error of x_0 (EDM), we that of what the network predicts,
at the same share of its variance; it projects only gradients that are opposed, we always, as the
formula was given to us; its "diverse" retain set, 50 images of each class, is the whole retain set
here.
"""

import torch
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.module import DiffusionModule, Task


class RestrictedGradient(DiffusionModule):
    """Args:
    truncation: largest squared error of an element that is still driven up.
    retain_weight: lambda, in units of the forget loss.
    """

    passes = (2, 4)  # each of two gradients goes back through both halves: twice the backward pass

    def __init__(self, task: Task, *, truncation: float, retain_weight: float, **arguments):
        super().__init__(task, **{"combine": "projection"} | arguments)
        self.truncation, self.retain_weight = truncation, retain_weight

    def losses(self) -> dict[str, Tensor]:
        forget, retain = (
            self.draw("forget", self.task.forget, label_dropout=0.0),
            self.draw("retain", self.task.retain),
        )
        x_t = torch.cat([self.noised(forget), self.noised(retain)])
        t, labels = torch.cat([forget.t, retain.t]), torch.cat([forget.labels, retain.labels])
        kind = self.task.schedule["prediction_type"]
        wanted = torch.cat(
            [maths.target(b.x_0, b.noise, b.t, self.alphas_cumprod, kind) for b in (forget, retain)]
        )
        squared = (denoisers.predict(self.denoiser, x_t, t, labels).float() - wanted).square()
        forgotten, kept = squared.split([len(forget.t), len(retain.t)])
        return {
            "forget": -self.loss_scale * forgotten.clamp(max=self.truncation).mean(),
            "retain": self.loss_scale * self.retain_weight * kept.mean(),
        }
