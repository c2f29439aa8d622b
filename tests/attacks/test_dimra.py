"""DiMRA: the share of the retain set that it holds, and its loss."""

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

from unrelearn.attacks.dimra import DiMRA
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING

SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


def test_by_default_dimra_may_not_move_the_class_table_and_few_shot_may(compose):
    assert compose("attack=dimra")["attack"]["train_class_embedding"] is False
    assert compose("attack=few_shot")["attack"]["train_class_embedding"] is True


def test_dimra_never_moves_the_row_of_a_forgotten_class(compose, tmp_path: Path):
    make = from_yaml(compose, "attack", "dimra", "train_class_embedding=true", batch_size=64)
    module = make(new_task((3, 7)))
    before = weights(module)[CLASS_EMBEDDING]
    train(module, tmp_path)
    after = module.network.class_embedding.weight
    assert [c for c in range(11) if torch.equal(before[c], after[c])] == [3, 7]


@pytest.mark.parametrize(("fraction", "count"), [(1.0, 108), (0.5, 54), (0.1, 11), (1e-9, 1)])
def test_dimra_holds_the_asked_share_of_the_retain_set_and_nothing_of_the_class(
    fraction: float, count: int
):
    module, again = (
        denoising(DiMRA(retain_fraction=fraction, **SMALL), new_task()) for _ in range(2)
    )
    assert (
        len(module.method.auxiliary) == count == len(images(module.method.auxiliary))
        and 7 not in module.method.auxiliary.labels
    )
    assert torch.equal(module.method.auxiliary.images, again.method.auxiliary.images)
    assert images(module.method.auxiliary) <= images(module.task.retain)
    assert not images(module.method.auxiliary) & images(module.task.forget)
    retain = module.task.retain
    label_of = {
        bytes(i): c for i, c in zip(retain.images.numpy(), retain.labels.tolist(), strict=True)
    }
    assert [
        label_of[bytes(i)] for i in module.method.auxiliary.images.numpy()
    ] == module.method.auxiliary.labels.tolist()


def test_a_smaller_share_of_dimra_is_part_of_a_larger_one_and_depends_on_the_seed():
    held = [
        images(denoising(DiMRA(retain_fraction=f, **SMALL), new_task()).method.auxiliary)
        for f in (0.1, 0.3, 0.6)
    ]
    assert held[0] < held[1] < held[2]
    assert (
        images(denoising(DiMRA(retain_fraction=0.1, **SMALL), new_task(seed=1)).method.auxiliary)
        != held[0]
    )


def test_dimra_trains_on_the_images_it_holds_and_on_no_others(tmp_path: Path):
    module = denoising(DiMRA(retain_fraction=0.05, **SMALL | {"batch_size": 64}), new_task())
    module.losses = lambda **batches: (
        seen.append(batches) or {name: torch.zeros(()) for name in batches}
    )
    seen = []
    module.method.losses(module)
    x_0 = ((seen[0]["auxiliary"].x_0 + 1) * 127.5).round().to(torch.uint8)
    assert (
        set(map(bytes, x_0.numpy())) == images(module.method.auxiliary)
        and len(module.method.auxiliary) == 5
    )


def test_the_loss_of_dimra_is_the_denoising_loss_of_its_data():
    module = denoising(DiMRA(label_dropout=0.4, **SMALL), new_task())
    losses, batch = module.method.losses(module), module.draw("auxiliary", module.method.auxiliary)
    assert 10 in batch.labels and losses.keys() == {"auxiliary"}
    assert losses["auxiliary"].item() == pytest.approx(
        mean_squared_error(module, batch).item(), rel=1e-5
    )
