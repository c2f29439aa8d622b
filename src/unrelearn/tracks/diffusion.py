"""The stages of a run of a class-conditional diffusion model."""

from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.classifier import Classifiers
from unrelearn.stages.generate import Samples
from unrelearn.stages.measure import Evaluate
from unrelearn.stages.train import Attack, Import, Model, Pretrain, Unlearn


def models(run: Run) -> list[Model]:
    """The models that are measured, each once: original, unlearned, attacked at each place."""
    original = Import(run) if run.cfg.model.checkpoint is not None else Pretrain(run)
    unlearned = original if run.method.identity else Unlearn(run, original)
    chain = [Model(original)]
    if unlearned is not original:
        chain.append(Model(unlearned))
    if not run.attack.identity:
        attack = Attack(run, unlearned)
        chain += [Model(attack, at) for at in attack.places]
    return chain


def evaluations(run: Run) -> list[Evaluate]:
    return [Evaluate(run, Samples(run, model)) for model in models(run)]


def targets(run: Run) -> list[Stage]:
    """What `stages` asks for, of which each needs others; all of a run if nothing is left out."""
    asked, chain = set(run.cfg.stages), models(run)
    classifiers: list[Stage] = [Classifiers(run, role) for role in Classifiers.ROLES]
    if Evaluate.name in asked:
        return list(evaluations(run))
    wanted = classifiers if Classifiers.name in asked else []
    if Samples.name in asked:
        return [*wanted, *(Samples(run, model) for model in chain)]
    order = [Pretrain.name, Unlearn.name, Attack.name]
    depths = [order.index(name) for name in asked if name in order]
    trained = [m.stage for m in chain if depths and order.index(m.stage.name) <= max(depths)]
    return [*wanted, *trained]
