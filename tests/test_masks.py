"""Which weights may move: the saliency mask against one made by hand."""

import math

import pytest
import torch
from formulas import abar
from tiny import (
    denoising,
    new_task,
)
from torch import Tensor, nn

from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.denoising import Denoising
from unrelearn.methods.salun import SalUn
from unrelearn.randomness import generator_for

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


def saliency_by_hand(module: Denoising) -> tuple[Tensor, int]:
    """|sum over batches of the clipped gradient| of each weight, and how many batches were
    clipped.
    """
    net, forget = module.network.eval(), module.task.forget
    trained = [p for name, p in net.named_parameters() if name != CLASS_EMBEDDING]
    total, clipped = torch.zeros(sum(p.numel() for p in trained)), 0
    for number in range(math.ceil(len(forget) / module.method.batch_size)):
        part = slice(number * module.method.batch_size, (number + 1) * module.method.batch_size)
        x_0, labels = forget.images[part].float() / 127.5 - 1, forget.labels[part]
        g = generator_for(module.task.seed, "saliency", number)
        t = torch.randint(1000, (len(labels),), generator=g)
        noise = torch.randn(x_0.shape, generator=g)
        noisy = (abar(t).sqrt() * x_0 + (1 - abar(t)).sqrt() * noise).float()
        guided = (
            3.0 * net(noisy, t, class_labels=labels).sample
            - 2.0 * net(noisy, t, class_labels=torch.full_like(labels, 10)).sample
        )
        net.zero_grad()
        nn.functional.mse_loss(guided, noise).backward()
        clipped += bool(nn.utils.clip_grad_norm_(trained, 1.0) > 1.0)
        total += torch.cat([p.grad.flatten() for p in trained])
    net.zero_grad()
    return total.abs(), clipped


def test_the_saliency_mask_keeps_the_largest_clipped_signed_sums():
    module = salun(dropout=0.3, fraction=0.5, batch_size=5)  # 12 images: batches of 5, 5 and 2
    module.prepare()
    assert module.network.training
    names = [name for name, _ in module.network.named_parameters() if name != CLASS_EMBEDDING]
    mask = torch.cat([module.mask[name].flatten() for name in names])
    score, clipped = saliency_by_hand(module)
    assert clipped >= 2
    assert (mask == (score >= score[mask].min())).float().mean() > 0.999
    assert score[mask].min() >= score[~mask].max() * 0.999


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 0.5, 1.0])
def test_the_saliency_mask_keeps_exactly_the_asked_share(fraction: float):
    module = salun(fraction=fraction)
    module.prepare()
    trainable = {name: p for name, p in module.network.named_parameters() if p.requires_grad}
    assert module.mask.keys() == trainable.keys()
    total = sum(p.numel() for p in trainable.values())
    assert sum(int(m.sum()) for m in module.mask.values()) == max(1, round(fraction * total))
