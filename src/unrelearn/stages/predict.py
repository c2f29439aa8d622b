"""What a classifier answers for every image, and those do that never saw the forget set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.config.classifiers import FIRST_REFERENCE
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage
from unrelearn.stages.images import OfData, decoded, images
from unrelearn.stages.train import OfModel

if TYPE_CHECKING:
    from unrelearn.classification.kind import Classifiers
    from unrelearn.classification.networks import Network

BATCH = 500
# which references count, by `references.half`
HALVES = {None: slice(None), "tuning": slice(0, None, 2), "table": slice(1, None, 2)}


def kind_of(run: Run) -> "Classifiers":
    from unrelearn.classification.kind import Classifiers

    assert isinstance(run.kind, Classifiers)
    return run.kind


class Predict(OfModel):
    """Logits for all training and test images, and with `predictions.features` what the last layer
    reads: float32 (N, K) in logits.safetensors, (N, F) in features.safetensors, `train` and `test`.
    """

    name = "predictions"

    def config(self) -> dict[str, Any]:
        config = {"step": self.model.step, "weights": self.run.cfg.model.weights}
        return config | ({"features": True} if self.run.cfg.predictions.features else {})

    def make(self, folder: Path) -> dict[str, Any]:
        from unrelearn.classification.networks import Network

        network = self.network()
        assert isinstance(network, Network)
        data = images(self.run)
        if distributed.is_main():
            asked = ["logits", *["features"] * self.run.cfg.predictions.features]
            train, test = (outputs(network, p.images, asked) for p in (data.train, data.test))
            for name in asked:
                both = {"train": train[name], "test": test[name]}
                save_file(both, folder / f"{name}.safetensors")
        return {}

    def cost(self) -> Cost:
        return Cost(0, 0.0, 4.0 * len(self.run.dataset.class_names))


@torch.no_grad()
def outputs(network: "Network", pictures: Any, asked: list[str]) -> dict[str, Tensor]:
    """What is asked for of logits (N, K) and features (N, F), float32 on the CPU, of uint8 images
    (N, C, S, S).
    """
    from unrelearn.classification.classifying import unit

    network.eval()
    parts: dict[str, list[Tensor]] = {name: [] for name in asked}
    for part in pictures.split(BATCH):
        features = network.features(unit(part.to(network.mean.device)))
        answers = {"logits": network.head(features), "features": features}
        for name in asked:
            parts[name].append(answers[name].float().cpu())
    return {name: torch.cat(each) for name, each in parts.items()}


class References(OfData):
    """Logits of classifiers that were trained without the forget set, seed after seed."""

    name = "references"
    beside = True
    seconds = 30.0

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

    def read(self) -> dict[str, Tensor]:
        """Logits (R, N, K) of those that are measured with, by `train` and `test`."""
        logits = load_file(self.build().path / "logits.safetensors")
        half = HALVES[self.run.cfg.references.half]
        return {name: each[half] for name, each in logits.items()}

    def cost(self) -> Cost:
        forward, _ = self.run.kind.cost()
        pretrain, count = self.run.cfg.model.pretrain, self.run.cfg.references.count
        steps = pretrain.max_steps * count
        return Cost(steps, 3 * forward * steps * pretrain.batch_size, 0.0)
