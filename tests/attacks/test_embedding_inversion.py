"""Embedding inversion: one row is learned."""

from pathlib import Path

import pytest
import torch
from formulas import mean_squared_error
from tiny import (
    denoising,
    from_yaml,
    moved,
    network,
    new_task,
    train,
    weights,
)

from unrelearn.attacks.embedding_inversion import EmbeddingInversion
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING

SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


def test_embedding_inversion_moves_the_rows_of_the_forgotten_classes_and_no_other(
    compose, tmp_path: Path
):
    module = from_yaml(compose, "attack", "embedding_inversion", batch_size=32)(new_task((3, 7)))
    before = weights(module)
    train(module, tmp_path)
    assert moved(before, weights(module)) == {CLASS_EMBEDDING}
    after = module.network.class_embedding.weight
    assert [c for c in range(11) if not torch.equal(before[CLASS_EMBEDDING][c], after[c])] == [3, 7]


def test_embedding_inversion_starts_from_the_row_as_it_is_or_from_the_mean_of_the_retained_ones():
    table = network().class_embedding.weight
    for init, row in (("current", table[7]), ("mean", table[[0, 1, 2, 3, 4, 5, 6, 8, 9]].mean(0))):
        module = denoising(EmbeddingInversion(num_images=2, init=init, **SMALL), new_task())
        assert torch.equal(module.network.class_embedding.weight[7], row)
        assert torch.equal(module.network.class_embedding.weight[[0, 8, 10]], table[[0, 8, 10]])


def test_the_loss_of_embedding_inversion_is_the_denoising_loss_of_its_images():
    module = denoising(EmbeddingInversion(num_images=2, **SMALL), new_task())
    losses, batch = (
        module.method.losses(module),
        module.draw("shots", module.method.shots, label_dropout=0.0),
    )
    assert set(batch.labels.tolist()) == {7} and len(module.method.shots) == 2
    assert losses["shots"].item() == pytest.approx(
        mean_squared_error(module, batch).item(), rel=1e-5
    )
