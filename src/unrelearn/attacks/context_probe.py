"""Context probe: the sampler starts from noised real images of the forgotten class instead of from
noise.

The start of SDEdit (Meng et al. 2022, arXiv 2108.01073) as a probe for what a little context brings
back, after Lu et al. 2025 (arXiv 2505.17013). The weights do not change; what the attack leaves
beside them is the images to start from, which are used in
turn. Threat model: the model, whose sampler one may start anywhere, and `num_images` real images of
    each forgotten class.

At small t*/T the image itself survives in any model, and a model asked for c_f makes one of
half-visible images of other classes
too. So as many real images of the other classes are kept beside: what starts from them is measured
in the same way (evals/forget_accuracy.py), and what is left of the difference is to be read beside
that of `retrain`.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from unrelearn.module import Edit, Task
from unrelearn.randomness import generator_for


class ContextProbe(Edit):
    """Args: num_images: real images of each forgotten class, or as many as the smallest of them
    has.
    """

    starts_from_images = True
    unit = "t*/T"
    allowed = (0.001, 1.0)

    def __init__(self, task: Task, *, levels: list[float], num_images: int, seed: int = 0):
        super().__init__(task, {"seed": seed}, levels=levels)
        shots = self.task.shots(num_images)
        by_class = [shots.of_classes([c]).images for c in task.forget_classes]
        same = min(map(len, by_class))
        # the classes in turn, as the sampler asks for them
        self.images = (
            torch.stack([images[:same].cpu() for images in by_class], 1).flatten(0, 1).contiguous()
        )
        self.others = self.of_retained(len(self.images))

    def of_retained(self, n: int) -> torch.Tensor:
        """n real images of retained classes, uint8 on the CPU: the classes in turn, or all images
        if there are fewer.
        """
        retain, seed = self.task.retain, self.task.seed
        turn = torch.empty(
            len(retain), dtype=torch.int64
        )  # how many images of its class come before each one
        for c in retain.labels.unique().tolist():
            own = torch.where(retain.labels == c)[0].cpu()
            turn[own] = torch.randperm(
                len(own), generator=generator_for(seed, "attacker's data", c)
            )
        chosen = (turn * len(self.task.class_names) + retain.labels.cpu()).argsort()[:n]
        return retain.take(chosen.to(retain.labels.device)).images[:].cpu().contiguous()

    @staticmethod
    def sees_forgotten(**arguments) -> bool:
        return True

    def edit(self, level: float) -> dict[str, float]:
        return {}

    def save(self, folder: Path) -> str:
        label = super().save(folder)
        save_file({"images": self.images, "others": self.others}, folder / "start.safetensors")
        return label
