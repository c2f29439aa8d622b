"""What ESD and the methods that build on it share: a target that leads away from a class, and the
noisy images that the network itself draws of it (see `methods.esd`).
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
class Erasing(Method):
    negative_guidance: Weight  # s of the target
    start_guidance: Weight  # guidance scale with which x_t is drawn
    # DDIM steps from T to 0 of which x_t is some point
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)]

    by_class = True

    def prepare(self, t: "Denoising") -> None:
        self.teacher = Teacher(t.network)
        self.blank = self.blanks(t, t.task.forget_classes)

    def blanks(self, t: "Denoising", labels: list[int]) -> ImageSet:
        """One blank image for each label, for `draw`, of which only label, time and noise are
        read.
        """
        shape = (len(labels), *t.task.retain.images.shape[1:])
        blank = torch.zeros(shape, dtype=torch.uint8, device=t.device)
        return ImageSet(blank, torch.tensor(labels, device=t.device))

    def wanted(self, t: "Denoising", x_t: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """What is to be answered (B, C, H, W) at x_t, times (B,) and labels (B,)."""
        scale = -self.negative_guidance
        return denoisers.guided(self.teacher, x_t, times, labels, t.null_label, scale)

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
