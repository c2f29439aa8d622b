"""DiMRA on images that a model has generated for the retained classes: the attacker holds no data
at all, or none of D_r.

Yuan et al. 2025 (arXiv 2512.03564) let the auxiliary data be any whose distribution is close to
that of the retain set; which, and how many, is our choice. Threat model, besides the weights and
the label format:

    source=unlearned    nothing: the model under attack draws its own data
    source=original     images that the original model drew. Whoever has that model needs no attack;
                        this stands for data that are distributed like its own, from whatever
                        source. None is asked for under a forgotten class
"""

from typing import Literal

import torch
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion.sampling import sample
from unrelearn.module import Relearning, Task


class DiMRAAux(Relearning):
    """Args:
    source: which model draws the images.
    images_per_class: for each retained class, labelled with the class asked for.
    guidance_scale, num_inference_steps: of DDIM; diffusers' scale s = 1 + w.
    """

    def __init__(
        self,
        task: Task,
        *,
        source: Literal["original", "unlearned"],
        images_per_class: int = 200,
        guidance_scale: float = 1.0,
        num_inference_steps: int = 10,
        **arguments,
    ):
        super().__init__(task, **arguments)
        self.source, self.images_per_class = source, images_per_class
        self.guidance_scale, self.num_inference_steps = guidance_scale, num_inference_steps

    def prepare(self) -> None:
        super().prepare()
        # before a checkpoint is read: a resumed run draws the images with the weights that the
        # first one started from
        network = self.task.original() if self.source == "original" else self.denoiser
        labels = torch.tensor(self.task.retain_classes).repeat_interleave(self.images_per_class)
        images = sample(
            network,
            labels,
            schedule=self.task.schedule,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=self.task.seed,
            stream="attacker's data",
        )
        self.auxiliary = ImageSet(images, labels).to(self.task.retain.labels.device)

    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(auxiliary=self.draw("auxiliary", self.auxiliary))
