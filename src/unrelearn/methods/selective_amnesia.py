"""Selective Amnesia: learn noise under the forgotten class, replay generated images, and hold on to
weights that matter.

Heung & Soh 2023 (arXiv 2305.10120). With u an image of noise, uniform in [-1, 1], x_r a retained
image that the original model theta* has generated itself (no real data are read), and F the Fisher
information of theta* for its own images of all classes:

    L = |eps(u_t, t; c_f) - eps|^2 + replay_weight |eps(x_r, t; c_r) - eps|^2 + lambda sum_i F_i
    (theta_i - theta*_i)^2

The published lambda = 10 belongs to losses that are sums over the D = C*H*W elements of an image,
and to an F of the gradient
summed over all T times. In our means, dividing by D, it becomes lambda * D * T: the gradient of a
sum is D times that of a mean, which F squares; and if the gradients of different times are
uncorrelated, their sum squared is T times the square of one.
Where we differ: that rule and an F from one time per sample in place of all T (`fisher`); each term
    draws its own times.
"""

from dataclasses import replace

import torch
from torch import Tensor

from unrelearn import randomness
from unrelearn.data import ImageSet
from unrelearn.diffusion.sampling import sample
from unrelearn.module import DiffusionModule, Task


class SelectiveAmnesia(DiffusionModule):
    """Args:
    replay_weight: gamma.
    elastic_weight: lambda, in the published units. 0 is the control: does the elastic term hold the
        model back, or the steps?
    replay_share: how many images are generated of each class, as a share of the mean number of its
        training images.
    replay_guidance_scale: with which they are generated.
    """

    passes = (2, 0)

    def __init__(
        self,
        task: Task,
        *,
        replay_weight: float,
        elastic_weight: float,
        replay_share: float,
        replay_guidance_scale: float,
        **arguments,
    ):
        super().__init__(task, **arguments)
        self.replay_weight, self.elastic_weight = replay_weight, elastic_weight
        self.replay_share, self.replay_guidance_scale = replay_share, replay_guidance_scale

    def prepare(self) -> None:
        super().prepare()
        task, classes = self.task, len(self.task.class_names)
        per_class = max(
            1, round(self.replay_share * (len(task.forget) + len(task.retain)) / classes)
        )
        labels = torch.arange(classes).repeat_interleave(per_class)
        source = {"images_per_class": per_class, "guidance_scale": self.replay_guidance_scale}
        images = task.cached(
            "generated",
            source,
            lambda: {
                "images": sample(
                    self.denoiser,
                    labels,
                    schedule=task.schedule,
                    guidance_scale=self.replay_guidance_scale,
                    seed=task.seed,
                    stream="replay",
                )
            },
        )["images"]
        generated = ImageSet(images, labels).to(self.device)
        information = self.fisher(generated, images="generated", **source)
        self.replay = generated.of_classes(task.forget_classes, keep=False)
        self.anchors = [
            (p, p.detach().clone(), information[name].to(p.device))
            for name, p in self.denoiser.named_parameters()
            if p.requires_grad
        ]
        blank = torch.zeros((len(task.forget_classes), *images.shape[1:]), dtype=torch.uint8)
        self.conditions = ImageSet(blank, torch.tensor(task.forget_classes)).to(self.device)

    def losses(self) -> dict[str, Tensor]:
        task, shape = self.task, (self.batch_size, *self.replay.images.shape[1:])
        forget = self.draw("forget", self.conditions, label_dropout=0.0)
        g = randomness.generator_for(
            task.seed, self.stage, "uniform", self.global_step, device=self.device
        )
        uniform = torch.rand(shape, generator=g, device=self.device)[self._mine(self.micro)]
        losses = self.denoising_losses(
            forget=replace(forget, x_0=2 * uniform - 1), retain=self.draw("retain", self.replay)
        )
        elastic = sum(
            (information * (p - start).square()).sum() for p, start, information in self.anchors
        )
        units = (
            self.loss_scale * self.replay.images[0].numel() * task.schedule["num_train_timesteps"]
        )
        return {
            "forget": losses["forget"],
            "retain": self.replay_weight * losses["retain"],
            "elastic": self.elastic_weight * units * elastic,
        }
