"""SFR-on: in turns, climb the forget set's loss on the weights that matter for it, and denoise the
retain set on all weights.

Huang et al. 2024, "Unified Gradient-Based Machine Unlearning with Remain Geometry Enhancement"
(NeurIPS 2024, arXiv 2409.19732), as released for class-conditional DDPMs. Of K pairs of steps, pair
k is, with l_i the loss of image i,

    forget step   -alpha_k sum_i w_i l_i   on the weights with F_f / F_r > fisher_ratio,
                  w_i = l_i^-loss_power / sum_j l_j^-loss_power,   alpha_k = forget_weight (1 +
                                                                   cos(pi k / K)) / 2
    retain step   |eps(x_r, t; c_r) - eps|^2   on all weights

so that images already forgotten pull less. Both losses are sums over an image there and means here,
or sums in both where `model.pretrain.loss_reduction=sum`: forget_weight compares like with like,
and w_i has no units. In sums the gradients are C*H*W times as long, so that clipping, which is to
norm 1 in both, evens out alpha_k there for longer than it does here.
Where we differ: the mask (`masks.fisher_ratio`), a true Fisher ratio; and weights outside it do not
move in a forget step, to the bit, where Adam's momentum from the retain steps moves them in the
released code.
"""

import math

import torch
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.objectives import batch_mean
from unrelearn.module import DiffusionModule, Task


class SFRon(DiffusionModule):
    """Args:
    forget_weight: alpha, in units of the retain loss; it decays to 0.
    loss_power: how much less an image counts the larger its loss is, 0: not at all.
    """

    passes = (1, 1)  # one of the two losses is only looked at
    whole_steps = True  # w_i needs the losses of all images

    def __init__(self, task: Task, *, forget_weight: float, loss_power: float, **arguments):
        super().__init__(task, **{"combine": "alternation"} | arguments)
        self.forget_weight, self.loss_power = forget_weight, loss_power

    @property
    def forgetting(self) -> bool:
        return self.combine != "alternation" or self.global_step % 2 == 0

    def prepare(self) -> None:
        super().prepare()
        self.forget_mask, self.gradient_mask = self.gradient_mask, {}

    def losses(self) -> dict[str, Tensor]:
        forget = self.draw("forget", self.task.forget)
        kind = self.task.schedule["prediction_type"]
        wanted = maths.target(forget.x_0, forget.noise, forget.t, self.alphas_cumprod, kind)
        answer = denoisers.predict(
            self.denoiser, self.noised(forget), forget.t, forget.labels
        ).float()
        each = self.loss_scale * (answer - wanted).square().mean((1, 2, 3))
        weights = each.detach().clamp(min=1e-8) ** -self.loss_power
        alpha = self.forget_weight * (1 + math.cos(math.pi * self.global_step / self.max_steps)) / 2
        retain = self.denoising_losses(retain=self.draw("retain", self.task.retain))["retain"]
        return {"forget": -alpha * (weights * each).mean() / batch_mean(weights), "retain": retain}

    def configure_gradient_clipping(self, *arguments, **keywords) -> None:
        if self.forgetting:  # masked first and clipped second, as released
            for name, parameter in self.trained:
                if name in self.forget_mask:
                    parameter.grad.mul_(self.forget_mask[name])
        super().configure_gradient_clipping(*arguments, **keywords)

    def on_train_start(self) -> None:
        super().on_train_start()
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.register_step_pre_hook(lambda *_: self.remember())
        optimizer.register_step_post_hook(lambda *_: self.restore())

    def remember(self) -> None:
        self.before = [
            (p, self.forget_mask[name], p.detach().clone())
            for name, p in self.trained
            if self.forgetting and name in self.forget_mask
        ]

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, mask, before in self.before:
            parameter.copy_(torch.where(mask, parameter, before))
        self.before = []
