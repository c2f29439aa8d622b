"""How much each real image looks like a member to one denoiser: what eval.membership reads."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.data import ImageSet
from unrelearn.evals.evidence import Records, spread
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage
from unrelearn.stages.images import decoded, images
from unrelearn.stages.train import Model, OfModel, Pretrain, Unlearn

LARGEST = 2000  # images of each set that are scored, always the same ones


class RecordScores(OfModel):
    """Scores of the forgotten, of retained and of held-out images, one by one."""

    name = "records"

    @property
    def scores(self) -> list[str]:
        return list(self.run.cfg.eval["membership"]["scores"])

    def needs(self) -> list[Stage]:
        return [*decoded(self.run), *self.parents()]

    def config(self) -> dict[str, Any]:
        return {
            "step": self.model.step,
            "weights": self.run.cfg.model.weights,
            "forget": self.run.kind.forgotten,
            "scores": self.scores,
        }

    def sets(self) -> dict[str, ImageSet]:
        """forget, retain and held_out, of these some of the classes of D_f and some of the rest."""
        run, data = self.run, images(self.run)
        assert data.validation is not None, "config.denoisers.membership asks for a held-out half"
        forget, retain = run.kind.split(data)
        like = torch.isin(data.validation.labels, forget.labels)
        parts = [some(data.validation.where(mask)) for mask in (like, ~like)]
        return {"forget": some(forget), "retain": some(retain), "held_out": ImageSet.join(parts)}

    def make(self, folder: Path) -> dict[str, Any]:
        from unrelearn.diffusion.records import record_scores

        run = self.run
        network = self.network()
        sets, schedule = self.sets(), run.slice(run.cfg.model.schedule)
        tensors: dict[str, Tensor] = {}
        with progress.bar(f"score records: {self.what}", len(sets)) as advance:
            for name, data in sets.items():
                scores = record_scores(network, data, self.scores, schedule)
                tensors |= {f"{name}/{score}": values for score, values in scores.items()}
                tensors[f"{name}/labels"] = data.labels.cpu()
                advance(1)
        if distributed.is_main():
            save_file(tensors, folder / "scores.safetensors")
        return {}

    def read(self) -> Records:
        known = load_file(self.build().path / "scores.safetensors")

        def part(name: str) -> dict[str, Tensor]:
            return {key.split("/")[1]: v for key, v in known.items() if key.startswith(f"{name}/")}

        return Records(part("forget"), part("retain"), part("held_out"))

    def cost(self) -> Cost:
        forward, _ = self.run.kind.cost()
        calls = {"loss": 8, "secmi": 12, "pia": 2, "sima": 1}
        passes = sum(calls[name] for name in self.scores)
        return Cost(0, 3.0 * LARGEST * passes * forward, 12.0 * LARGEST * len(self.scores))


def some(data: ImageSet) -> ImageSet:
    """At most LARGEST of them."""
    index = spread(torch.arange(len(data)), LARGEST).sort().values
    return data.take(index.to(data.labels.device))


def retrained(run: Run) -> RecordScores:
    """Of the model of the same recipe and seed that never saw D_f, as method=retrain makes it."""
    other = run.once("retrained", lambda: run.with_method("retrain"))
    return RecordScores(other, Model(Unlearn(other, Pretrain(other))))
