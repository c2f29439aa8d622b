"""Training on the retain set alone."""

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

from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.methods.finetune import Finetune

SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


@pytest.mark.parametrize("name", ["finetune", "retrain"])
def test_training_on_retain_data_never_moves_the_row_of_a_forgotten_class(
    name: str, compose, tmp_path: Path
):
    make = from_yaml(compose, "method", name, "train_class_embedding=true", batch_size=64)
    module = make(new_task((3, 7)))
    before = weights(module)[CLASS_EMBEDDING]
    train(module, tmp_path)
    after = module.network.class_embedding.weight
    assert [c for c in range(11) if torch.equal(before[c], after[c])] == [3, 7]


def test_retrain_starts_from_the_same_random_weights_as_pretraining(compose):
    task = new_task(seed=4)
    module = from_yaml(compose, "method", "retrain")(task)
    assert not moved(network(4).state_dict(), weights(module))


def test_finetuning_is_the_denoising_loss_of_the_retain_set():
    module = denoising(Finetune(**SMALL), new_task())
    loss = module.method.losses(module)["retain"].item()
    assert loss == pytest.approx(
        mean_squared_error(module, module.draw("retain", module.task.retain)).item(), rel=1e-5
    )
