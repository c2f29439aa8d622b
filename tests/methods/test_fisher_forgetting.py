"""Fisher forgetting: noise on every weight, the more the less it matters for the retain set."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_classifiers import classifying, learned, linear, new_task
from tiny import moved, weights
from torch.nn import functional as F

from unrelearn.classification.classifying import Classifying, unit
from unrelearn.methods.fisher_forgetting import FisherForgetting, expected_information


def forgetting(task=None, **changes) -> Classifying:
    constants = {"alpha": 1e-4, "cap": 1e3, "head_cap": 20.0, "labels": "expected"}
    settings = {**constants, "head_to_zero": False, **changes}
    return classifying(FisherForgetting(**settings), task or new_task(network=linear()))


def information(module: Classifying, labels: str) -> list[np.ndarray]:
    """Of the head of a linear model and its bias, in closed form, over D_r."""
    data, head = module.task.retain, module.network.head
    x = data.images.flatten(1).numpy() / 127.5 - 1
    p = np.exp(x @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy())
    p /= p.sum(1, keepdims=True)
    # sum_y p_y (p_k - [y = k])^2 = p_k (1 - p_k)
    each = p * (1 - p) if labels == "expected" else (p - np.eye(10)[data.labels.numpy()]) ** 2
    return [each.T @ x**2 / len(x), each.mean(0)]


@pytest.mark.parametrize("labels", ["expected", "given"])
def test_the_noise_of_a_linear_model_is_as_large_as_its_closed_form_says(labels: str):
    drawn = []
    for alpha in (1e-4, 9e-4):
        module = forgetting(labels=labels, alpha=alpha)
        before = [p.detach().double().numpy().copy() for p in module.network.parameters()]
        fisher = information(module, labels)
        module.prepare()
        after = [p.detach().double().numpy() for p in module.network.parameters()]
        inverse = [np.minimum(1 / (part + 1e-8), 20) for part in fisher]
        assert 0.05 < (inverse[0] == 20).mean() < 0.95  # some weights are capped
        sigma = [
            np.sqrt(alpha * 10 * inverse[0].mean(1, keepdims=True)),  # over inputs
            np.sqrt(alpha * 10 * inverse[1]),
        ]
        drawn.append([(b - a) / s for a, b, s in zip(before, after, sigma, strict=True)])
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.01, atol=1e-3)  # n does not know alpha
    n = drawn[0][0]
    assert abs(n.mean()) < 4 / math.sqrt(n.size) and abs(n.std() - 1) < 4 / math.sqrt(2 * n.size)


def test_variances_are_means_over_inputs_larger_in_vectors_and_capped():
    method = forgetting(alpha=0.5, cap=20.0, head_cap=8.0).method
    g = torch.Generator().manual_seed(0)
    for name, shape in (
        ("body.0.weight", (6, 5, 3, 3)),
        ("body.4.bias", (6,)),
        ("head.bias", (6,)),
    ):
        fisher = torch.rand(shape, generator=g) / 5
        limit = 8.0 if name.startswith("head") else 20.0
        inverse = np.minimum(1 / (fisher.double().numpy() + 1e-8), limit)
        expected = 0.5 * inverse * 10
        if len(shape) > 1:
            expected = np.broadcast_to(0.5 * inverse.mean(1, keepdims=True), shape)
        np.testing.assert_allclose(method.variance(name, fisher).numpy(), expected, rtol=1e-5)
        assert 0 < (inverse == limit).mean() < 1


def test_the_expectation_over_labels_is_that_of_one_backward_pass_for_each():
    module = forgetting(new_task(network=learned().train()))
    some = module.task.retain.take(torch.tensor([0, 17, 33]))
    statistics = {name: value.clone() for name, value in module.network.named_buffers()}
    found = expected_information(module, some)
    assert module.network.training
    assert not moved(statistics, dict(module.network.named_buffers()))
    parameters = dict(module.network.named_parameters())
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    module.network.eval()
    for x in unit(some.images):
        logits = module.network(x[None])
        for label, p in enumerate(logits.softmax(1)[0].tolist()):
            loss = F.cross_entropy(logits, torch.tensor([label]))
            gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                expected[name] += p * gradient**2 / 3
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6, msg=name)


def test_a_row_set_to_zero_is_that_of_the_forgotten_class_alone():
    kept, zeroed = (
        forgetting(new_task((3,), network=linear()), alpha=1e-6, head_to_zero=zero)
        for zero in (False, True)
    )
    for module in (kept, zeroed):
        module.prepare()
    rows = torch.arange(10) != 3
    for name in ("weight", "bias"):
        one, other = (getattr(module.network.head, name) for module in (kept, zeroed))
        assert torch.equal(one[rows], other[rows]) and not torch.equal(one[3], other[3])
    spread = zeroed.network.head.weight[3].std().item()
    assert spread == pytest.approx(math.sqrt(1e-3), rel=0.3)


def test_without_a_forgotten_class_there_is_no_row_to_set_to_zero():
    states = []
    for zero in (False, True):
        module = forgetting(new_task(network=linear()), head_to_zero=zero)
        module.prepare()
        states.append(weights(module))
    assert not moved(*states)


def test_frozen_blocks_stay_as_they_were_to_the_bit_and_noise_is_a_function_of_the_seed():
    states = []
    for seed, blocks in ((0, None), (0, ["head"]), (1, None)):
        module = forgetting(new_task(network=learned(), seed=seed), labels="given", blocks=blocks)
        before = weights(module)
        module.prepare()
        states.append(weights(module))
        expected = {name for name, _ in module.network.named_parameters()}
        if blocks:
            expected = {"head.weight", "head.bias"}
        assert moved(before, states[-1]) == expected
    assert torch.equal(states[0]["head.weight"], states[1]["head.weight"])
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


@pytest.mark.parametrize("labels", ["expected", "given"])
def test_what_is_kept_goes_by_the_name_of_both_sets(labels: str):
    asked: list[dict[str, Any]] = []

    def cached(name: str, settings: dict[str, Any], compute):
        asked.append({"name": name, **settings})
        return compute()

    task = new_task(network=linear(), cached=cached)
    swapped = torch.arange(40)  # as many images, of which one is another
    swapped[0] = 50
    every = task.forget.join([task.forget, task.retain])
    rest = torch.tensor([i for i in range(300) if i not in swapped.tolist()])
    other = replace(task, network=linear(), forget=every.take(swapped), retain=every.take(rest))
    for each in (task, replace(task, network=linear()), other):
        forgetting(each, labels=labels).prepare()
    assert asked[0] == asked[1] and asked[0]["sets"] != asked[2]["sets"]
    assert ("labels" in asked[0]) == (labels == "expected")
