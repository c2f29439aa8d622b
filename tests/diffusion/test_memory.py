"""The data that stand in for what is forgotten."""

import math

import pytest
import torch
from formulas import same_set
from tiny import (
    denoising,
    moved,
    new_task,
    weights,
)
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion import memory as memories
from unrelearn.diffusion.memory import memory_set, nearest_class
from unrelearn.diffusion.sampling import sample
from unrelearn.methods.dimum import DiMUM

SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("forget", "memory_class", "others"),
    [((7,), None, [8]), ((7,), 2, [2]), ((8, 9), None, [0, 0])],
)
def test_another_class_is_all_images_of_the_next_retained_class(forget, memory_class, others):
    task = new_task(forget)
    memory = memory_set(task, "another_class", None, memory_class)
    assert memory.labels.tolist() == [c for c in forget for _ in range(12)]
    for c, other in zip(forget, others, strict=True):
        assert same_set(memory.of_classes([c]), task.retain.of_classes([other]))


def test_a_memory_size_limits_each_forgotten_class():
    task = new_task((3, 7))
    memory = memory_set(task, "another_class", 5, None)
    assert memory.labels.tolist() == [3] * 5 + [7] * 5
    for c, other in ((3, 4), (7, 8)):
        pool = set(map(bytes, task.retain.of_classes([other]).images.numpy()))
        chosen = set(map(bytes, memory.of_classes([c]).images.numpy()))
        assert chosen <= pool and len(chosen) == 5


def test_all_retain_is_the_whole_retain_set_under_the_forgotten_label():
    task = new_task()
    memory = memory_set(task, "all_retain", None, None)
    assert same_set(memory, task.retain) and memory.labels.tolist() == [7] * 108


@pytest.mark.parametrize(("size", "count"), [(None, 10), (4, 4)])
def test_fixed_k_is_the_same_few_retain_images_every_time(size, count):
    memory, again = (memory_set(new_task(), "fixed_k", size, None) for _ in range(2))
    assert torch.equal(memory.images, again.images) and memory.labels.tolist() == [7] * count
    chosen = set(map(bytes, memory.images.numpy()))
    assert len(chosen) == count and chosen <= set(map(bytes, new_task().retain.images.numpy()))
    assert not same_set(memory, memory_set(new_task(seed=1), "fixed_k", size, None))


def test_noise_is_uniform_over_all_grey_levels():
    memory = memory_set(new_task(), "noise", None, None)
    assert memory.images.shape == (256, 1, 8, 8) and memory.images.dtype == torch.uint8
    assert memory.labels.tolist() == [7] * 256 and memory.images.unique().tolist() == list(
        range(256)
    )
    assert memory.images.float().mean().item() == pytest.approx(127.5, abs=3)
    assert len(memory_set(new_task(), "noise", 6, None)) == 6


def test_generated_memory_is_drawn_by_the_original_model_which_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
):
    asked = []
    monkeypatch.setattr(
        memories,
        "sample",
        lambda net, labels, **options: (
            asked.append((net, labels, options))
            or sample(net, labels, **options | {"num_inference_steps": 2})
        ),
    )
    module = denoising(DiMUM(memory="generated", memory_size=6, **SMALL), new_task((3, 7)))
    before = weights(module)
    module.network.train()
    module.prepare()
    assert not moved(before, weights(module)) and module.network.training
    assert all(p.grad is None for p in module.network.parameters())
    assert (
        module.method.memory_data.images.shape == (12, 1, 8, 8)
        and module.method.memory_data.labels.tolist() == [3] * 6 + [7] * 6
    )
    assert [(net is module.network, labels.tolist()) for net, labels, _ in asked] == [
        (True, [4] * 6),
        (True, [8] * 6),
    ]
    assert module.method.memory_data.images.flatten(1).unique(dim=0).shape[0] == 12


def test_nearest_class_is_the_one_a_search_over_all_classes_finds(oracle):
    for forget in ((7,), (0, 3, 8)):
        task = new_task(forget, oracle=oracle)
        for c in forget:

            def centre(data: ImageSet) -> Tensor:
                return sum(
                    oracle.features(image[None].float() / 127.5 - 1)[0] for image in data.images
                ) / len(data)

            distance = {
                k: math.dist(
                    centre(task.retain.of_classes([k])), centre(task.forget.of_classes([c]))
                )
                for k in range(10)
                if k not in forget
            }
            assert nearest_class(task, c) == min(distance, key=distance.get)
        memory = memory_set(task, "nearest_class", None, None)
        for c in forget:
            assert same_set(
                memory.of_classes([c]), task.retain.of_classes([nearest_class(task, c)])
            )
