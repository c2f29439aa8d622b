"""DiMRA on images that a model has generated for the retained classes: the attacker holds no data
at all, or none of D_r.

Yuan et al. 2025 (arXiv 2512.03564) let the auxiliary data be any whose distribution is close to
that of the retain set; which, and how many, is our choice. Threat model, besides the weights and
the label format:

    source=unlearned    nothing: the model under attack draws its own data
    source=original     images that the original model drew. Whoever has that model needs no attack;
                        this stands for data that
                        are distributed like its own, from whatever source. None is asked for under
                        a forgotten class
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion.sampling import sample
from unrelearn.method import Relearning
from unrelearn.ranges import Count, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class DiMRAAux(Relearning):
    source: Literal["original", "unlearned"]  # which model draws the images
    images_per_class: Count = 200  # for each retained class, labelled with the class asked for
    guidance_scale: Weight = 1.0  # of DDIM; diffusers' scale s = 1 + w
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 10

    @classmethod
    def needs_original(cls, settings: Mapping[str, Any]) -> bool:
        return settings["source"] == "original"

    def prepare(self, t: "Denoising") -> None:
        # before a checkpoint is read: a resumed run draws the images with the weights that the
        # first one started from
        network = t.task.original() if self.source == "original" else t.network
        labels = torch.tensor(t.task.retain_classes).repeat_interleave(self.images_per_class)
        images = sample(
            network,
            labels,
            schedule=t.task.schedule,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=t.task.seed,
            stream="attacker's data",
            fitting=t.task.fitting,
        )
        self.auxiliary = ImageSet(images, labels).to(t.task.retain.labels.device)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        return t.losses(auxiliary=t.draw("auxiliary", self.auxiliary))
