"""The server: a critic S of what parties extract, and the norm of the joint penalty."""

from typing import Any

import torch
from torch import Tensor

from unrelearn.gan.layers import Weights, initial, mlp
from unrelearn.gan.party import Shape, norm_coefficients, slope_penalty


class Server:
    """
    Args:
        seeds: of the replicas.
        widths: of the features of each party.
    """

    def __init__(self, seeds: list[int], widths: list[int], shape: Shape):
        self.shape = shape
        sizes = [sum(widths), *shape.server, 1]
        self.critic = initial(seeds, "server", "S", sizes, critics=shape.critics)
        self.pending: dict[str, Any] = {}

    def score(self, weights: Weights, features: list[Tensor]) -> list[Tensor]:
        """v_i = dS/dh_i at the interpolates, (R, B, width) a party; of features (R, 3B, width)."""
        leaves = [h.requires_grad_() for h in features]
        s = mlp(weights, "S", torch.cat(leaves, -1), last=False)[..., 0]
        size = s.shape[1] // 3
        loss = (s[:, size : 2 * size].mean(1) - s[:, :size].mean(1)).sum()
        slopes = torch.autograd.grad(s[:, 2 * size :].sum(), leaves, create_graph=True)
        v = [slope[:, 2 * size :] for slope in slopes]
        if self.shape.penalty == "factorised":
            penalty = slope_penalty(torch.cat(v, -1)).mean(1)
            loss = loss + self.shape.penalty_weight * penalty.sum()
        self.pending = {"leaves": leaves, "loss": loss, "v": v, "weights": weights}
        return v

    def coefficients(self, norms: list[Tensor]) -> Tensor:
        """dGP/d||u_i||^2, the same for each party: (R, B)."""
        return norm_coefficients(torch.stack(norms).sum(0), self.shape.penalty_weight)

    def critic_grads(self, slope_grads: list[Tensor] | None) -> tuple[Weights, list[Tensor]]:
        """Of the whole loss, by every weight of S and by each party's features."""
        pending = self.pending
        outputs, along = [pending["loss"]], [torch.ones_like(pending["loss"])]
        if slope_grads is not None:
            outputs, along = [*outputs, *pending["v"]], [*along, *slope_grads]
        weights, leaves = pending["weights"], pending["leaves"]
        grads = torch.autograd.grad(outputs, [*weights.values(), *leaves], along)
        own, theirs = grads[: len(weights)], grads[len(weights) :]
        return dict(zip(weights, own, strict=True)), list(theirs)

    def generator_grads(self, critic: Weights, features: list[Tensor]) -> list[Tensor]:
        """d(- mean S)/dh_i of generated records. critic: one a replica."""
        leaves = [h.requires_grad_() for h in features]
        loss = -mlp(critic, "S", torch.cat(leaves, -1), last=False).mean((1, 2)).sum()
        return list(torch.autograd.grad(loss, leaves))
