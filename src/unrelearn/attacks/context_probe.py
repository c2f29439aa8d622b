"""Context probe: the sampler starts from noised real images of the forgotten class instead of from
noise.

The start of SDEdit (Meng et al. 2022, arXiv 2108.01073) as a probe for what a little context brings
back, after Lu et al. 2025 (arXiv 2505.17013). The weights do not change; what the attack leaves
beside them is the images to start from, which are used in turn. Threat model: the model, whose
sampler one may start anywhere, and `num_images` real images of each forgotten class.

At small t*/T the image itself survives in any model, and a model asked for c_f makes one of
half-visible images of other classes too. So as many real images of the other classes are kept
beside: what starts from them is measured in the same way (evals/forget_accuracy.py), and what is
left of the difference is to be read beside that of `retrain`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from unrelearn.method import Edit
from unrelearn.randomness import generator_for
from unrelearn.ranges import Count, Seed
from unrelearn.task import Task

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class ContextProbe(Edit):
    num_images: Count  # real images of each forgotten class, or as many as the smallest of them has
    seed: Seed = 0  # see Relearning

    by_class = True
    starts_from_images = True
    sees_forgotten = True
    unit = "t*/T"
    allowed = (0.001, 1.0)

    def begin(self, t: "Denoising") -> None:
        shots = t.task.shots(self.num_images)
        by_class = [shots.of_classes([c]).images for c in t.task.forget_classes]
        same = min(map(len, by_class))
        # the classes in turn, as the sampler asks for them
        turns = torch.stack([images[:same].cpu() for images in by_class], 1)
        self.images = turns.flatten(0, 1).contiguous()
        self.others = of_retained(t.task, len(self.images))

    def edit(self, t: "Denoising", level: float) -> dict[str, float]:
        return {}

    def write_beside(self, folder: Path) -> None:
        save_file({"images": self.images, "others": self.others}, folder / "start.safetensors")


def of_retained(task: Task, n: int) -> torch.Tensor:
    """n real images of retained classes, uint8 on the CPU: the classes in turn, or all images if
    there are fewer.
    """
    labels = task.retain.labels
    # how many images of its class come before each one
    turn = torch.empty(len(labels), dtype=torch.int64)
    for c in labels.unique().tolist():
        own = torch.where(labels == c)[0].cpu()
        g = generator_for(task.seed, "attacker's data", c)
        turn[own] = torch.randperm(len(own), generator=g)
    chosen = (turn * len(task.class_names) + labels.cpu()).argsort()[:n]
    return task.retain.take(chosen.to(labels.device)).images[:].cpu().contiguous()
