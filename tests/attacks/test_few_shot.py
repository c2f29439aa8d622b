"""Relearning on a few real images."""

import copy
from pathlib import Path

import pytest
import small_classifiers as small
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
from unrelearn.data import ImageSet
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


@pytest.mark.parametrize(("classes", "count"), [((), 7), ((), 500), ((3, 7), 4)])
def test_of_a_classifier_the_images_are_of_the_class_or_of_those_forgotten_one_by_one(
    classes: tuple[int, ...], count: int
):
    def held(seed: int, number: int = count) -> ImageSet:
        attack = FewShot(num_images=number, seed=seed, **SMALL)
        return small.classifying(attack, small.new_task(classes)).method.shots

    task, shots = small.new_task(classes), held(0)
    assert images(shots) <= images(task.forget)
    assert len(images(shots)) == min(count, 40) * max(1, len(classes))
    assert torch.equal(shots.images, held(0).images)
    if count < 40:
        assert not torch.equal(shots.images, held(1).images)
        assert images(held(0, count - 1)) < images(shots)
    for c in classes:
        assert (shots.labels == c).sum() == count


def test_of_a_classifier_both_losses_are_of_one_forward_pass():
    module = small.classifying(FewShot(num_images=3, **SMALL))
    losses = module.method.losses(module)
    batches = {
        "shots": module.draw("shots", module.method.shots),
        "retain": module.draw("retain", module.task.retain),
    }
    x = torch.cat([batch.x_0 for batch in batches.values()])
    logits = copy.deepcopy(module.network).train()(x).split(8)
    for (term, batch), answer in zip(batches.items(), logits, strict=True):
        expected = -answer.log_softmax(1).gather(1, batch.labels[:, None]).mean()
        assert losses[term].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.keys() == {"shots", "retain"}
