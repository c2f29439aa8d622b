"""Concept Ablation: under c_f, answer what the original model answers under an anchor class, on
images of the anchor class.

Kumari et al. 2023, "Ablating Concepts in Text-to-Image Diffusion Models" (arXiv 2303.13516), the
model-based variant. With x' an image of the anchor class c' and eps_0 the frozen original model,

    L = | eps(x'_t, t; c_f) - eps_0(x'_t, t; c') |^2 + retain_weight |eps(x_r, t; c_r) - eps|^2

Where we differ: the target comes from a frozen copy, which the released code replaces by the
current network without a gradient; the second term is theirs for anchors that contain the concept,
on images of the anchor, and ours on the retain set, as a table of classes has no text encoder that
would keep the other classes in their place. The difference to `random_label`:
the images are of the anchor class, and the target does not drift. To `dimum`: the target is the
    model's answer, not the noise.
"""

from typing import Literal

import torch
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.objectives import Teacher, memory_set, pseudo_labels
from unrelearn.module import DiffusionModule, Task


class ConceptAblation(DiffusionModule):
    """Args:
    anchor: "generated" by the original model (as published) or real images of "another_class".
    anchor_class: its label; None: the next retained one after each forgotten one.
    anchor_size: how many images for each forgotten class; None: 256 generated ones, or all real
        ones.
    retain_weight: of the denoising loss of the retain set, in units of the other term; 0: the
        retain set is not read.
    """

    passes = (2, 1)

    def __init__(
        self,
        task: Task,
        *,
        anchor: Literal["generated", "another_class"],
        anchor_class: int | None = None,
        anchor_size: int | None = None,
        retain_weight: float = 1.0,
        **arguments,
    ):
        super().__init__(task, **arguments)
        self.anchor, self.anchor_class, self.anchor_size = anchor, anchor_class, anchor_size
        self.retain_weight = retain_weight

    def prepare(self) -> None:
        super().prepare()
        self.teacher = Teacher(self.denoiser)
        self.anchors = memory_set(
            self.task, self.anchor, self.anchor_size, self.anchor_class
        )  # labelled c_f

    def losses(self) -> dict[str, Tensor]:
        batch = self.draw("anchor", self.anchors, label_dropout=0.0)
        x_t, labels = self.noised(batch), pseudo_labels(self.task, batch.labels)
        if self.anchor_class is not None:
            labels = torch.full_like(labels, self.anchor_class)
        answer = denoisers.predict(self.denoiser, x_t, batch.t, batch.labels)
        losses = {"forget": self.matching_loss(answer, self.teacher(x_t, batch.t, labels))}
        if self.retain_weight:
            retain = self.denoising_losses(retain=self.draw("retain", self.task.retain))["retain"]
            losses["retain"] = (
                self.retain_weight / self.loss_scale * retain
            )  # both terms are means over elements
        return losses
