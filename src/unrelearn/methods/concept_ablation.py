"""Concept Ablation: under c_f, answer what the original model answers under an anchor class, on
images of the anchor class.

Kumari et al. 2023, "Ablating Concepts in Text-to-Image Diffusion Models" (arXiv 2303.13516), the
model-based variant. With x' an image of the anchor class c' and eps_0 the frozen original model,

    L = | eps(x'_t, t; c_f) - eps_0(x'_t, t; c') |^2 + retain_weight |eps(x_r, t; c_r) - eps|^2

Where we differ: the target comes from a frozen copy, which the released code replaces by the
current network without a gradient; the second term is theirs for anchors that contain the concept,
on images of the anchor, and ours on the retain set, as a table of classes has no text encoder that
would keep the other classes in their place. The difference to `random_label`: the images are of the
anchor class, and the target does not drift. To `dimum`: the target is the model's answer, not the
noise.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unrelearn.diffusion.memory import memory_set
from unrelearn.diffusion.noisy import Teacher
from unrelearn.method import Method
from unrelearn.ranges import Count, Weight

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class ConceptAblation(Method):
    # drawn by the original model (as published), or real images
    anchor: Literal["generated", "another_class"]
    anchor_class: int | None = None  # its label; None: the next retained one of each forgotten one
    # how many images for each forgotten class; None: 256 generated ones, or all real ones
    anchor_size: Count | None = None
    # of the denoising loss of the retain set, in units of the other term; 0: that is not read
    retain_weight: Weight = 1.0

    by_class = True
    passes = (2, 1)

    def prepare(self, t: "Denoising") -> None:
        self.teacher = Teacher(t.network)
        # labelled c_f
        self.anchors = memory_set(t.task, self.anchor, self.anchor_size, self.anchor_class)

    def losses(self, t: "Denoising") -> dict[str, Tensor]:
        batch = t.draw("anchor", self.anchors, label_dropout=0.0)
        labels = t.task.stand_ins(batch.labels)
        if self.anchor_class is not None:
            labels = torch.full_like(labels, self.anchor_class)
        wanted = self.teacher(t.noised(batch), batch.t, labels)
        losses = t.means(forget=replace(batch, wanted=wanted))
        if self.retain_weight:
            retain = t.means(retain=t.draw("retain", t.task.retain))["retain"]
            losses["retain"] = self.retain_weight * retain  # both terms are means over elements
        return losses
