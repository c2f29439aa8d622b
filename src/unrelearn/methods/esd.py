"""ESD: under c_f, answer what the original model would answer if it were guided away from c_f. No
data at all.

Gandikota et al. 2023, "Erasing Concepts from Diffusion Models" (arXiv 2303.07345). With e_0 and e_c
the frozen original model's predictions at x_t without and with the condition,

    L = | eps(x_t, t; c_f) - (e_0 - negative_guidance (e_c - e_0)) |^2

and x_t an image of c_f that the current network has denoised from noise down to t, with guidance,
as in the released code for Stable Diffusion. Where we differ: a batch in which each image has its
own t, reached by DDIM steps of equal length (there one image and one t a step, t anywhere in the
bin where it stopped); network in evaluation mode while it draws x_t; x_0 of pixels clamped to
[-1, 1] there; all weights that may move move (there parts that our UNets do
not have). The port for DDPM that SalUn's repository once held steps before it differentiates:
nothing is taken from it. The target's weights sum to 1, so the same formula is right for noise, x_0
and v prediction.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.noisy import Teacher
from unrelearn.method import Method
from unrelearn.ranges import Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising
    from unrelearn.diffusion.noisy import NoisyBatch


@dataclass(kw_only=True)
class ESD(Method):
    negative_guidance: Weight  # s of the target
    start_guidance: Weight  # guidance scale with which x_t is drawn
    # DDIM steps from T to 0 of which x_t is some point
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)]

    # the teacher twice; the student 4.5 times on the average of ten steps, each of them guided
    by_class = True
    passes = (1, 11)

    def prepare(self, t: "Denoising") -> None:
        self.teacher = Teacher(t.network)
        # one blank image for each label, for `draw`, of which only label, time and noise are read
        labels = torch.tensor(t.task.forget_classes, device=t.device)
        shape = (len(labels), *t.task.retain.images.shape[1:])
        self.blank = ImageSet(torch.zeros(shape, dtype=torch.uint8, device=t.device), labels)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        batch = t.draw("trajectory", self.blank, label_dropout=0.0)
        x_t = self.partly_denoised(t, batch)
        there = x_t, batch.t, batch.labels
        wanted = denoisers.guided(self.teacher, *there, t.null_label, -self.negative_guidance)
        return {"forget": t.matching(t.predict(*there), wanted)}

    @torch.no_grad()
    def partly_denoised(self, t: "Denoising", batch: "NoisyBatch") -> Tensor:
        """x_t (B, C, H, W): DDIM (Song et al. 2020, arXiv 2010.02502, Eq. 12, sigma = 0) from noise
        by the current network.

        Written out, as diffusers' scheduler has one time for all images. An image starts where
        whole steps lead to its t, between T - stride and T.
        """
        schedule, alphas = t.task.schedule, t.alphas_cumprod
        times, kind = schedule["num_train_timesteps"], schedule["prediction_type"]
        stride = -(-times // self.num_inference_steps)
        now, x = batch.t + (times - 1 - batch.t) // stride * stride, batch.noise.clone()
        training = t.network.training
        t.network.eval()
        while (going := now > batch.t).any():
            state, labels = (x[going], now[going]), batch.labels[going]
            output = denoisers.guided(t.predict, *state, labels, t.null_label, self.start_guidance)
            x_0, noise = maths.x_0_and_noise(output, *state, alphas, kind)
            now = now - stride * going
            x[going] = maths.add_noise(t.bounded(x_0), noise, now[going], alphas)
        t.network.train(training)
        return x
