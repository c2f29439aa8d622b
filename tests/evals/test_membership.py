"""Membership on the diffusion track: what is held out, what is forgotten image by image, and what
is measured of both.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from runs import Cell, execute
from test_membership_script import membership as script
from torch import Tensor

from unrelearn import tracks
from unrelearn.data.splits import Examples, forget_indexes
from unrelearn.diffusion import maths
from unrelearn.diffusion.records import record_scores
from unrelearn.errors import UsageError
from unrelearn.evals import membership
from unrelearn.evals.evidence import Evidence, Predictions, Records
from unrelearn.stage import walk
from unrelearn.stages.images import images
from unrelearn.stages.records import RecordScores, retrained

HALF = ("held_out.share=0.5", "eval=[membership]")
DATA = ("forget=random:0.1", "method=siss")


# -------------------------------------------------------------------------- the data and the graph


def test_what_is_held_out_is_in_no_set_that_any_model_is_trained_on(compose: Callable):
    run = Cell(compose(*HALF, *DATA))
    data, everything = images(run), run.dataset.load().train
    assert data.validation is not None and len(data.validation) == 646  # halves of classes
    rows = {tuple(image.flatten().tolist()) for image in data.validation.images}
    forget, retain = run.kind.split(data)
    original = run.task(None)
    assert len(forget) + len(retain) == len(original.retain) == len(everything) - 646
    for part in (forget, retain, original.retain, original.forget):
        assert not rows & {tuple(image.flatten().tolist()) for image in part.images}


def test_what_holds_out_nothing_to_tell_from_is_refused_before_a_training(compose: Callable):
    with pytest.raises(UsageError, match=r"held_out.share=0.001: of no class.*share=0.5"):
        images(Cell(compose("held_out.share=0.001", "method=siss")))
    run = Cell(compose(*HALF))
    data = run.dataset.load()
    first = torch.where(data.train.labels == 7)[0][0]
    kept = (data.train.labels != 7) | (torch.arange(len(data.train)) == first)
    with pytest.raises(UsageError, match="no image of the classes that are forgotten"):
        run.kind.divided(replace(data, train=data.train.where(kept)))


def test_images_are_drawn_as_the_classification_track_draws_them(compose: Callable):
    run = Cell(compose(*HALF, *DATA))
    data = images(run)
    chosen = torch.where(run.kind.mask(data))[0]
    assert run.forget == [] and len(chosen) == round(0.1 * len(data.train))
    examples = Examples(data.train.labels, data.class_names)
    assert torch.equal(chosen, forget_indexes("random:0.1", examples, 0))
    other = Cell(compose(*HALF, *DATA, "forget_seed=1"))
    assert not torch.equal(other.kind.mask(data), run.kind.mask(data))


def test_a_class_by_its_word_is_the_class_itself(compose: Callable):
    word, index = (Cell(compose(*HALF, f"forget={value}")) for value in ("class:7", "7"))
    assert [s.key for s in word.stages()] == [s.key for s in index.stages()]


def test_nothing_is_drawn_under_no_class(compose: Callable):
    run = Cell(compose(*HALF, *DATA))
    jobs = run.samples(run.unlearned).jobs()
    assert {job.stream for job in jobs} == {"retain"}
    assert set(jobs[0].labels.tolist()) == set(range(10))


def test_the_retrained_model_beside_is_that_of_the_run_of_retrain(compose: Callable):
    ours = Cell(compose(*HALF, *DATA, "attack=dimra"))
    theirs = Cell(compose(*HALF, "forget=random:0.1", "method=retrain", "attack=none"))
    assert retrained(ours).key == RecordScores(theirs, theirs.unlearned).key
    assert retrained(theirs).key == retrained(ours).key
    keys = {stage.key for stage in ours.stages()}
    assert {stage.key for stage in walk([RecordScores(theirs, theirs.unlearned)])} <= keys


def test_keys_know_what_is_held_out_and_nothing_else_moves(compose: Callable):
    def keys(*words: str) -> list[str]:
        run = Cell(compose("eval=[entropy]", *words))
        return [model.stage.key for model in tracks.models(run)]

    assert keys() == keys("held_out.seed=4")  # of nothing
    assert len({*keys("held_out.share=0.5"), *keys("held_out.share=0.5", "held_out.seed=4")}) == 6
    reference = [Cell(compose(*words)).reference.key for words in ((), HALF)]
    assert reference[0] == reference[1]  # classifiers that measure see what no model may


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "words, line",
    [
        (("eval=[membership]",), "eval.membership: needs images .* Type held_out.share=0.5"),
        ((*HALF, "eval.membership.scores=[]"), "scores=\\[\\]: must be one or more, each once"),
        ((*HALF, "eval.membership.scores=[loss,loss]"), "Type 'eval.membership.scores=.loss.'"),
        (("held_out.share=1",), "held_out.share=1.0: must be between 0 and 0.9"),
        (("forget=random:0.1",), "method=dimum: is about a forgotten class"),
        ((*HALF, "method=siss", "forget=random:7"), "forget=random:7: must be a share"),
        ((*HALF, "method=siss", "forget=memorised:0.1"), "forget=memorised:0.1: is said by many"),
        ((*HALF, "method=siss", "forget=file:/no.npy"), "forget=file:/no.npy: no such file"),
        (("experiment=classification", "held_out.share=0.5"), "held_out.share=0.5: is of denoiser"),
    ],
)
def test_one_line_says_what_is_wrong(complaint: Callable, words: tuple[str, ...], line: str):
    said = complaint("attack=none", *words)
    assert len(said) == 1 and re.search(line, said[0]), said


# --------------------------------------------------------------------------------- record scores


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_scores_of_a_denoiser_are_its_own_losses_under_each_label(prediction_type: str):
    """Whatever the network predicts, it is told as noise; and labels matter."""
    from unrelearn.diffusion.denoiser import predict
    from unrelearn.randomness import generator_for

    data, network = tiny.digits(2), tiny.network().eval()
    schedule = tiny.SCHEDULE | {"prediction_type": prediction_type}
    found = record_scores(network, data, ["loss"], schedule)["loss"]
    x_0, t, abar = data.images / 127.5 - 1, torch.full((20,), 100), maths.alphas_of(schedule)
    errors: list[Tensor] = []
    with torch.no_grad():
        for number in range(8):
            noise = torch.randn(1, 8, 8, generator=generator_for("membership", number))
            x_t = maths.add_noise(x_0, noise.expand_as(x_0), t, abar)
            answer = predict(network, x_t, t, data.labels)
            told = maths.x_0_and_noise(answer, x_t, t, abar, prediction_type)[1]
            errors.append((told - noise).square().mean((1, 2, 3)))
    assert torch.allclose(found, -torch.stack(errors).mean(0), rtol=1e-4)
    relabelled = type(data)(data.images, (data.labels + 1) % 10)
    assert not torch.allclose(found, record_scores(network, relabelled, ["loss"], schedule)["loss"])


def test_scores_do_not_depend_on_which_records_are_scored_with_them():
    data, network, names = tiny.digits(3), tiny.network().eval(), ["loss", "secmi", "pia", "sima"]
    whole = record_scores(network, data, names, tiny.SCHEDULE)
    part = record_scores(network, data.take(torch.tensor([4, 9])), names, tiny.SCHEDULE)
    for name in names:
        assert whole[name].shape == (30,)
        assert torch.allclose(whole[name][[4, 9]], part[name], rtol=1e-4)


# ---------------------------------------------------------------------------------- measurement


def known_records(seed: int, n: int, known: float = 0.0) -> Records:
    """Of three classes, of which D_f is the first; `known`: how much higher members score."""
    rng = np.random.default_rng(seed)

    def part(labels: list[int], shift: float) -> dict[str, Tensor]:
        values = rng.normal(shift, 1, len(labels))
        return {"loss": torch.tensor(values).float(), "labels": torch.tensor(labels)}

    return Records(part([0] * n, known), part([1, 2] * n, 3.0), part([0, 1, 2] * n, 0.0))


def measured(ours: Records, theirs: Records) -> dict:
    nothing = Predictions(*[torch.zeros(0)] * 4)
    evidence = Evidence({}, {}, nothing, nothing, [0], 3, records=ours, retrained=theirs)
    return membership.run(evidence, ["loss"])["1.0"]


def test_a_model_that_forgot_is_as_the_retrained_one_and_one_that_knows_is_not():
    null = measured(known_records(0, 400), known_records(1, 400))
    assert null["loss"]["low"] < 0.5 < null["loss"]["high"] and null["loss"]["epsilon"] == 0
    assert null["loss_retain"]["value"] > 0.95  # the control
    knows = measured(known_records(0, 400, known=9), known_records(1, 400))
    assert knows["loss"]["value"] > 0.999 and knows["loss_retrain"] == null["loss_retrain"]
    assert knows["loss"]["epsilon"] == knows["loss"]["epsilon_ceiling"] > 4
    assert knows["loss_beside_retrain"]["value"] > 0.999


def test_a_record_that_is_less_likely_than_a_stranger_is_exposed_too():
    found = measured(known_records(0, 400, known=-9), known_records(1, 400))["loss"]
    assert found["value"] < 0.001 and found["tpr_at_1_percent"] == 0
    assert found["tpr_at_1_percent_low"] == 1 and found["epsilon"] == found["epsilon_ceiling"]


def test_no_epsilon_is_claimed_of_fewer_than_500_canaries():
    few, enough = (
        measured(known_records(0, n, 9), known_records(1, n))["loss"] for n in (310, 320)
    )
    assert few["canaries"] == 487 and few["epsilon"] is None and few["epsilon_ceiling"] > 3
    assert enough["canaries"] == 505 and enough["epsilon"] == enough["epsilon_ceiling"]


@pytest.mark.parametrize("n", [1, 2, 5, 300])
def test_canaries_are_images_taken_once_by_independent_flips(n: int):
    ours, theirs = np.arange(n, dtype=float), -1 - np.arange(n + 7, dtype=float)
    scores, inside = membership.canaries(ours, theirs)
    assert ((scores >= 0) == inside).all() and len(set(scores)) == len(scores)
    assert 2 <= len(scores) <= 2 * n


def test_the_retrained_model_has_nothing_beside_itself():
    same = known_records(0, 50)
    assert "loss_beside_retrain" not in measured(same, same)


def test_what_is_easy_to_all_is_cancelled_beside_retrain():
    """Records of very different difficulty, each a little better known to a model that saw it."""
    rng = np.random.default_rng(0)
    ours, theirs = known_records(0, 300), known_records(0, 300)
    for part in ("forget", "held_out"):
        own, other = getattr(ours, part)["loss"], getattr(theirs, part)["loss"]
        hard = torch.tensor(rng.normal(0, 20, len(own))).float()
        own += hard + (1.0 if part == "forget" else 0.0) + torch.randn(len(own)) * 0.1
        other += hard
    found = measured(ours, theirs)
    assert abs(found["loss"]["value"] - 0.5) < 0.1
    assert found["loss_beside_retrain"]["value"] > 0.99


def test_a_run_measures_all_its_models_beside_the_retrained_one(
    compose: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("unrelearn.stages.records.LARGEST", 40)
    settings = compose(
        *HALF,
        *DATA,
        "attack=dimra",
        *tiny.SMALL,
        "model.pretrain.max_steps=3",
        "unlearning.max_steps=2",
        "relearning.budgets=[1]",
        "oracle.max_steps=2",
        "sampler.images_per_retained_class=1",
        "sampler.num_inference_steps=2",
        "eval.membership.scores=[sima,pia]",
    )
    known = execute(settings, "test")
    assert known is not None
    rows = known["rows"]
    assert [row["model"] for row in rows] == ["original", "unlearned", "attacked"]
    for row in rows:
        found = row["metrics"]["membership"]["1.0"]
        assert {"sima", "pia", "pia_retrain", "sima_retain"} <= found.keys()
        assert 0 <= found["pia"]["low"] <= found["pia"]["value"] <= found["pia"]["high"] <= 1
        assert found["pia"]["n"] == found["pia"]["n_out"] == 40
    same = {row["metrics"]["membership"]["1.0"]["pia_retrain"]["value"] for row in rows}
    assert len(same) == 1
    assert (
        script.main([str(Path(settings["paths"]["outputs"]) / "runs"), "--out", str(tmp_path)]) == 0
    )
    table = (tmp_path / "membership.csv").read_text().splitlines()
    assert table[0].startswith("forgotten,method,model,score") and len(table) == 7
    assert table[1].startswith("random:0.1,original,original,sima,1,1,")
    assert table[2].startswith("random:0.1,SISS,unlearned,sima,1,1,")
    assert table[3].startswith("random:0.1,SISS,attacked @ 1 by DiMRA,sima,1,1,")
