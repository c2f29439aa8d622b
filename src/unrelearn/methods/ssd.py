"""Selective synaptic dampening: shrink the weights that matter far more for the forget set than for
the rest. No step is taken.

Foster et al. 2024, "Fast Machine Unlearning Without Retraining Through Selective Synaptic
Dampening" (AAAI 2024, arXiv 2308.07707). With I the importances of the original model,

    theta_i <- min(dampening I_r,i / I_f,i, 1) theta_i    where I_f,i > selection I_r,i

I_X is the mean over the images of X of the squared gradient of each one's cross-entropy, in
evaluation mode (`Batches.fisher`). As released it is the mean over batches of the squared gradient
of a batch's mean loss, that is m^2 + v / B with m the mean and v the variance of the images'
gradients and B the batch size, where ours is m^2 + v: there the batch size decides how much the
common direction m counts beside the images' own.
Where we differ: their reference is the whole training set D, D_f in it; ours is D_r. With a share w
of the images in D_f, I_D = w I_f + (1 - w) I_r, so that I_f > a I_D is

    I_f > a (1 - w) / (1 - a w) I_r,

nearly the same for the few images or the one class of a hundred that were published; but for one
class of ten, or a tenth of all images, and a = 10 nothing could ever be selected.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrelearn.data import ImageData
from unrelearn.method import Still
from unrelearn.ranges import Positive

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying


@dataclass(kw_only=True)
class SSD(Still):
    selection: Positive  # alpha: how many times as much a dampened weight matters for D_f
    dampening: Positive  # lambda: of what is left of it

    @torch.no_grad()
    def prepare(self, t: "Classifying") -> None:
        task = t.task
        # `forget_classes` names neither set where images are forgotten one by one
        sets = ImageData(task.retain.to("cpu"), task.forget.to("cpu"), task.class_names).digest()
        forget = t.fisher(task.forget, images="forget", sets=sets)
        retain = t.fisher(task.retain, images="retain", sets=sets)
        for name, p in t.network.named_parameters():
            if p.requires_grad:
                mine, others = forget[name].to(p.device), retain[name].to(p.device)
                factor = (self.dampening * others / mine).clamp(max=1)
                p.copy_(torch.where(mine > self.selection * others, factor * p, p))
