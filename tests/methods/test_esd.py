"""ESD, and teachers: the original model guided away from a class."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from formulas import answer, flat_gradient, stepped
from makers import concept_ablation, esd
from test_resume import train_in_two_parts
from tiny import SCHEDULE, moved, new_task, train, weights

from unrelearn.data import ImageSet
from unrelearn.diffusion.maths import alphas_cumprod, target, x_0_and_noise

KINDS = ["epsilon", "v_prediction"]


@pytest.mark.parametrize("make", [esd, concept_ablation])
def test_the_teacher_is_the_original_model_to_the_bit_and_stays_so(make, tmp_path: Path):
    module = make(new_task(dropout=0.3))
    original = weights(module)
    train(module, tmp_path)
    assert not moved(original, module.method.teacher.network.state_dict()) and moved(
        original, weights(module)
    )
    assert not module.method.teacher.network.training and not any(
        p.requires_grad for p in module.method.teacher.network.parameters()
    )
    assert not any("teacher" in name for name in module.state_dict())  # nor is it saved


@pytest.mark.parametrize("make", [esd, concept_ablation])
def test_the_teacher_of_a_resumed_run_is_the_original_model(make, tmp_path: Path):
    whole = train(make(max_steps=9), tmp_path / "whole")
    parts = train_in_two_parts(lambda: make(max_steps=9), tmp_path / "parts", 8)
    assert not moved(
        whole.method.teacher.network.state_dict(), parts.method.teacher.network.state_dict()
    )
    assert not moved(weights(whole), weights(parts)) and whole.rows == parts.rows


@pytest.mark.parametrize(
    "make",
    [
        esd,
        lambda task: concept_ablation(task, anchor="generated", anchor_size=4, retain_weight=0.0),
    ],
)
def test_no_real_image_is_read_where_none_is_needed(make, tmp_path: Path):
    seen = []
    for name in ("real", "blank"):
        task = new_task()
        if name == "blank":
            task = replace(
                task,
                **{
                    part: ImageSet(torch.zeros_like(data.images), data.labels)
                    for part, data in (("forget", task.forget), ("retain", task.retain))
                },
            )
        seen.append(weights(train(make(task), tmp_path / name)))
    assert not moved(*seen)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_what_an_answer_says_of_x_t_is_what_the_target_was_made_from(kind: str):
    g = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn((2, 5, 1, 4, 4), generator=g)
    t, products = torch.tensor([0, 1, 300, 700, 999]), alphas_cumprod()
    scale = products[t].view(-1, 1, 1, 1)
    noisy = scale.sqrt() * x_0 + (1 - scale).sqrt() * noise
    found = x_0_and_noise(target(x_0, noise, t, products, kind), noisy, t, products, kind)
    torch.testing.assert_close(found[1], noise, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        found[0][:4], x_0[:4], rtol=1e-3, atol=1e-3
    )  # at T the signal is lost in rounding


@pytest.mark.parametrize("kind", KINDS)
def test_esd_denoises_each_image_to_its_own_time_as_diffusers_does_one_by_one(kind: str):
    module = stepped(esd(new_task(prediction_type=kind), num_inference_steps=5, batch_size=30))
    batch = module.draw("trajectory", module.method.blank, label_dropout=0.0)
    found, net = module.method.partly_denoised(module, batch), module.network
    scheduler = DDIMScheduler(**SCHEDULE | {"prediction_type": kind}, clip_sample=True)
    scheduler.set_timesteps(5)
    lengths = []
    for noise, t, image in zip(batch.noise, batch.t.tolist(), found, strict=True):
        x, way = noise[None], range(t + (999 - t) // 200 * 200, t, -200)
        for now in way:
            with torch.no_grad():
                conditional, unconditional = (
                    answer(net, x, torch.tensor([now]), label) for label in (7, 10)
                )
                output = unconditional + 3.0 * (conditional - unconditional)
            x = scheduler.step(output, now, x, eta=0.0).prev_sample
        torch.testing.assert_close(image, x[0], rtol=1e-3, atol=1e-3)
        lengths.append(len(way))
    assert {0, 4} <= set(lengths) <= set(range(5))


@pytest.mark.parametrize("kind", KINDS)
def test_esd_matches_the_original_guided_away_from_the_class(kind: str):
    module = stepped(esd(new_task((3, 7), prediction_type=kind)))
    original = new_task().network
    batch = module.draw("trajectory", module.method.blank, label_dropout=0.0)
    noisy = module.method.partly_denoised(module, batch)
    assert set(batch.labels.tolist()) == {3, 7}
    e_c, e_0 = (answer(original, noisy, batch.t, label).detach() for label in (batch.labels, 10))
    expected = (
        (answer(module.network, noisy, batch.t, batch.labels) - (e_0 - 1.5 * (e_c - e_0))) ** 2
    ).mean()
    loss = module.method.losses(module)
    assert loss.keys() == {"forget"} and loss["forget"].item() == pytest.approx(
        expected.item(), rel=1e-4
    )
    torch.testing.assert_close(
        flat_gradient(module.network, loss["forget"]),
        flat_gradient(module.network, expected),
        rtol=1e-3,
        atol=1e-6,
    )


def test_esd_draws_x_t_without_dropout_and_trains_with_it():
    module = stepped(esd(new_task(dropout=0.5)))
    module.network.train()
    batch = module.draw("trajectory", module.method.blank, label_dropout=0.0)
    assert (
        torch.equal(
            module.method.partly_denoised(module, batch),
            module.method.partly_denoised(module, batch),
        )
        and module.network.training
    )
    assert (
        module.method.losses(module)["forget"].item()
        != module.method.losses(module)["forget"].item()
    )
