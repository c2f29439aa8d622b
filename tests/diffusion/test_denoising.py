"""A batch of a denoiser: images with their labels, times, noise, flips and dropped labels."""

from pathlib import Path

import pytest
import torch
from tiny import (
    denoising,
    new_task,
    train,
)

from unrelearn.attacks.dimra import DiMRA
from unrelearn.data import ImageSet
from unrelearn.methods.finetune import Finetune
from unrelearn.task import Batch

SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


def test_a_draw_pairs_each_image_with_its_label():
    module = denoising(Finetune(**SMALL | {"batch_size": 64}), new_task())
    batch = module.draw("retain", module.task.retain, label_dropout=0.0)
    retain = module.task.retain
    label_of = {
        bytes(image): c
        for image, c in zip(retain.images.numpy(), retain.labels.tolist(), strict=True)
    }
    images = ((batch.x_0 + 1) * 127.5).round().to(torch.uint8).numpy()
    assert [label_of[bytes(image)] for image in images] == batch.labels.tolist()
    assert (
        batch.x_0.min() >= -1
        and batch.x_0.max() == 1
        and batch.t.min() >= 0
        and 900 < batch.t.max() < 1000
    )
    assert batch.noise.flatten(1).unique(dim=0).shape[0] == 64


def test_draws_differ_between_terms_steps_seeds_and_stages_but_not_between_calls():
    def first(module, term="retain"):
        return module.draw(term, module.task.retain).noise

    module = denoising(Finetune(**SMALL), new_task())
    noise = first(module)
    assert torch.equal(noise, first(module))
    others = [
        first(module, "memory"),
        first(denoising(Finetune(**SMALL), new_task(seed=1))),
        first(denoising(DiMRA(budgets=[3], batch_size=8, learning_rate=1e-3))),
    ]
    assert not any(torch.equal(noise, other) for other in others)


def test_noise_is_new_at_every_step(tmp_path: Path):
    drawn, module = [], denoising(Finetune(**SMALL))
    draw = module.draw

    def watched(term: str, data: ImageSet) -> Batch:
        drawn.append(draw(term, data).noise)
        return draw(term, data)

    module.draw = watched
    train(module, tmp_path)
    assert torch.stack(drawn).flatten(1).unique(dim=0).shape[0] == len(drawn) == 3


def test_the_asked_share_of_labels_is_dropped():
    module = denoising(Finetune(**SMALL | {"batch_size": 4000}, label_dropout=0.3), new_task())
    batch, whole = (module.draw("retain", module.task.retain, label_dropout=p) for p in (None, 0.0))
    dropped = batch.labels == 10
    assert dropped.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(batch.labels[~dropped], whole.labels[~dropped]) and (whole.labels < 10).all()
    shares = [dropped[whole.labels == c].float().mean().item() for c in module.task.retain_classes]
    assert min(shares) > 0.2 and max(shares) < 0.4


@pytest.mark.parametrize("flips", [False, True])
def test_half_of_the_images_are_mirrored_where_the_data_allow_it(flips: bool):
    module = denoising(Finetune(**SMALL | {"batch_size": 500}), new_task(horizontal_flip=flips))
    x_0 = (
        ((module.draw("retain", module.task.retain).x_0 + 1) * 127.5)
        .round()
        .to(torch.uint8)
        .numpy()
    )
    originals = set(map(bytes, module.task.retain.images.numpy()))
    share = sum(bytes(image) in originals for image in x_0) / 500
    assert share == pytest.approx(0.5, abs=0.1) if flips else share == 1.0
