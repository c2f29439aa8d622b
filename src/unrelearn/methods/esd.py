"""ESD: under c_f, answer what the original model would answer if it were guided away from c_f. No
data at all.

Gandikota et al. 2023, "Erasing Concepts from Diffusion Models" (arXiv 2303.07345). With e_0 and e_c
the frozen original model's predictions at x_t without and with the condition,

    L = | eps(x_t, t; c_f) - (e_0 - negative_guidance (e_c - e_0)) |^2

and x_t an image of c_f that the current network has denoised from noise down to t, with guidance,
as in the released code for
Stable Diffusion. Where we differ: a batch in which each image has its own t, reached by DDIM steps
of equal length (there one image and one t a step, t anywhere in the bin where it stopped); network
in evaluation mode while it draws x_t; x_0 clamped to [-1, 1] there, as we sample pixels and not
latents; all weights that may move move (there parts that our UNets do not have). The port for DDPM
that SalUn's repository once held steps before it differentiates: nothing is taken from it. The
target's weights sum to 1, so the same formula is right for noise, x_0 and v prediction.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.objectives import Teacher
from unrelearn.module import Batch, DiffusionModule, Task


class ESD(DiffusionModule):
    """Args:
    negative_guidance: s of the target.
    start_guidance: guidance scale with which x_t is drawn.
    num_inference_steps: DDIM steps from T to 0 of which x_t is some point.
    """

    passes = (
        1,
        11,
    )  # the teacher twice; the student 4.5 times on the average of ten steps, each of them guided

    def __init__(
        self,
        task: Task,
        *,
        negative_guidance: float,
        start_guidance: float,
        num_inference_steps: int,
        **arguments,
    ):
        super().__init__(task, **arguments)
        self.negative_guidance, self.start_guidance = negative_guidance, start_guidance
        self.stride = -(-task.schedule["num_train_timesteps"] // num_inference_steps)

    def prepare(self) -> None:
        super().prepare()
        self.teacher = Teacher(self.denoiser)
        # one blank image for each label, for `draw`, of which only label, time and noise are read
        labels = torch.tensor(self.task.forget_classes, device=self.device)
        shape = (len(labels), *self.task.retain.images.shape[1:])
        self.blank = ImageSet(torch.zeros(shape, dtype=torch.uint8, device=self.device), labels)

    def losses(self) -> dict[str, Tensor]:
        batch = self.draw("trajectory", self.blank, label_dropout=0.0)
        x_t = self.partly_denoised(batch)
        wanted = self.guided(self.teacher, x_t, batch.t, batch.labels, -self.negative_guidance)
        return {
            "forget": self.matching_loss(
                denoisers.predict(self.denoiser, x_t, batch.t, batch.labels), wanted
            )
        }

    def guided(
        self, predict: Callable, x_t: Tensor, t: Tensor, labels: Tensor, scale: float
    ) -> Tensor:
        """e_0 + scale (e_c - e_0)."""
        null = torch.full_like(labels, len(self.task.class_names))
        both = predict(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([labels, null])).float()
        conditional, unconditional = both.chunk(2)
        return unconditional + scale * (conditional - unconditional)

    @torch.no_grad()
    def partly_denoised(self, batch: Batch) -> Tensor:
        """x_t (B, C, H, W): DDIM (Song et al. 2020, arXiv 2010.02502, Eq. 12, sigma = 0) from noise
        by the current network.

        Written out, as diffusers' scheduler has one time for all images. An image starts where
        whole steps lead to its t, between T - stride and T.
        """
        last, kind = (
            self.task.schedule["num_train_timesteps"] - 1,
            self.task.schedule["prediction_type"],
        )
        now, x = batch.t + (last - batch.t) // self.stride * self.stride, batch.noise.clone()
        training = self.denoiser.training
        self.denoiser.eval()
        while (going := now > batch.t).any():
            state = x[going], now[going]
            output = self.guided(
                partial(denoisers.predict, self.denoiser),
                *state,
                batch.labels[going],
                self.start_guidance,
            )
            x_0, noise = maths.x_0_and_noise(output, *state, self.alphas_cumprod, kind)
            now = now - self.stride * going
            x[going] = maths.add_noise(x_0.clamp(-1, 1), noise, now[going], self.alphas_cumprod)
        self.denoiser.train(training)
        return x
