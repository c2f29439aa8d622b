"""DiMUM cover: which images stand under c_f, what they are to be answered with, and that it joins
the two methods at its ends.
"""

from pathlib import Path

import pytest
import torch
from tiny import denoising, moved, new_oracle, new_task, train, weights

from unrelearn.diffusion import maths
from unrelearn.diffusion.denoising import Denoising
from unrelearn.diffusion.memory import nearest_class
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.dimum_cover import DiMUMCover
from unrelearn.objectives import random_labels

SMALL = dict(memory="another_class", max_steps=3, batch_size=10, learning_rate=1e-3)


def cover(share: float, task=None, **changes) -> Denoising:
    module = denoising(
        DiMUMCover(forgotten_share=share, **{**SMALL, **changes}), task or new_task(dropout=0.0)
    )
    module.prepare()
    return module


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 5), (0.25, 2), (1.0, 10)])
def test_the_share_of_forgotten_images_is_spread_evenly_over_the_batch(share: float, count: int):
    forgotten = cover(share).method.forgotten
    assert len(forgotten) == 10 and forgotten.sum() == count
    assert all(abs(int(forgotten[:n].sum()) - share * n) < 1 for n in range(1, 11))


def test_without_forgotten_images_it_is_dimum_to_the_bit(tmp_path: Path):
    plain, ours = denoising(DiMUM(**SMALL), new_task()), cover(0.0)
    train(plain, tmp_path / "plain"), train(ours, tmp_path / "cover")
    assert not moved(weights(plain), weights(ours)) and plain.rows == ours.rows


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_with_forgotten_images_alone_its_term_is_that_of_random_labels(alpha: float | None):
    compared = dict(divergence_alpha=alpha, divergence_scale=0.01)
    module = cover(1.0, memory_weight=2.0, **compared)
    ours, theirs = module.method.losses(module), random_labels(cover(1.0, **compared), 1.0)
    assert ours["memory"].item() == pytest.approx(2.0 * theirs["forget"].item(), rel=1e-5)
    assert ours["retain"].item() == pytest.approx(theirs["retain"].item(), rel=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_each_image_under_the_condition_has_the_answer_of_the_replacement(prediction_type: str):
    module = cover(0.5, new_task(prediction_type=prediction_type))
    memory = module.draw("memory", module.method.memory_data, label_dropout=0.0)
    forget = module.draw("forget", module.task.forget, label_dropout=0.0)
    errors = []
    for k in range(10):  # one image at a time
        batch = forget if k in (1, 3, 5, 7, 9) else memory
        t, x_0, noise = batch.t[k : k + 1], batch.x_0[k : k + 1], batch.noise[k : k + 1]
        x_t = maths.add_noise(x_0, noise, t, module.alphas_cumprod)
        answer, under_8 = (
            module.network(x_t, t, class_labels=torch.tensor([c])).sample for c in (7, 8)
        )
        wanted = (
            under_8
            if batch is forget
            else maths.target(x_0, noise, t, module.alphas_cumprod, prediction_type)
        )
        errors.append((answer - wanted).square().mean())
    losses = module.method.losses(module)
    assert losses["memory"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)
    # nothing goes back through the target
    module.network.zero_grad()
    losses["memory"].backward()
    pulled = torch.stack(errors[0:10:2]).sum() / 10
    for k in (1, 3, 5, 7, 9):
        t, x_0, noise = forget.t[k : k + 1], forget.x_0[k : k + 1], forget.noise[k : k + 1]
        x_t = maths.add_noise(x_0, noise, t, module.alphas_cumprod)
        answer, under_8 = (
            module.network(x_t, t, class_labels=torch.tensor([c])).sample for c in (7, 8)
        )
        pulled = pulled + (answer - under_8.detach()).square().mean() / 10
    parameters = [p for p in module.network.parameters() if p.requires_grad]
    for parameter, gradient in zip(
        parameters, torch.autograd.grad(pulled, parameters), strict=True
    ):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_the_answers_are_those_of_the_class_that_the_memory_is_of():
    assert cover(0.5, memory_class=2).method.stands_in[7] == 2
    task = new_task(oracle=new_oracle())
    assert cover(0.5, task, memory="nearest_class").method.stands_in[7] == nearest_class(task, 7)
    assert cover(0.5, new_task((3, 4))).method.stands_in.tolist() == [0, 1, 2, 5, 5, 5, 6, 7, 8, 9]


def test_the_forgotten_images_of_a_global_batch_are_the_same_in_passes(tmp_path: Path):
    whole, parts = cover(0.5, batch_size=12), cover(0.5, batch_size=12)
    train(whole, tmp_path / "whole"), train(parts, tmp_path / "parts", batch_size_per_device=4)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=0, atol=1e-4)
