"""Selective Amnesia: learn noise under the forgotten class, replay generated images, and hold on to
weights that matter.

Heung & Soh 2023 (arXiv 2305.10120). With u an image of noise, uniform in [-1, 1], x_r a retained
image that the original model theta* has generated itself (no real data are read), and F the Fisher
information of theta* for its own images of all classes:

    L = |eps(u_t, t; c_f) - eps|^2 + replay_weight |eps(x_r, t; c_r) - eps|^2 + lambda sum_i F_i
    (theta_i - theta*_i)^2

The published lambda = 10 belongs to losses that are sums over the D = C*H*W elements of an image,
and to an F of the gradient summed over all T times. In our means, dividing by D, it becomes lambda
* D * T: the gradient of a sum is D times that of a mean, which F squares; and if the gradients of
different times are uncorrelated, their sum squared is T times the square of one.
Where we differ: that rule and an F from one time per sample in place of all T (`fisher`); each term
draws its own times.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion.sampling import sample
from unrelearn.method import Method
from unrelearn.ranges import Share, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class SelectiveAmnesia(Method):
    replay_weight: Weight  # gamma
    # lambda, in the published units. 0 is the control: does the elastic term hold the model back,
    # or the steps?
    elastic_weight: Weight
    # images that are generated of each class, as a share of the mean number of its training images
    replay_share: Share
    replay_guidance_scale: Weight  # with which they are generated

    by_class = True
    passes = (2, 0)

    def prepare(self, t: "Denoising") -> None:
        task, classes = t.task, len(t.task.class_names)
        images = self.replay_share * (len(task.forget) + len(task.retain)) / classes
        per_class = max(1, round(images))
        source = {"images_per_class": per_class, "guidance_scale": self.replay_guidance_scale}
        labels = torch.arange(classes).repeat_interleave(per_class)
        generated = task.cached("generated", source, lambda: {"images": self.drawn(t, labels)})
        every = ImageSet(generated["images"], labels).to(t.device)
        information = t.fisher(every, images="generated", **source)
        self.replay = every.of_classes(task.forget_classes, keep=False)
        self.anchors = [
            (p, p.detach().clone(), information[name].to(p.device))
            for name, p in t.network.named_parameters()
            if p.requires_grad
        ]
        shape = (len(task.forget_classes), *every.images.shape[1:])
        blank = torch.zeros(shape, dtype=torch.uint8)
        self.conditions = ImageSet(blank, torch.tensor(task.forget_classes)).to(t.device)

    def drawn(self, t: "Denoising", labels: Tensor) -> Tensor:
        """What the network draws for these labels, uint8 on the CPU."""
        return sample(
            t.network,
            labels,
            schedule=t.task.schedule,
            guidance_scale=self.replay_guidance_scale,
            seed=t.task.seed,
            stream="replay",
            fitting=t.task.fitting,
        )

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        shape = tuple(self.replay.images.shape[1:])
        forget = t.draw("forget", self.conditions, label_dropout=0.0)
        forget = replace(forget, x_0=2 * t.uniform("uniform", shape) - 1)
        losses = t.losses(forget=forget, retain=t.draw("retain", self.replay))
        elastic = sum(
            (information * (p - start).square()).sum() for p, start, information in self.anchors
        )
        times = t.task.schedule["num_train_timesteps"]
        units = t.loss_scale * self.replay.images[0].numel() * times
        return {
            "forget": losses["forget"],
            "retain": self.replay_weight * losses["retain"],
            "elastic": self.elastic_weight * units * elastic,
        }
