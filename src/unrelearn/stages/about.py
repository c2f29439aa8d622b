"""What the record of a run of denoisers says besides the rows of its models."""

import json
from typing import Any

from unrelearn.config.kinds import left_out, options
from unrelearn.run import Run
from unrelearn.stages.classifier import Oracle
from unrelearn.stages.imported import GivenWeights, Imported
from unrelearn.stages.train import Model


def about_denoisers(run: Run, models: list[Model]) -> dict[str, Any]:
    """models: in the order of the table."""
    known: dict[str, Any] = {"oracle": _classifiers(run), "weights": weight_changes(run, models)}
    if run.kind.paraphrases:
        known["paraphrases"] = {str(k): text for k, text in run.kind.paraphrases.items()}
    if searched := prompts(models):
        known["prompts"] = searched
    if run.kind.before:
        known["forgotten_before"] = run.kind.before
    if run.kind.by_image:
        known["forgotten"] = run.kind.asked
    return {**known, "given": given(run, models)} if run.method.elsewhere else known


def prompts(models: list[Model]) -> dict[str, str]:
    """Step -> the words that a search put in the place of the forgotten one."""
    words = {}
    for model in models:
        if model.step is not None and model.weights is not None:
            file = model.weights.parent / "prompt.json"
            if file.is_file():
                words[f"{model.step:g}"] = json.loads(file.read_text())["in_place"]
    return words


def given(run: Run, models: list[Model]) -> dict[str, Any]:
    """What was audited and by whom: hashes of all that was given, what the attacker holds, and the
    attacks that could not be run.
    """
    unlearned = next(m.stage for m in models if isinstance(m.stage, GivenWeights))
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


def weight_changes(run: Run, models: list[Model]) -> dict[str, Any] | None:
    """What the method did to the weights; None where it did nothing, a model diverged, or nobody
    has the original.
    """
    if run.method.identity or not run.original_known:
        return None
    original, unlearned, *_ = models
    if original.weights is None or unlearned.weights is None:
        return None
    from unrelearn.diffusion.weights import compare

    schedule = run.cfg.model.schedule
    assert schedule is not None
    networks = [model.stage.network() for model in (original, unlearned)]
    return compare(*networks, run.forget, schedule.num_train_timesteps)
