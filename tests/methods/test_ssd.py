"""Selective synaptic dampening."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from small_classifiers import classifying, linear, network, new_task
from tiny import moved, weights

from unrelearn.classification.classifying import Classifying
from unrelearn.data import ImageSet
from unrelearn.methods.ssd import SSD


def ssd(task=None, **changes) -> Classifying:
    return classifying(SSD(**{"selection": 2.0, "dampening": 0.9, **changes}), task)


def importances(data: ImageSet, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of the head (10, 64) and its bias (10,), image by image: (p - onehot) x^T, squared."""
    total, of_bias = np.zeros_like(weight), np.zeros_like(bias)
    for image, label in zip(data.images.numpy(), data.labels.tolist(), strict=True):
        x = image.flatten() / 127.5 - 1
        p = np.exp(weight @ x + bias)
        p /= p.sum()
        p[label] -= 1
        total += np.outer(p, x) ** 2 / len(data)
        of_bias += p**2 / len(data)
    return total, of_bias


def test_a_linear_model_is_dampened_as_its_closed_form_says():
    module = ssd(new_task((3,), network=linear()))
    before = [p.detach().double().numpy().copy() for p in module.network.head.parameters()]
    forget, retain = (
        importances(part, *before) for part in (module.task.forget, module.task.retain)
    )
    module.prepare()
    shares = []
    for old, mine, others, new in zip(
        before, forget, retain, module.network.head.parameters(), strict=True
    ):
        selected = mine > 2 * others
        factor = np.where(selected, np.minimum(0.9 * others / np.maximum(mine, 1e-30), 1), 1)
        np.testing.assert_allclose(new.detach().numpy(), factor * old, rtol=1e-4, atol=1e-8)
        shares.append(selected.mean())
    assert 0.02 < shares[0] < 0.9  # some weights, and not all


def test_a_factor_is_at_most_one_and_what_is_not_selected_stays_to_the_bit():
    module = ssd(new_task((3,), network=linear()), selection=1.5, dampening=1e6)
    before = weights(module)
    module.prepare()
    assert not moved(before, weights(module))
    module = ssd(new_task((3,), network=linear()), selection=1e6)
    module.prepare()
    assert not moved(before, weights(module))


def test_importances_are_taken_image_by_image_in_evaluation_mode_and_named_by_both_sets():
    asked: list[dict[str, Any]] = []

    def cached(name: str, settings: dict[str, Any], compute):
        asked.append({"name": name, **settings})
        return compute()

    tasks = [new_task(network=network().train(), cached=cached) for _ in range(2)]
    first = torch.arange(1, 41)  # as many images, of which one is another
    other = replace(tasks[1], forget=tasks[1].retain.take(first))
    for task in (tasks[0], tasks[1], other):
        statistics = {k: v.clone() for k, v in task.network.state_dict().items() if "running" in k}
        module = ssd(task)
        module.prepare()
        assert not moved(
            statistics, {k: v for k, v in module.network.state_dict().items() if "running" in k}
        )
    assert asked[0:2] == asked[2:4] and [one["images"] for one in asked[:2]] == ["forget", "retain"]
    assert asked[4]["sets"] != asked[0]["sets"] and asked[5]["sets"] == asked[4]["sets"]


def test_frozen_blocks_stay_as_they_were_to_the_bit():
    module = ssd(new_task((3,)), selection=0.5, blocks=["head"])
    before = weights(module)
    module.prepare()
    assert moved(before, weights(module)) == {"head.weight", "head.bias"}
