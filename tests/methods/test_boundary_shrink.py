"""Boundary shrink: the wrong class that is nearest to each forgotten image."""

from pathlib import Path

import numpy as np
import torch
from formulas import at_step
from small_classifiers import (
    SMALL,
    assert_close,
    classifying,
    learned,
    linear,
    new_task,
    trained_by_hand,
)
from tiny import moved, train, weights
from torch import Tensor
from torch.nn import functional as F

from unrelearn.classification.networks import Network
from unrelearn.methods.boundary_shrink import BoundaryShrink, nearest_wrong


def test_the_nearest_wrong_class_of_a_linear_model_is_that_of_its_closed_form():
    model, retain = linear().eval(), new_task().retain
    with torch.no_grad():  # the nearest mean of a class
        for c in range(10):
            mean = (retain.of_classes([c]).images / 127.5 - 1).mean(0).flatten()
            model.head.weight[c], model.head.bias[c] = mean, -mean.square().sum() / 2
    module = classifying(BoundaryShrink(epsilon=0.1, **SMALL), new_task(network=model))
    batch = module.draw("forget", module.task.forget)
    x, y = batch.x_0.flatten(1).double().numpy(), batch.labels.numpy()
    weight, bias = (p.detach().double().numpy() for p in model.head.parameters())

    def logits(x: np.ndarray) -> np.ndarray:
        return (2 * x - 1) @ weight.T + bias

    p = np.exp(logits(x))
    p /= p.sum(1, keepdims=True)
    p[np.arange(16), y] -= 1
    stepped = logits(np.clip(x + 0.1 * np.sign(2 * p @ weight), 0, 1))
    crossed = stepped.argmax(1) != y
    others = np.where(np.arange(10) == y[:, None], -np.inf, stepped)
    found = nearest_wrong(model, batch, 0.1)
    assert found.tolist() == others.argmax(1).tolist()
    # where the step crosses the boundary it is the class behind it, as released
    assert found[crossed].tolist() == stepped.argmax(1)[crossed].tolist() and crossed.any()
    assert not crossed.all() and (found != batch.labels).all()
    assert len(found.unique()) > 3
    # and without a step another one, for some
    assert found.tolist() != nearest_wrong(model, batch, 1e-6).tolist()


def test_training_is_that_of_pytorch_with_the_labels_of_the_original(tmp_path: Path):
    method = BoundaryShrink(epsilon=0.3, **SMALL | {"learning_rate": 0.2})
    module = classifying(method, new_task(network=learned()))
    original = learned().eval().requires_grad_(False)

    def loss(student: Network, step: int, teacher: Network | None = original) -> Tensor:
        batch = at_step(module, step, lambda: module.draw("forget", module.task.forget))
        return F.cross_entropy(student(batch.x_0), nearest_wrong(teacher or student, batch, 0.3))

    expected = trained_by_hand(module, loss)
    current = trained_by_hand(module, lambda student, step: loss(student, step, None))
    assert_close(weights(train(module, tmp_path)), expected)
    assert (expected["head.bias"] - current["head.bias"]).abs().max() > 1e-2
    assert not moved(learned().state_dict(), module.method.original.state_dict())
