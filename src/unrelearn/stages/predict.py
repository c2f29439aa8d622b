"""What a classifier answers for every image, and those do that never saw the forget set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unrelearn import distributed, progress
from unrelearn.config.classifiers import FIRST_REFERENCE
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage
from unrelearn.stages.images import decoded, images
from unrelearn.stages.train import OfModel

if TYPE_CHECKING:
    from unrelearn.classification.kind import Classifiers

BATCH = 500


def kind_of(run: Run) -> "Classifiers":
    from unrelearn.classification.kind import Classifiers

    assert isinstance(run.kind, Classifiers)
    return run.kind


class Predictions(OfModel):
    """Logits for all training and test images."""

    name = "predictions"

    def config(self) -> dict[str, Any]:
        return {"step": self.model.step, "weights": self.run.cfg.model.weights}

    def make(self, folder: Path) -> dict[str, Any]:
        network = self.network()
        data = images(self.run)
        if distributed.is_main():
            parts = {"train": data.train.images, "test": data.test.images}
            logits = {name: answers(network, part) for name, part in parts.items()}
            save_file(logits, folder / "logits.safetensors")
        return {}

    def cost(self) -> Cost:
        return Cost(0, 0.0, 4.0 * len(self.run.dataset.class_names))


@torch.no_grad()
def answers(network: nn.Module, pictures: Any) -> Tensor:
    """Logits float32 (N, K) on the CPU of uint8 images (N, C, S, S)."""
    from unrelearn.classification.classifying import unit

    network.eval()
    device = next(network.parameters()).device
    parts = [network(unit(part.to(device))) for part in pictures.split(BATCH)]
    return torch.cat(parts).float().cpu()


class References(Stage):
    """Logits of classifiers that were trained without the forget set, seed after seed."""

    name = "references"
    beside = True
    seconds = 30.0

    @property
    def what(self) -> str:
        return self.run.names["dataset"]

    def needs(self) -> list[Stage]:
        return decoded(self.run)

    def config(self) -> dict[str, Any]:
        run, kind = self.run, kind_of(self.run)
        return {
            "dataset": run.data_slice,
            "model": kind.recipe()["model"],
            "augment": run.cfg.augment.retrain,
            "forget": kind.forgotten,
            "count": run.cfg.references.count,
            **kind.held_out,
        }

    def make(self, folder: Path) -> dict[str, Any]:
        from unrelearn.classification.bank import Bank, Member

        run, kind, data = self.run, kind_of(self.run), images(self.run)
        retain = torch.where(~kind.mask(data))[0].cpu()
        count, at_once = run.cfg.references.count, run.cfg.references.at_once
        recipe = kind.bank_recipe(run.dataset.horizontal_flip)
        seeds = [FIRST_REFERENCE + number for number in range(count)]
        chunks = [seeds[start : start + at_once] for start in range(0, count, at_once)]
        logits: dict[str, list[Tensor]] = {"train": [], "test": []}
        title = f"train {count} references"
        with progress.bar(title, recipe.max_steps * len(chunks)) as advance:
            for chunk in chunks:
                members = [Member(seed, retain) for seed in chunk]
                bank = Bank(kind.network, members, str(run.device))
                bank.train(data.train, recipe, advance, data.validation)
                for name, part in (("train", data.train), ("test", data.test)):
                    logits[name].append(bank.predict(part.images, BATCH))
        if distributed.is_main():
            whole = {name: torch.cat(parts) for name, parts in logits.items()}
            save_file(whole, folder / "logits.safetensors")
        return {}

    def cost(self) -> Cost:
        forward, _ = self.run.kind.cost()
        pretrain, count = self.run.cfg.model.pretrain, self.run.cfg.references.count
        steps = pretrain.max_steps * count
        return Cost(steps, 3 * forward * steps * pretrain.batch_size, 0.0)
