"""DiMRA on generated images."""

from pathlib import Path

import pytest
import torch
from formulas import mean_squared_error
from test_resume import assert_same, train_in_two_parts
from tiny import (
    SCHEDULE,
    denoising,
    network,
    new_task,
    train,
)

from unrelearn.attacks.dimra_aux import DiMRAAux
from unrelearn.diffusion.denoising import Denoising
from unrelearn.diffusion.sampling import sample

SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


@pytest.mark.parametrize(("source", "seed"), [("unlearned", 0), ("original", 5)])
def test_auxiliary_images_are_what_the_named_model_draws_for_the_retained_classes(
    source: str, seed: int
):
    module = denoising(
        DiMRAAux(
            source=source,
            images_per_class=2,
            guidance_scale=2.0,
            num_inference_steps=3,
            **SMALL,
        ),
        new_task((3, 7)),
    )
    module.prepare()
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 4, 4, 5, 5, 6, 6, 8, 8, 9, 9])
    drawn = sample(
        network(seed),
        labels,
        schedule=SCHEDULE,
        num_inference_steps=3,
        guidance_scale=2.0,
        stream="attacker's data",
    )
    assert torch.equal(module.method.auxiliary.labels, labels) and torch.equal(
        module.method.auxiliary.images, drawn
    )
    losses, batch = module.method.losses(module), module.draw("auxiliary", module.method.auxiliary)
    assert losses["auxiliary"].item() == pytest.approx(
        mean_squared_error(module, batch).item(), rel=1e-5
    )


def test_a_resumed_attack_draws_its_images_with_the_weights_it_started_from(tmp_path: Path):
    def make() -> Denoising:
        return denoising(
            DiMRAAux(
                source="unlearned",
                images_per_class=3,
                **SMALL | {"budgets": [9], "learning_rate": 1e-2},
            ),
            new_task(),
        )

    whole, parts = (
        train(make(), tmp_path / "whole"),
        train_in_two_parts(make, tmp_path / "parts", 8),
    )
    assert torch.equal(whole.method.auxiliary.images, parts.method.auxiliary.images)
    assert_same(whole, parts)
