"""SalUn: random labels on the salient weights."""

from pathlib import Path

import small_classifiers
import torch
from tiny import (
    denoising,
    new_task,
    train,
    weights,
)
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

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


def test_the_mask_of_a_classifier_is_the_top_of_one_pass_in_evaluation_mode():
    """Over all parameters, biases and BatchNorm among them; of 40 images in batches of 16."""
    settings = SMALL | {"batch_size": 16, "retain_weight": 1.0}
    task = small_classifiers.new_task(network=small_classifiers.learned().train())
    module = small_classifiers.classifying(SalUn(saliency_fraction=0.3, **settings), task)
    network = small_classifiers.learned().eval()
    total, images = [torch.zeros_like(p) for p in network.parameters()], task.forget
    for part in torch.arange(40).split(16):
        network.zero_grad()
        loss = F.cross_entropy(network(images.images[part] / 255), images.labels[part])
        loss.backward()
        clip_grad_norm_(network.parameters(), 1.0)  # as released
        for one, p in zip(total, network.parameters(), strict=True):
            one += p.grad
    score = torch.cat([one.abs().flatten() for one in total])
    module.prepare()
    assert module.mask is not None and module.network.training
    mask = torch.cat([module.mask[name].flatten() for name, _ in network.named_parameters()])
    assert mask.sum() == round(0.3 * len(score))
    assert score[mask].min() >= 0.999 * score[~mask].max()
