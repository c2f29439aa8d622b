"""Influence unlearning, on a linear model whose Hessian has a closed form."""

import copy

import numpy as np
import pytest
import torch
from small_classifiers import classifying, learned, linear, new_task
from tiny import moved, weights

from unrelearn.classification.classifying import Classifying, ClassifyingTask
from unrelearn.data import ImageSet
from unrelearn.methods.influence import (
    Influence,
    batches,
    conjugate_gradient,
    curvature_product,
    difference,
)


def influence(task: ClassifyingTask, **changes) -> Classifying:
    settings = {
        "solver": "cg",
        "alpha": 1.0,
        "damping": 1e-2,
        "cg_steps": 300,
        "tolerance": 1e-5,
        **changes,
    }
    return classifying(Influence(**settings), task)


def small_task(size: int) -> ClassifyingTask:
    """Of the pixels in the middle, so few that no linear model can learn every label."""
    task = new_task(network=linear(image_size=size))
    whole, here = ImageSet.join([task.forget, task.retain]), slice(4 - size // 2, 4 + size // 2)
    whole = ImageSet(whole.images[:, :, here, here].contiguous(), whole.labels)
    few = torch.arange(len(whole)) < 10
    task.forget, task.retain = whole.where(few), whole.where(~few)
    return task


def inputs(data: ImageSet) -> np.ndarray:
    """(N, F + 1): what the head reads, and a one for its bias."""
    x = data.images.flatten(1).numpy() / 127.5 - 1
    return np.hstack([x, np.ones((len(x), 1))])


def parameters(module: Classifying) -> np.ndarray:
    """(10, F + 1): weights and bias of the head."""
    head = module.network.head
    return torch.cat([head.weight, head.bias[:, None]], 1).detach().double().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def gradients(theta: np.ndarray, data: ImageSet) -> np.ndarray:
    """Of each image's cross-entropy, (N, 10, F + 1)."""
    x = inputs(data)
    error = softmax(x @ theta.T) - np.eye(10)[data.labels.numpy()]
    return np.einsum("nk,nf->nkf", error, x)


def hessian(theta: np.ndarray, data: ImageSet) -> np.ndarray:
    """mean over x of (diag(p) - p p^T) (x) x x^T, (P, P) with P = 10 (F + 1)."""
    x = inputs(data)
    p = softmax(x @ theta.T)
    outer = np.einsum("nk,kl->nkl", p, np.eye(10)) - np.einsum("nk,nl->nkl", p, p)
    size = 10 * x.shape[1]
    return np.einsum("nkl,nf,ng->kflg", outer, x, x, optimize=True).reshape(size, size) / len(x)


def right_side(theta: np.ndarray, forget: ImageSet, retain: ImageSet) -> np.ndarray:
    total = len(forget) + len(retain)
    of_retain = gradients(theta, retain).sum(0) * len(forget) / (total * len(retain))
    return gradients(theta, forget).sum(0) / total - of_retain


def step_of(**changes) -> tuple[np.ndarray, np.ndarray, Classifying]:
    module = influence(small_task(4), **changes)
    before = parameters(module)
    module.prepare()
    return before, parameters(module) - before, module


def test_conjugate_gradients_solve_what_a_dense_solver_does():
    theta, step, module = step_of(alpha=0.7)
    forget, retain = module.task.forget, module.task.retain
    damped = hessian(theta, retain) + 1e-2 * np.eye(theta.size)
    exact = np.linalg.solve(damped, right_side(theta, forget, retain).ravel()).reshape(theta.shape)
    np.testing.assert_allclose(step, 0.7 * exact, rtol=1e-3, atol=1e-3 * np.abs(exact).max())


def test_without_a_solver_the_step_is_the_difference_of_the_gradients():
    theta, step, module = step_of(solver="gradient", alpha=5.0)
    expected = 5 * right_side(theta, module.task.forget, module.task.retain)
    np.testing.assert_allclose(step, expected, rtol=1e-3, atol=1e-5)


def test_at_a_minimum_it_is_newtons_step_to_the_minimum_without_the_forget_set():
    """Where nothing pulls on the whole set, alpha = 1 leaves almost nothing that pulls on D_r."""
    task = small_task(2)
    whole, head = ImageSet.join([task.forget, task.retain]), task.network.head
    theta = torch.cat([head.weight, head.bias[:, None]], 1).detach().double().numpy()
    for _ in range(30):  # Newton, by numpy
        pull = gradients(theta, whole).mean(0).ravel()
        curvature = hessian(theta, whole) + 1e-8 * np.eye(theta.size)
        theta = theta - np.linalg.solve(curvature, pull).reshape(theta.shape)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(theta[:, :-1]))
        head.bias.copy_(torch.from_numpy(theta[:, -1]))
    module = influence(task, damping=1e-6)
    pulls = [np.abs(gradients(parameters(module), task.retain).mean(0)).max()]
    module.prepare()
    pulls.append(np.abs(gradients(parameters(module), task.retain).mean(0)).max())
    assert np.abs(gradients(theta, whole).mean(0)).max() < 1e-6
    assert pulls[0] > 1e-3 and pulls[1] < 0.1 * pulls[0]


def test_what_was_released_only_ever_rescales_the_gradient_of_the_first_image():
    theta, step, module = step_of(solver="released", alpha=3.0, fisher_samples=50)
    v = right_side(theta, module.task.forget, module.task.retain).ravel()
    each = gradients(theta, module.task.retain)[:50].reshape(50, -1)
    first, scale, taken = each[0], 1.0, 0.0
    for gradient in each[1:]:  # two numbers say all that the recursion knows
        here = scale * first @ gradient
        taken += (v - taken * first) @ gradient / (50 + here) * scale
        scale -= here / (50 + here) * scale
    assert abs(taken) > 1e-5 and not np.isclose(scale, 1)
    expected = 3 * (v - taken * first)
    np.testing.assert_allclose(step.ravel(), expected, rtol=1e-3, atol=1e-5)


def test_the_product_is_that_of_the_jacobian_in_evaluation_mode():
    module = influence(new_task(network=learned().double().eval()))
    some = module.task.retain.take(torch.arange(6))
    (x, _) = next(batches(module, some, 6))
    network = module.network
    weights_of = dict(network.named_parameters())
    jacobian = torch.func.jacrev(lambda w: torch.func.functional_call(network, w, (x,)))(weights_of)
    j = torch.cat([jacobian[name].flatten(2) for name in weights_of], 2).detach()
    p = network(x).softmax(1).detach()
    bend = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    vector = torch.randn(j.shape[2], generator=torch.Generator().manual_seed(0), dtype=j.dtype)
    expected = torch.einsum("nkp,nkl,nlq,q->p", j, bend, j, vector) / 6
    found = curvature_product(module, some, vector)
    assert not found.requires_grad  # or every product would keep those before it
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_of_a_trained_network_the_solution_is_one():
    """Where the Hessian, which is indefinite there, has the solver stop after a few steps."""
    module = influence(new_task(network=learned().eval()), damping=0.1)
    some, right = module.task.retain.take(torch.arange(100)), difference(module)

    def product(vector: torch.Tensor) -> torch.Tensor:
        return curvature_product(module, some, vector) + 0.1 * vector

    found, rest = conjugate_gradient(product, right, 100, 1e-4)
    left = ((product(found) - right).norm() / right.norm()).item()
    assert left < 2e-4 and rest < 1e-4
    early, rest = conjugate_gradient(product, right, 2, 1e-4)
    left = ((product(early) - right).norm() / right.norm()).item()
    assert rest == pytest.approx(left, rel=1e-3) and rest > 0.1


@pytest.mark.parametrize("solver", ["gradient", "cg", "released"])
def test_frozen_blocks_and_statistics_stay_as_they_were_to_the_bit(solver: str):
    task = new_task(network=learned())
    changes = {"cg_steps": 3, "fisher_samples": 20, "blocks": ["head"]}
    module = influence(task, solver=solver, **changes)
    before, mode = weights(module), module.network.training
    module.prepare()
    assert moved(before, weights(module)) == {"head.weight", "head.bias"}
    assert module.network.training == mode
    again = influence(new_task(network=copy.deepcopy(learned())), solver=solver, **changes)
    again.prepare()
    assert not moved(weights(module), weights(again))


def test_both_gradients_weigh_what_their_sets_do():
    """For D_f = D_r there is nothing to take away."""
    task = new_task(network=linear())
    task.forget = task.retain
    assert difference(influence(task)).abs().max() < 1e-7
