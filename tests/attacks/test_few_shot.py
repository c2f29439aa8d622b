"""Relearning on a few real images."""

from pathlib import Path

import pytest
import torch
from formulas import images, mean_squared_error
from tiny import (
    denoising,
    from_yaml,
    new_task,
    train,
    weights,
)

from unrelearn.attacks.few_shot import FewShot
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING

SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


def test_few_shot_moves_the_row_of_every_forgotten_class(compose, tmp_path: Path):
    module = from_yaml(compose, "attack", "few_shot")(new_task((3, 7)))
    before = weights(module)[CLASS_EMBEDDING]
    train(module, tmp_path)
    after = module.network.class_embedding.weight
    assert not any(torch.equal(before[c], after[c]) for c in (3, 7))


@pytest.mark.parametrize(
    ("forget", "num_images"), [((7,), 1), ((7,), 5), ((3, 7), 4), ((3, 7), 50)]
)
def test_few_shot_holds_so_many_images_of_each_forgotten_class_with_their_label(forget, num_images):
    module, again = (
        denoising(FewShot(num_images=num_images, **SMALL), new_task(forget)) for _ in range(2)
    )
    each = min(num_images, 12)
    assert module.method.shots.labels.tolist() == [c for c in forget for _ in range(each)]
    assert torch.equal(module.method.shots.images, again.method.shots.images)
    for c in forget:
        assert images(module.method.shots.of_classes([c])) <= images(
            module.task.forget.of_classes([c])
        )
        assert len(images(module.method.shots.of_classes([c]))) == each


def test_the_loss_of_few_shot_is_the_sum_of_both_denoising_losses():
    module = denoising(FewShot(num_images=3, **SMALL), new_task())
    losses = module.method.losses(module)
    for term, data in (("shots", module.method.shots), ("retain", module.task.retain)):
        expected = mean_squared_error(module, module.draw(term, data))
        assert losses[term].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.keys() == {"shots", "retain"}
