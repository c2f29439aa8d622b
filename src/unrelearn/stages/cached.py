"""What methods keep that is dear to compute."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn import distributed
from unrelearn.stage import Stage

if TYPE_CHECKING:
    from unrelearn.stages.train import Trained


class Cached(Stage):
    """Tensors that are dear and the same in many runs, such as a Fisher information."""

    name = "cached"
    beside = True

    def __init__(self, start: "Trained", settings: dict[str, Any], compute: Callable[[], dict]):
        super().__init__(start.run)
        self.start, self.settings, self.compute = start, settings, compute

    def parents(self) -> list[Stage]:
        return [self.start]

    def config(self) -> dict[str, Any]:
        cfg = self.run.cfg
        return {
            **self.settings,
            "seed": cfg.seed,
            "weights": cfg.model.weights,
            "precision": cfg.precision,
        }

    def make(self, folder: Path) -> dict[str, Any]:
        tensors = self.compute()
        if distributed.is_main():
            tensors = {key: value.contiguous().cpu() for key, value in tensors.items()}
            save_file(tensors, folder / "tensors.safetensors")
        return {}


def cached(
    start: "Trained", name: str, settings: dict[str, Any], compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Task.cached as an artefact whose parent is the model that the task starts from."""
    stage = Cached(start, {"name": name, **settings}, compute)
    tensors = load_file(stage.build().path / "tensors.safetensors")
    return {key: value.to(start.run.device) for key, value in tensors.items()}
