"""What a model draws."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from unrelearn import distributed, progress
from unrelearn.config.denoisers import schedule_of
from unrelearn.diffusion.drawing import Job, draw_all, jobs
from unrelearn.stage import Cost
from unrelearn.stages.train import Attack, OfModel


class Samples(OfModel):
    """Images that a model draws."""

    name = "samples"
    version = 2

    def config(self) -> dict[str, Any]:
        cfg, step = self.run.cfg, self.model.step
        config = {
            "sampler": self.run.slice(cfg.sampler),
            "forget": self.run.forget,
            "step": step,
            "precision": cfg.precision,
        }
        # two sets of weights lie in what was trained from scratch: the original, and `retrain`
        averaged = self.run.method.ema_decay is not None
        if step is None and (self.model.stage.start is None or averaged):
            config["weights"] = cfg.model.weights
        return config

    def jobs(self) -> list[Job]:
        """What is drawn."""
        run = self.run
        return jobs(
            run.slice(run.cfg.sampler),
            run.forget,
            len(run.dataset.class_names),
            schedule_of(run.cfg).num_train_timesteps,
            isinstance(self.model.stage, Attack) and run.attack.starts_from_images,
            list(run.kind.paraphrases),
        )

    def make(self, folder: Path) -> dict[str, Any]:
        run, cfg = self.run, self.run.cfg
        kind: Any = run.kind  # of denoisers
        network = self.network()
        # of an attack on the sampler: images to start from
        beside = (self.model.weights or folder).parent / "start.safetensors"
        starts = load_file(beside) if beside.exists() else {}
        if cfg.trainer.compile:
            network.compile()
        todo = self.jobs()
        shares = [distributed.my_slice(len(job.labels)) for job in todo]
        total = sum(part.stop - part.start for part in shares)
        half = torch.bfloat16 if cfg.precision.startswith("bf16") else torch.float16
        mixed = torch.autocast(run.device.type, half, enabled=cfg.precision != "32-true")
        with progress.bar(f"sample the model: {self.what}", total) as advance, mixed:
            tensors = draw_all(
                network,
                run.slice(cfg.sampler),
                todo,
                starts,
                self.model.step,
                schedule=run.slice(cfg.model.schedule),
                batch_size=cfg.trainer.sampling_batch_size,
                fitting=run.fitting,
                progress=advance,
                finish=kind.finish(run.device),
            )
        if distributed.is_main():
            save_file(tensors, folder / "samples.safetensors")
            step = self.model.step
            with self.track("" if step is None else f" at {step:g}") as logged:
                grids = {name: t for name, t in tensors.items() if name.count("/") == 1}
                logged.images(**{name.replace("/", "_"): grid for name, grid in grids.items()})
        return {}

    def read(self) -> dict[str, torch.Tensor]:
        """As `draw_all` has them."""
        return load_file(self.build().path / "samples.safetensors")

    def cost(self) -> Cost:
        dataset, todo = self.run.dataset, self.jobs()
        forward, _ = self.run.kind.cost()
        image = dataset.channels * dataset.image_size**2
        passes = sum(job.passes for job in todo)
        return Cost(0, passes * forward, sum(len(job.labels) for job in todo) * image)
