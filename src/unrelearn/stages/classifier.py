"""The classifiers that measure: what is trained of them, and how they are read."""

from pathlib import Path
from typing import Any

from unrelearn import distributed
from unrelearn.artifact import write_json
from unrelearn.classification.classifier import Classifier, halves, new_classifier
from unrelearn.evals.evidence import accuracy, share
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.images import files, stored


class Oracle(Stage):
    """A classifier that measures, main or held-out; it sees half of the training images."""

    name = "oracle"
    version = 2
    axis = "oracle/step"
    seconds = 20.0

    MAIN, HELD_OUT = ROLES = ("main", "held_out")

    def __init__(self, run: Run, role: str):
        super().__init__(run)
        self.role = role

    @property
    def what(self) -> str:
        return self.role

    @property
    def settings(self) -> dict[str, Any]:
        given = self.run.slice(self.run.cfg.oracle)
        return {name: value for name, value in given.items() if name not in self.ROLES}

    @property
    def shape(self) -> dict[str, Any]:
        return self.run.slice(getattr(self.run.cfg.oracle, self.role))

    def config(self) -> dict[str, Any]:
        return {"dataset": self.run.data_slice, "classifier": self.shape, **self.settings}

    def needs(self) -> list[Stage]:
        return files(self.run)

    def make(self, folder: Path) -> dict[str, Any]:
        from unrelearn.classification.training import ClassifierTraining, OracleRecipe
        from unrelearn.fit import FitOptions, fit

        run, dataset = self.run, self.run.dataset
        data, shape = stored(run), self.shape  # those that measure see what no model may
        seed = shape.pop("seed")
        network = new_classifier(
            seed,
            image_size=dataset.image_size,
            channels=dataset.channels,
            num_classes=len(dataset.class_names),
            **shape,
            **({"values": dataset.values} if hasattr(dataset, "values") else {}),
        )
        module = ClassifierTraining(
            OracleRecipe(**self.settings),
            network,
            halves(data.train)[0],
            seed=seed,
            flip=dataset.horizontal_flip,
        )
        trainer = run.cfg.trainer
        with self.track() as logged:
            # the measure does not change with how that is trained which it measures
            options = FitOptions(
                precision="32-true",
                accelerator=run.device.type,
                checkpoint_every_n_steps=trainer.checkpoint_every_n_steps,
                log_every_n_steps=trainer.log_every_n_steps,
                log_row=lambda step, row: logged.log(row, step),
            )
            title = f"train classifier ({self.role.replace('_', '-')})"
            result = fit(module, folder, title, options)
            network.eval().to(run.device)
            probabilities, _ = network.look(data.test.images)
            seen = probabilities.argmax(1)
            metrics = {
                "test_accuracy": accuracy(seen, data.test.labels.cpu()),
                "test_nothing": share(seen == len(dataset.class_names)),
            }
            logged.summary(metrics)
        if distributed.is_main():
            network.save(folder)
            write_json(folder / "metrics.json", metrics)
        return result


def classifier(run: Run, role: str) -> Classifier:
    """A finished classifier, on the device."""
    return Classifier.load(Oracle(run, role).build().path).to(run.device)
