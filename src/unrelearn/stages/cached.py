"""What methods keep that is dear to compute."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

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
        started = time.monotonic()
        tensors = self.compute()
        if distributed.is_main():
            tensors = {key: value.contiguous().cpu() for key, value in tensors.items()}
            save_file(tensors, folder / "tensors.safetensors")
        return {"seconds": time.monotonic() - started}
