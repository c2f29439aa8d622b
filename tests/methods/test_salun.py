"""SalUn: random labels on the salient weights."""

from pathlib import Path

from tiny import (
    denoising,
    new_task,
    train,
    weights,
)

from unrelearn.diffusion.denoising import Denoising
from unrelearn.methods.salun import SalUn

SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


def salun(
    *, dropout: float = 0.0, fraction: float = 0.5, forget=(7,), batch_size: int = 8
) -> Denoising:
    return denoising(
        SalUn(
            retain_weight=1.0,
            saliency_fraction=fraction,
            saliency_guidance_scale=3.0,
            **SMALL | {"batch_size": batch_size},
        ),
        new_task(forget, dropout=dropout),
    )


def test_salun_leaves_every_weight_outside_its_mask_as_it_was_to_the_bit(tmp_path: Path):
    module = salun(fraction=0.3)
    before = weights(module)
    train(module, tmp_path)
    changed = total = 0
    for name, mask in module.mask.items():
        difference = before[name] != module.network.state_dict()[name]
        assert not difference[~mask].any(), name
        changed, total = changed + int(difference.sum()), total + int(mask.sum())
    assert changed > 0.95 * total
