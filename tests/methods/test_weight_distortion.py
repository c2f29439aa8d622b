"""Weight distortion: noise, then fine-tuning."""

from pathlib import Path

import pytest
import torch
from small_classifiers import SMALL, classifying, new_task
from tiny import denoising, moved, train, weights
from tiny import new_task as denoising_task

from unrelearn.classification.classifying import Classifying
from unrelearn.methods.finetune import Finetune
from unrelearn.methods.weight_distortion import WeightDistortion


def distortion(seed: int = 0, **changes) -> Classifying:
    settings = {"sigma": 0.02, **SMALL, **changes}
    return classifying(WeightDistortion(**settings), new_task(seed=seed))


def noise(module: Classifying) -> torch.Tensor:
    """What `prepare` adds to the parameters, (P,)."""
    before = [p.detach().clone() for p in module.network.parameters()]
    module.prepare()
    after = module.network.parameters()
    return torch.cat([(p - q).flatten().detach() for p, q in zip(after, before, strict=True)])


def test_the_noise_is_normal_of_the_given_width_and_a_function_of_the_seed():
    ours, again, other, wide = (
        noise(distortion(*seed, **changes))
        for *seed, changes in ((0, {}), (0, {}), (1, {}), (0, {"sigma": 0.04}))
    )
    count = len(ours)
    assert count == 2838
    assert abs(ours.mean()) < 4 * 0.02 / count**0.5
    assert ours.std().item() == pytest.approx(0.02, rel=4 / (2 * count) ** 0.5)
    assert (ours.abs() < 0.02).float().mean().item() == pytest.approx(0.683, abs=0.03)
    assert torch.equal(ours, again) and torch.allclose(wide, 2 * ours, atol=1e-6)
    assert abs(torch.corrcoef(torch.stack([ours, other]))[0, 1]) < 4 / count**0.5


def test_all_parameters_get_noise_and_no_statistic():
    module = distortion()
    before = weights(module)
    module.prepare()
    assert moved(before, weights(module)) == {name for name, _ in module.network.named_parameters()}


def test_from_there_it_is_finetuning(tmp_path: Path):
    module = distortion()
    module.prepare()
    start = weights(module)
    task = new_task()
    task.network.load_state_dict(start)
    expected = train(classifying(Finetune(**SMALL), task), tmp_path / "finetune")
    assert not moved(weights(train(distortion(), tmp_path / "ours")), weights(expected))


def test_weights_outside_a_mask_stay_as_they_were_to_the_bit(tmp_path: Path):
    module = distortion(saliency_fraction=0.3)
    before = weights(module)
    train(module, tmp_path)
    changed = {name: before[name] != value for name, value in weights(module).items()}
    assert module.mask and not any(changed[name][~part].any() for name, part in module.mask.items())
    assert all(changed[name][part].any() for name, part in module.mask.items() if part.any())


def test_the_frozen_table_of_a_denoiser_gets_no_noise():
    module = denoising(WeightDistortion(sigma=0.02, **SMALL), denoising_task())
    before = weights(module)
    module.prepare()
    assert before.keys() - moved(before, weights(module)) == {"class_embedding.weight"}
