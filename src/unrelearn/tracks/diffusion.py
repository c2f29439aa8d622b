"""The stages of a run of a class-conditional diffusion model."""

import json
from typing import Any

from unrelearn.config.kinds import left_out, options
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.classifier import Oracle
from unrelearn.stages.generate import Samples
from unrelearn.stages.imported import GivenWeights, Import, Imported
from unrelearn.stages.latents import ImportStable
from unrelearn.stages.measure import Evaluate
from unrelearn.stages.rows import rows_of
from unrelearn.stages.train import Attack, Model, Pretrain, Unlearn, attacked, chain

STAGES = tuple(  # that can be left out
    stage.name for stage in (Pretrain, Oracle, Unlearn, Attack, Samples, Evaluate)
)


def models(run: Run) -> list[Model]:
    reader = Import if run.cfg.model.latent is None else ImportStable
    imported = reader(run) if run.cfg.model.checkpoint is not None else None
    if run.method.elsewhere:
        unlearned = GivenWeights(run, imported)
        return [*([Model(imported)] if imported else []), Model(unlearned), *attacked(unlearned)]
    whole = chain(imported or Pretrain(run))
    # where the checkpoint is a model under audit, only its network is taken
    return whole if run.original_known else whole[1:]


def evaluations(run: Run) -> list[Evaluate]:
    return [Evaluate(run, Samples(run, model)) for model in models(run)]


def rows(run: Run) -> list[dict[str, Any]]:
    return rows_of(evaluations(run))


def targets(run: Run) -> list[Stage]:
    asked, measured = set(run.cfg.stages), models(run)
    classifiers: list[Stage] = [Oracle(run, role) for role in Oracle.ROLES]
    if Evaluate.name in asked:
        # what is wrong with weights from elsewhere is said before classifiers are trained
        first: list[Stage] = [m.stage for m in measured if isinstance(m.stage, GivenWeights)]
        return [*first, *evaluations(run)]
    wanted = classifiers if Oracle.name in asked else []
    if Samples.name in asked:
        return [*wanted, *(Samples(run, model) for model in measured)]
    order = [Pretrain.name, Unlearn.name, Attack.name]
    depths = [order.index(name) for name in asked if name in order]
    trained = [m.stage for m in measured if depths and order.index(m.stage.name) <= max(depths)]
    return [*wanted, *trained]


def about(run: Run) -> dict[str, Any]:
    known = {"oracle": _classifiers(run), "weights": weight_changes(run)}
    if run.kind.by_image:
        known["forgotten"] = {"forget": str(run.cfg.forget), "forget_seed": run.cfg.forget_seed}
    return {**known, "given": given(run)} if run.method.elsewhere else known


def given(run: Run) -> dict[str, Any]:
    """What was audited and by whom: hashes of all that was given, what the attacker holds, and the
    attacks that could not be run.
    """
    unlearned = next(m.stage for m in models(run) if isinstance(m.stage, GivenWeights))
    parts = [unlearned, *([unlearned.start] if unlearned.start else [])]
    original = run.attack.needs_original(run.settings["attack"])
    return {
        "files": {part.setting: part.hashes() for part in parts if isinstance(part, Imported)},
        "images": run.data_slice.get("content"),
        "weights": unlearned.build().meta["taken"],
        "attacker_needs_original": original,
        "attacks": sorted(options("attack", run.kind.batches)),
        "left_out": left_out(
            run.kind.batches, by_class=bool(run.forget), original=run.original_known
        ),
    }


def _classifiers(run: Run) -> dict[str, float]:
    names = dict(zip(Oracle.ROLES, ("test_accuracy", "held_out_test_accuracy"), strict=True))
    accuracies = {}
    for role, name in names.items():
        metrics = Oracle(run, role).build().path / "metrics.json"
        accuracies[name] = json.loads(metrics.read_text())["test_accuracy"]
    return accuracies


def weight_changes(run: Run) -> dict[str, Any] | None:
    """What the method did to the weights; None where it did nothing, a model diverged, or nobody
    has the original.
    """
    if run.method.identity or not run.original_known:
        return None
    original, unlearned, *_ = models(run)
    if original.weights is None or unlearned.weights is None:
        return None
    from unrelearn.diffusion.weights import compare

    schedule = run.cfg.model.schedule
    assert schedule is not None
    networks = [model.stage.network() for model in (original, unlearned)]
    return compare(*networks, run.forget, schedule.num_train_timesteps)
