"""The stages of a run of a class-conditional diffusion model."""

import json
from typing import Any

from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.classifier import Classifiers
from unrelearn.stages.generate import Samples
from unrelearn.stages.imported import Import
from unrelearn.stages.measure import Evaluate
from unrelearn.stages.rows import rows_of
from unrelearn.stages.train import Attack, Model, Pretrain, Unlearn, chain


def models(run: Run) -> list[Model]:
    return chain(Import(run) if run.cfg.model.checkpoint is not None else Pretrain(run))


def evaluations(run: Run) -> list[Evaluate]:
    return [Evaluate(run, Samples(run, model)) for model in models(run)]


def rows(run: Run) -> list[dict[str, Any]]:
    return rows_of(evaluations(run))


def targets(run: Run) -> list[Stage]:
    asked, measured = set(run.cfg.stages), models(run)
    classifiers: list[Stage] = [Classifiers(run, role) for role in Classifiers.ROLES]
    if Evaluate.name in asked:
        return list(evaluations(run))
    wanted = classifiers if Classifiers.name in asked else []
    if Samples.name in asked:
        return [*wanted, *(Samples(run, model) for model in measured)]
    order = [Pretrain.name, Unlearn.name, Attack.name]
    depths = [order.index(name) for name in asked if name in order]
    trained = [m.stage for m in measured if depths and order.index(m.stage.name) <= max(depths)]
    return [*wanted, *trained]


def about(run: Run) -> dict[str, Any]:
    return {"oracle": _classifiers(run), "weights": weight_changes(run)}


def _classifiers(run: Run) -> dict[str, float]:
    names = dict(zip(Classifiers.ROLES, ("test_accuracy", "held_out_test_accuracy"), strict=True))
    accuracies = {}
    for role, name in names.items():
        metrics = Classifiers(run, role).build().path / "metrics.json"
        accuracies[name] = json.loads(metrics.read_text())["test_accuracy"]
    return accuracies


def weight_changes(run: Run) -> dict[str, Any] | None:
    """What the method did to the weights; None where it did nothing, or a model diverged."""
    original, unlearned, *_ = [*models(run), None]
    if run.method.identity or original.weights is None or unlearned.weights is None:
        return None
    from unrelearn.diffusion.weights import compare

    schedule = run.cfg.model.schedule
    assert schedule is not None
    networks = [model.stage.network() for model in (original, unlearned)]
    return compare(*networks, run.forget, schedule.num_train_timesteps)
