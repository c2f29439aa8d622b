"""Low-rank relearning."""

from pathlib import Path

import pytest
import torch
from tiny import (
    denoising,
    network,
    new_task,
    train,
)

from unrelearn.attacks.few_shot import FewShot
from unrelearn.attacks.lora import LoRA
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING

SMALL = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


@pytest.mark.parametrize("rank", [1, 3])
def test_what_low_rank_relearning_adds_has_that_rank_and_is_written_into_plain_weights(
    rank: int, tmp_path: Path
):
    before = network().state_dict()
    module = denoising(
        LoRA(
            rank=rank,
            scale=2.0,
            num_images=3,
            train_class_embedding=True,
            **SMALL | {"learning_rate": 1e-2},
        ),
        new_task(),
    )
    batch = module.draw("retain", module.task.retain)
    with torch.no_grad():
        at_first = module.network(batch.x_0, batch.t, class_labels=batch.labels).sample
        assert torch.equal(
            at_first, network()(batch.x_0, batch.t, class_labels=batch.labels).sample
        )  # B is zero
    train(module, tmp_path)
    module.save(tmp_path)
    written = denoiser.load(tmp_path / "raw")
    after = written.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        if name == CLASS_EMBEDDING or value.ndim < 2:
            assert torch.equal(value, after[name]) == (name != CLASS_EMBEDDING), name
        else:
            singular = torch.linalg.svdvals((after[name] - value).flatten(1).double())
            assert singular[0] > 1e-3 and (singular[rank:] < 1e-5 * singular[0]).all(), name
    module.network.eval()
    with torch.no_grad():
        learned, plain = (
            n(batch.x_0, batch.t, class_labels=batch.labels).sample
            for n in (module.network, written)
        )
    torch.testing.assert_close(plain, learned)
    assert not torch.allclose(plain, at_first, atol=1e-3)


def test_low_rank_relearning_has_the_data_of_few_shot_or_without_its_images_those_of_dimra():
    module, blind = (denoising(LoRA(rank=2, num_images=n, **SMALL), new_task()) for n in (4, None))
    assert torch.equal(
        module.method.shots.images,
        denoising(FewShot(num_images=4, **SMALL), new_task()).method.shots.images,
    )
    assert module.method.losses(module).keys() == {"shots", "retain"} and blind.method.losses(
        blind
    ).keys() == {"retain"}


def test_low_rank_relearning_leaves_frozen_blocks_alone():
    module = denoising(LoRA(rank=2, blocks=["up_blocks"], **SMALL), new_task())
    trained = [name for name, p in module.network.named_parameters() if p.requires_grad]
    assert trained and all(
        name.startswith("up_blocks") and name.endswith((".A", ".B")) for name in trained
    )
