"""The stages of a run of a class-conditional diffusion model."""

from typing import Any

from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.about import about_denoisers
from unrelearn.stages.classifier import Oracle
from unrelearn.stages.generate import Samples
from unrelearn.stages.imported import GivenWeights, Import
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
    return about_denoisers(run, models(run))
