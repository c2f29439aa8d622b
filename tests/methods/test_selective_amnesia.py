"""Selective Amnesia: noise, replay, and the pull to the original weights."""

from pathlib import Path

import pytest
import tiny
import torch
from formulas import at_step, gradients, mean_squared_error
from makers import amnesia
from tiny import from_yaml, network, new_task, train, weights
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.denoising import Denoising
from unrelearn.diffusion.sampling import sample
from unrelearn.randomness import generator_for


def test_selective_amnesia_is_noise_plus_replay_plus_the_pull_to_the_original_weights():
    module = amnesia(replay_weight=0.7, elastic_weight=3.0)
    start = weights(module)
    module.prepare()
    assert module.method.losses(module)["elastic"].item() == 0
    information = module.fisher(ImageSet(*everything(module)))
    with torch.no_grad():
        for k, p in enumerate(module.network.parameters()):
            p += 1e-3 * (k % 3)
    losses = module.method.losses(module)
    pull = sum(
        (information[name] * (p - start[name]) ** 2).sum()
        for name, p in module.network.named_parameters()
        if name != CLASS_EMBEDDING
    )
    assert pull > 0 and losses["elastic"].item() == pytest.approx(
        3.0 * 64 * 1000 * pull.item(), rel=1e-4
    )
    forget = module.draw("forget", module.method.conditions, label_dropout=0.0)
    forget.x_0 = (
        2 * torch.rand((8, 1, 8, 8), generator=generator_for(0, "unlearn", "uniform", 0)) - 1
    )
    retain = module.draw("retain", module.method.replay)
    assert forget.labels.tolist() == [7] * 8 and 7 not in retain.labels
    assert losses["forget"].item() == pytest.approx(
        mean_squared_error(module, forget).item(), rel=1e-5
    )
    assert losses["retain"].item() == pytest.approx(
        0.7 * mean_squared_error(module, retain).item(), rel=1e-5
    )
    expected = (
        mean_squared_error(module, forget)
        + 0.7 * mean_squared_error(module, retain)
        + 3.0 * 64 * 1000 * pull
    )
    torch.testing.assert_close(
        gradients(module, sum(losses.values())), gradients(module, expected), rtol=1e-3, atol=1e-4
    )


def everything(module: Denoising) -> tuple[Tensor, Tensor]:
    """A quarter of 12 images of each class, drawn by the original model."""
    labels = torch.arange(10).repeat_interleave(3)
    return (
        sample(
            network(), labels, schedule=tiny.SCHEDULE, guidance_scale=1.0, seed=0, stream="replay"
        ),
        labels,
    )


def test_selective_amnesia_reads_no_real_image():
    task = new_task((3, 7))
    for part in (task.forget, task.retain):
        part.images.fill_(0)
    module, images, labels = amnesia(task), *everything(amnesia())
    module.prepare()
    kept = (labels != 3) & (labels != 7)
    assert torch.equal(module.method.replay.images, images[kept]) and torch.equal(
        module.method.replay.labels, labels[kept]
    )


def test_each_step_has_its_own_noise_of_which_each_pass_takes_its_part():
    module, seen = amnesia(batch_size=12), []
    module.prepare()
    module.losses = lambda **batches: (
        seen.append(batches["forget"].x_0) or dict.fromkeys(batches, torch.zeros(()))
    )
    module.method.losses(module)
    module.accumulate = 3
    for module.micro in range(3):
        module.method.losses(module)
    module.accumulate, module.micro = 1, 0
    at_step(module, 1, lambda: module.method.losses(module))
    assert torch.equal(torch.cat(seen[1:4]), seen[0]) and not torch.isin(seen[4], seen[0]).any()
    assert seen[0].min() >= -1 and seen[0].max() <= 1
    assert seen[0].mean().abs() < 0.1 and seen[0].var().item() == pytest.approx(1 / 3, abs=0.05)


def test_what_matters_is_held_on_to(tmp_path: Path):
    def distance(elastic_weight: float) -> float:
        module = amnesia(elastic_weight=elastic_weight, max_steps=20)
        train(module, tmp_path / str(elastic_weight))
        return sum((f * (p - start).square()).sum().item() for p, start, f in module.method.anchors)

    assert distance(1e3) < 0.5 * distance(0.0)


def test_the_control_without_the_elastic_term_is_the_loss_of_the_other_two(compose, tmp_path: Path):
    free = from_yaml(
        compose,
        "method",
        "selective_amnesia",
        "method.elastic_weight=0",
        "method.fisher_samples=10",
    )(new_task())
    assert all(row["elastic"] == 0 and row["forget"] > 0 for row in train(free, tmp_path).rows)
