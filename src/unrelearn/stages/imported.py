"""The original model, from elsewhere."""

from pathlib import Path
from typing import Any

from unrelearn import distributed, progress
from unrelearn.artifact import sha256
from unrelearn.diffusion import checkpoint
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.errors import UsageError
from unrelearn.stages.train import Pretrain, Trained


class Import(Trained):
    """The original model, from weights that were trained elsewhere."""

    name = Pretrain.name
    version = Pretrain.version

    @property
    def path(self) -> Path:
        return Path(self.run.cfg.model.checkpoint or "")

    def config(self) -> dict[str, Any]:
        run, model, path = self.run, self.run.cfg.model, self.path
        files = [path]
        if path.is_dir():
            kinds = (".json", ".safetensors")
            files = sorted(file for file in path.rglob("*") if file.suffix in kinds)
        pretrain = model.pretrain  # methods and attacks follow these two
        followed = {name: getattr(pretrain, name) for name in ("loss_reduction", "antithetic")}
        imported = {
            "unet": run.slice(model.unet),
            "schedule": run.slice(model.schedule),
            "pretrain": followed,
            "checkpoint": [sha256(file) for file in files],
            "weights": model.weights,
        }
        return {"dataset": run.data_slice, "model": imported, "precision": run.cfg.precision}

    def make(self, folder: Path) -> dict[str, Any]:
        model, dataset = self.run.cfg.model, self.run.dataset
        path, schedule = self.path, self.run.slice(model.schedule)
        assumed = checkpoint.assumed(path, schedule)
        if assumed:
            progress.say(assumed)
        networks = denoisers.load_checkpoint(
            path,
            image_size=dataset.image_size,
            channels=dataset.channels,
            num_classes=len(dataset.class_names),
        )
        if model.weights not in networks:
            raise UsageError(checkpoint.wrong_label(path, model.weights, list(networks)))
        if distributed.is_main():
            denoisers.save(networks[model.weights], folder / model.weights, schedule)
        return {"weights": model.weights, "schedule_assumed": assumed is not None}
