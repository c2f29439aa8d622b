"""The formulas that methods and attacks are compared with, written out again here."""

from pathlib import Path

import torch
from tiny import (
    network,
    train,
    weights,
)
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion.denoising import Denoising


def abar(t: Tensor) -> Tensor:
    """prod (1 - beta), one factor after the other."""
    products, product = [], 1.0
    for k in range(1000):
        product *= 1.0 - (1e-4 + (0.02 - 1e-4) * k / 999)
        products.append(product)
    return torch.tensor(products, dtype=torch.float64)[t].view(-1, 1, 1, 1)


def x_t(batch) -> Tensor:
    return (
        abar(batch.t).sqrt() * batch.x_0.double()
        + (1 - abar(batch.t)).sqrt() * batch.noise.double()
    ).float()


def wanted(batch, kind: str) -> Tensor:
    v = (
        abar(batch.t).sqrt() * batch.noise.double()
        - (1 - abar(batch.t)).sqrt() * batch.x_0.double()
    )
    return {"epsilon": batch.noise, "sample": batch.x_0, "v_prediction": v.float()}[kind]


def mean_squared_error(module: Denoising, batch, kind: str = "epsilon") -> Tensor:
    output = module.network(x_t(batch), batch.t, class_labels=batch.labels).sample
    return ((output - wanted(batch, kind)) ** 2).sum() / batch.x_0.numel()


def gradients(module: Denoising, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, [p for p in module.network.parameters() if p.requires_grad])
    return torch.cat([g.flatten() for g in found])


def same_set(a: ImageSet, b: ImageSet) -> bool:
    """The same images, in any order."""
    return sorted(map(bytes, a.images.numpy())) == sorted(map(bytes, b.images.numpy()))


def answer(net, noisy: Tensor, t: Tensor, label: int | Tensor) -> Tensor:
    return net(
        noisy, t, class_labels=torch.full_like(t, label) if isinstance(label, int) else label
    ).sample


def stepped(module: Denoising) -> Denoising:
    """The module, prepared, with weights that are no longer the original ones."""
    module.prepare()
    with torch.no_grad():
        for p, other in zip(module.network.parameters(), network(5).parameters(), strict=True):
            p += 0.2 * other
    return module


def flat_gradient(net, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(
        loss, [p for p in net.parameters() if p.requires_grad], retain_graph=True
    )
    return torch.cat([g.flatten() for g in found]).double()


def at_step(module: Denoising, step: int, action):
    """action() as it comes out in that step."""
    type(module).global_step = property(lambda self: step)
    try:
        return action()
    finally:
        del type(module).global_step


def first_gradient(module: Denoising, folder: Path) -> Tensor:
    """Of the first step, as it comes to the optimiser before clipping."""
    seen = []
    module.configure_gradient_clipping = lambda *_, **__: seen.append(
        torch.cat([p.grad.flatten() for p in module.network.parameters() if p.requires_grad])
    )
    train(module, folder)
    return seen[0]


def at(module: Denoising, level: float) -> dict[str, torch.Tensor]:
    """The weights at a level."""
    with module.edited(level):
        return weights(module)


def images(data: ImageSet) -> set[bytes]:
    return set(map(bytes, data.images.numpy()))
