"""The stages of a run of a classifier."""

from typing import Any

from unrelearn.config.classifiers import FIRST_HALF
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.rows import rows_of
from unrelearn.stages.score import Score
from unrelearn.stages.train import Attack, Model, Pretrain, Unlearn, chain

STAGES = (Pretrain.name, Unlearn.name, Attack.name, Score.name)  # that can be left out


def models(run: Run) -> list[Model]:
    return chain(Pretrain(run))


def evaluations(run: Run) -> list[Score]:
    return [Score(run, model) for model in models(run)]


def rows(run: Run) -> list[dict[str, Any]]:
    return rows_of(evaluations(run))


def targets(run: Run) -> list[Stage]:
    asked, measured = set(run.cfg.stages), models(run)
    if Score.name in asked:
        return list(evaluations(run))
    order = [Pretrain.name, Unlearn.name, Attack.name]
    depths = [order.index(name) for name in asked if name in order]
    return [m.stage for m in measured if depths and order.index(m.stage.name) <= max(depths)]


def about(run: Run) -> dict[str, Any]:
    kept = run.kind.asked
    if kept["forget"].startswith("memorised:"):  # which models say so decides which images
        kept |= {"halves": run.cfg.references.halves, "seeds": FIRST_HALF}
    return {"kind": "classification", "forgotten": kept}
