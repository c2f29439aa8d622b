"""Context probe: the sampler starts from noised real images of the forgotten class instead of from noise.

The start of SDEdit (Meng et al. 2022, arXiv 2108.01073) as a probe for what a little context brings back, after Lu et al. 2025
(arXiv 2505.17013). The weights do not change; what the attack leaves beside them is the images to start from, which are used in
turn. Threat model: the model, whose sampler one may start anywhere, and `num_images` real images of each forgotten class.

At small t*/T the image itself survives in any model, so the number means something only beside that of `retrain`.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from unrelearn.module import Edit, Task


class ContextProbe(Edit):
    """Args: num_images: real images of each forgotten class, or as many as the smallest of them has."""

    unit = "t*/T"
    allowed = (0.001, 1.0)

    def __init__(self, task: Task, *, levels: list[float], num_images: int, seed: int = 0):
        super().__init__(task, {"seed": seed}, levels=levels)
        shots = self.task.shots(num_images)
        by_class = [shots.of_classes([c]).images for c in task.forget_classes]
        same = min(map(len, by_class))
        # the classes in turn, as the sampler asks for them
        self.images = torch.stack([images[:same].cpu() for images in by_class], 1).flatten(0, 1).contiguous()

    @staticmethod
    def sees_forgotten(**arguments) -> bool:
        return True

    def edit(self, level: float) -> dict[str, float]:
        return {}

    def save(self, folder: Path) -> str:
        label = super().save(folder)
        save_file({"images": self.images}, folder / "start.safetensors")
        return label
