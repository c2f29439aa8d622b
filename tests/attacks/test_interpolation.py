"""Models on the way to another one."""

from pathlib import Path

import pytest
import small_classifiers as small
import torch
from formulas import at
from test_resume import train_in_two_parts
from tiny import (
    denoising,
    from_yaml,
    moved,
    network,
    new_task,
    train,
    weights,
)

from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.interpolation import Interpolation
from unrelearn.classification.classifying import unit
from unrelearn.data import to_model_range
from unrelearn.diffusion.denoising import Denoising
from unrelearn.diffusion.maths import alphas_cumprod
from unrelearn.randomness import generator_for

TRAINING = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)


def test_interpolation_ends_at_the_original_and_passes_half_way():
    module = denoising(
        Interpolation(levels=[0.0, 0.5, 1.0], towards="original", **TRAINING), new_task()
    )
    module.prepare()
    start, half, end = (at(module, level) for level in module.method.levels)
    assert not moved(start, network().state_dict()) and not moved(end, network(5).state_dict())
    for name, value in half.items():
        torch.testing.assert_close(value, (start[name] + end[name]) / 2)


def test_the_way_to_the_attacked_model_ends_where_dimra_does_to_the_bit(compose, tmp_path: Path):
    same = [
        "attack.train_class_embedding=true",
        "attack.retain_fraction=0.5",
        "attack.budgets=[3]",
        "attack.batch_size=8",
    ]
    dimra = train(from_yaml(compose, "attack", "dimra", *same)(new_task()), tmp_path / "dimra")
    module = train(
        from_yaml(compose, "attack", "interpolation", "attack.towards=attacked", *same)(new_task()),
        tmp_path / "way",
    )
    assert [{k: row[k] for k in ("step", "auxiliary")} for row in module.rows] == dimra.rows
    assert not moved(weights(dimra), at(module, 1.0)) and not moved(
        network().state_dict(), at(module, 0.0)
    )
    assert moved(weights(dimra), at(module, 0.5)) == moved(network().state_dict(), weights(dimra))
    assert not moved(weights(dimra), weights(module))


def test_the_way_of_a_resumed_run_begins_at_the_unlearned_model_and_is_the_same(tmp_path: Path):
    def make() -> Denoising:
        return denoising(
            Interpolation(levels=[0.0, 0.5], towards="attacked", **TRAINING | {"budgets": [9]}),
            new_task(),
        )

    whole, parts = (
        train(make(), tmp_path / "whole"),
        train_in_two_parts(make, tmp_path / "parts", 8),
    )
    assert not moved(at(parts, 0.0), network().state_dict()) and not moved(
        at(whole, 0.0), at(parts, 0.0)
    )
    assert not moved(at(whole, 0.5), at(parts, 0.5)) and whole.rows[-1] == parts.rows[-1]


def test_the_losses_on_the_way_are_those_of_the_model_there_at_fixed_images_times_and_noises():
    module = denoising(Interpolation(levels=[0.0, 1.0], towards="original", **TRAINING), new_task())
    module.prepare()
    for level, seed in ((0.0, 0), (1.0, 5)):
        at(module, level)
        total = 0.0
        for number in range(8):
            g = generator_for(0, "interpolation", "forget", number)
            x_0 = to_model_range(module.task.forget.images[torch.randint(12, (64,), generator=g)])
            t, noise = torch.randint(1000, (64,), generator=g), torch.randn(x_0.shape, generator=g)
            a = alphas_cumprod()[t].view(-1, 1, 1, 1)
            x_t, labels = a.sqrt() * x_0 + (1 - a).sqrt() * noise, torch.full((64,), 7)
            with torch.no_grad():
                answer = network(seed).eval()(x_t, t, class_labels=labels).sample
            total += (answer - noise).square().mean().item() / 8
        assert module.rows[-1]["forget"] == pytest.approx(total, rel=1e-5)
    assert module.rows[-1].keys() == {"step", "forget", "retain"}


def test_a_classifier_ends_at_the_original_with_its_statistics_and_passes_half_way():
    end = small.learned()
    task = small.new_task(original=lambda: end, augment={"attack": "crop_flip"})
    attack = Interpolation(levels=[0.0, 0.5, 1.0], towards="original", **TRAINING)
    module = small.classifying(attack, task)
    module.prepare()
    start, half, last = (at(module, level) for level in module.method.levels)
    counts = {name for name in start if name.endswith("num_batches_tracked")}
    assert not moved(start, small.network().state_dict())
    assert moved(last, end.state_dict()) == counts
    assert (last["body.4.running_var"] - start["body.4.running_var"]).abs().max() > 1e-3
    for name in start.keys() - counts:
        torch.testing.assert_close(half[name], (start[name] + last[name]) / 2)
    for number, there in ((0, small.network()), (2, end)):
        for term, data in (("forget", task.forget), ("retain", task.retain)):
            total = 0.0
            for part in range(8):
                g = generator_for(0, "interpolation", term, part)
                some = torch.randint(len(data), (64,), generator=g)
                with torch.no_grad():
                    answer = there.eval()(unit(data.images[some])).log_softmax(1)
                total -= answer.gather(1, data.labels[some][:, None]).mean().item() / 8
            assert module.rows[number][term] == pytest.approx(total, rel=1e-5)


def test_the_way_of_a_classifier_to_the_attacked_model_ends_where_dimra_does(tmp_path: Path):
    task = small.new_task(network=small.learned())
    start = weights(small.classifying(DiMRA(**TRAINING), task))
    dimra = train(small.classifying(DiMRA(**TRAINING), task), tmp_path / "dimra")
    attack = Interpolation(levels=[0.0, 1.0], towards="attacked", **TRAINING)
    other = small.new_task(network=small.learned())
    module = train(small.classifying(attack, other), tmp_path / "way")
    counts = {name for name in start if name.endswith("num_batches_tracked")}
    assert not moved(weights(dimra), at(module, 1.0))
    assert moved(start, at(module, 0.0)) == counts
    assert len(moved(start, weights(dimra))) > len(counts)
