"""How much each training image is memorised, for `forget=memorised:0.1`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.config.classifiers import FIRST_HALF
from unrelearn.data import ImageData
from unrelearn.randomness import generator_for
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage
from unrelearn.stages.images import OfData, files, stored

BATCH = 500


class Memorisation(OfData):
    """Of models that were each trained on half of the images, the mean probability of an image's
    label by those that saw it, minus that by those that did not.

    Feldman & Zhang 2020, arXiv 2008.03703, eq. 1, with probabilities for their share of models that
    are right, as these tell images apart with few models. Models come in pairs whose halves are
    each other's rest, so that every image was seen by half of them.
    """

    name = "memorisation"
    version = 2
    seconds = 30.0

    def needs(self) -> list[Stage]:
        return files(self.run)

    def config(self) -> dict[str, Any]:
        run = self.run
        return {
            "dataset": run.data_slice,
            "model": run.kind.recipe()["model"],
            "augment": run.cfg.augment.base,
            "halves": run.cfg.references.halves,
        }

    def make(self, folder: Path) -> dict[str, Any]:
        scores = memorisation(self.run, stored(self.run))
        if distributed.is_main():
            np.save(folder / "memorisation.npy", scores)
        return {}

    def read(self) -> Tensor:
        """(N,) in [-1, 1]."""
        return torch.from_numpy(np.load(self.build().path / "memorisation.npy"))

    def cost(self) -> Cost:
        forward, _ = self.run.kind.cost()
        pretrain = self.run.cfg.model.pretrain
        steps = pretrain.max_steps * self.run.cfg.references.halves
        return Cost(steps, 3 * forward * steps * pretrain.batch_size, 0.0)


def halves(count: int, images: int) -> Tensor:
    """Which images each of `count` models sees, bool (count, images): an even number of models, two
    by two each other's rest.
    """
    seen = torch.zeros(count, images, dtype=torch.bool)
    for pair in range(count // 2):
        order = torch.randperm(images, generator=generator_for("halves", pair))
        seen[2 * pair, order[: images // 2]] = True
        seen[2 * pair + 1] = ~seen[2 * pair]
    return seen


def memorisation(run: Run, data: ImageData) -> np.ndarray:
    from unrelearn.audits import populations
    from unrelearn.classification import scores
    from unrelearn.classification.bank import Bank, Member
    from unrelearn.stages.predict import kind_of

    kind, at_once = kind_of(run), run.cfg.references.at_once
    recipe = kind.bank_recipe(run.dataset.horizontal_flip, "base")
    seen = halves(run.cfg.references.halves, len(data.train))
    members = [Member(FIRST_HALF + n, torch.where(one)[0]) for n, one in enumerate(seen)]
    chunks = [members[start : start + at_once] for start in range(0, len(members), at_once)]
    labels, sure = data.train.labels.cpu().numpy(), []
    title = f"train {len(members)} models on half of the images"
    with progress.bar(title, recipe.max_steps * len(chunks)) as advance:
        for chunk in chunks:
            bank = Bank(kind.network, chunk, str(run.device))
            bank.train(data.train, recipe, advance)
            logits = bank.predict(data.train.images, BATCH).numpy()
            sure += [scores.confidence(each, labels) for each in logits]
    return populations.memorisation(np.stack(sure), seen.numpy())
