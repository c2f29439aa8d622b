"""What a record says of the models of a run, a row each."""

import json
from typing import Any


def rows_of(evaluations: list[Any]) -> list[dict[str, Any]]:
    """Of stages that measure a `model` by what they have `seen` of it."""
    rows = [_row(evaluation) for evaluation in evaluations]
    if evaluations[0].run.method.identity:
        # the unlearned model is the original one, and has a row of its own
        rows.insert(1, {**rows[0], "model": "unlearned"})
    return rows


def _row(evaluation: Any) -> dict[str, Any]:
    """What is known of one of the models."""
    run, model = evaluation.run, evaluation.model
    names = {0: "original", 1: "unlearned", 2: "attacked"}
    stage, depth = model.stage, 0
    while stage.start is not None:
        stage, depth = stage.start, depth + 1
    if (run.method.identity and depth) or (run.method.elsewhere and not run.original_known):
        depth += 1
    weights = model.weights
    row: dict[str, Any] = {
        "model": names[depth],
        "step": model.step,
        "metrics": {},
        "status": "diverged",
        "evaluate": None,
        evaluation.seen.name: None,
        "weights": model.stage.id + (f" ({weights.name})" if weights else ""),
    }
    if weights is None:
        return row
    seen, evaluated = evaluation.seen.build(), evaluation.build()
    return row | {
        "status": "finished",
        evaluation.seen.name: seen.path.relative_to(run.outputs).as_posix(),
        "evaluate": evaluation.id,
        **{name: f"artifacts/{stage.id}" for name, stage in evaluation.kept.items()},
        "metrics": json.loads((evaluated.path / "metrics.json").read_text()),
    }
