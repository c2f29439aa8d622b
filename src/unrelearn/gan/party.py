"""A party: its columns, its generator G_i, its extractor E_i and its local critic P_i.

Each function between two messages is one of the steps of a training; what they leave for the next
is kept in `self.pending`. Nothing here is ever another party's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unrelearn.gan.draws import Draws
from unrelearn.gan.layers import Generator, Output, Weights, initial, mlp

SLACK = 1e-12  # below a square root, whose slope at 0 is infinite


@dataclass(frozen=True)
class Shape:
    """Of the networks of every party, and what a critic's loss weighs.

    Args:
        generator, extractor: widths of hidden layers.
        latent: dimensions of z.
        heads: whether parties have a local critic, P_i = linear(h_i).
        penalty: joint (the norm of the whole critic's gradient by the whole record, the WGAN-GP of
            Gulrajani et al. 2017, 1704.00028) or factorised (a penalty a block, by the block's own
            input: the released code of VFLGAN).
        penalty_weight: lambda.
        critics: of a replica, each of rows of its own; in every tensor of critics they stand side
            by side, (R * critics, ...).
    """

    generator: tuple[int, ...]
    extractor: tuple[int, ...]
    server: tuple[int, ...]
    latent: int
    heads: bool
    penalty: str
    penalty_weight: float
    eps: float
    critics: int = 1

    def wider(self, times: int) -> "Shape":
        """With hidden layers of G and E of as many times the width."""
        generator, extractor = (
            tuple(times * width for width in part) for part in (self.generator, self.extractor)
        )
        return replace(self, generator=generator, extractor=extractor)


def expanded(weights: Weights, records: int) -> Weights:
    """The weights of R replicas as those of R * records, a leaf each: with one record each, a
    gradient of the ensemble is a gradient a record.
    """
    return {
        name: value.detach().repeat_interleave(records, 0).requires_grad_()
        for name, value in weights.items()
    }


def one_by_one(x: Tensor) -> Tensor:
    """Batches (R, B, width) -> (R * B, 1, width)."""
    return x.reshape(-1, 1, x.shape[-1])


def slope_penalty(gradient: Tensor) -> Tensor:
    """(||g|| - 1)^2 a record, (R, B), of gradients (R, B, width)."""
    return ((gradient.square().sum(-1) + SLACK).sqrt() - 1).square()


class Party:
    """
    Args:
        name: e.g. party 1.
        data: its columns (N, d), encoded.
        shared_backbone: whether its generator starts from the same hidden layers as the others'.
    """

    def __init__(
        self,
        name: str,
        data: Tensor,
        output: Output,
        shape: Shape,
        draws: Draws,
        *,
        shared_backbone: bool = False,
    ):
        seeds, self.shape, self.draws, self.name = draws.seeds, shape, draws, name
        self.data, width = data, output.width
        sizes = [shape.latent, *shape.generator, width]
        owners = ("parties" if shared_backbone else name, name)
        self.generator = Generator(seeds, owners, sizes, output, shape.eps)
        # no bias in the first layer: the weight that a mode of privacy noises is all of it
        self.critic = initial(
            seeds, name, "E", [width, *shape.extractor], first_bias=False, critics=shape.critics
        )
        if shape.heads:
            sizes = [shape.extractor[-1], 1]
            self.critic |= initial(seeds, name, "P", sizes, critics=shape.critics)
        self.pending: dict[str, Any] = {}

    def uniform(self, purpose: str, step: int, records: int) -> Any:
        """Of the choice of categories: uniform(k) -> (R, records, k)."""
        return lambda k: self.draws.uniform(f"{self.name} {purpose} {k}", step, records, k)

    # one step of the critics

    def records(self, rows: Tensor, z: Tensor, alpha: Tensor, step: int) -> Tensor:
        """Real, generated and interpolated records (R, 3B, d). z may have more than B rows.

        All critics of a replica are shown the same generated records.
        """
        size, real = rows.shape[1], self.data[rows]
        with torch.no_grad():
            generated = self.generator(z, self.uniform("critic", step, z.shape[1]))[:, :size]
        generated, alpha = (x.repeat_interleave(self.shape.critics, 0) for x in (generated, alpha))
        return torch.cat([real, generated, torch.lerp(generated, real, alpha)], dim=1)

    def features(self, weights: Weights, records: Tensor) -> Tensor:
        """h_i (R, 3B, width), and in `pending` what the next steps need."""
        real, generated, between = records.chunk(3, dim=1)
        between = between.detach().requires_grad_()
        h = mlp(weights, "E", torch.cat([real, generated, between], dim=1), last=True)
        self.pending = {"weights": weights, "between": between, "h": h}
        self.pending |= {"loss": h.new_zeros(()), "norms": None}
        if self.shape.heads:
            p = mlp(weights, "P", h, last=False)[..., 0]
            size = between.shape[1]
            self.pending["score"] = p[:, 2 * size :]
            self.pending["loss"] = (p[:, size : 2 * size].mean(1) - p[:, :size].mean(1)).sum()
        if self.shape.penalty == "factorised":
            self.pending["loss"] = self.pending["loss"] + self._factorised().sum()
        return h

    def _factorised(self) -> Tensor:
        """The penalties of E_i (of the sum of its outputs) and P_i, (R,)."""
        h, between = self.pending["h"], self.pending["between"]
        own = h[:, 2 * between.shape[1] :]
        (gradient,) = torch.autograd.grad(own.sum(), between, create_graph=True)
        penalty = slope_penalty(gradient).mean(1)
        if self.shape.heads:
            (gradient,) = torch.autograd.grad(self.pending["score"].sum(), h, create_graph=True)
            penalty = penalty + slope_penalty(gradient[:, 2 * between.shape[1] :]).mean(1)
        return self.shape.penalty_weight * penalty

    def slope(self, v: Tensor | None) -> Tensor:
        """||u_i||^2 a record, u_i = J_i^T (v_i + dP_i/dh_i), of the joint penalty.

        v: dS/dh_i (R, B, width); None where there is no server critic.
        """
        pending = self.pending
        between = pending["between"]
        own = pending["h"][:, 2 * between.shape[1] :]
        outputs, along = [], []
        if v is not None:
            pending["v"] = v.requires_grad_()
            outputs, along = [own], [v]
        if self.shape.heads:
            outputs, along = [*outputs, pending["score"]], [*along, None]
        along = [
            torch.ones_like(o) if a is None else a for o, a in zip(outputs, along, strict=True)
        ]
        (u,) = torch.autograd.grad(outputs, between, along, create_graph=True)
        pending["norms"] = u.square().sum(-1)
        return pending["norms"]

    def slope_grads(self, coefficients: Tensor) -> Tensor:
        """dGP/dv_i, of coefficients dGP/d||u_i||^2 (R, B)."""
        pending = self.pending
        pending["coefficients"] = coefficients
        (grad,) = torch.autograd.grad(
            pending["norms"], pending["v"], coefficients, retain_graph=True
        )
        return grad

    def critic_grads(self, feature_grads: Tensor | None) -> Weights:
        """Of the whole loss by every weight of E_i and P_i."""
        pending, outputs, along = self.pending, [], []
        if feature_grads is not None:
            outputs, along = [pending["h"]], [feature_grads]
        if pending["loss"].requires_grad:
            outputs, along = [*outputs, pending["loss"]], [*along, torch.ones_like(pending["loss"])]
        if pending["norms"] is not None:
            if "coefficients" not in pending:  # no server: the norm is its own
                pending["coefficients"] = norm_coefficients(
                    pending["norms"].detach(), self.shape.penalty_weight
                )
            outputs, along = [*outputs, pending["norms"]], [*along, pending["coefficients"]]
        names = list(pending["weights"])
        weights = list(pending["weights"].values())
        grads = torch.autograd.grad(outputs, weights, along)
        return dict(zip(names, grads, strict=True))

    # one step of the generator

    def generated_features(self, critic: Weights, z: Tensor, step: int) -> Tensor:
        """h_i (R, B, width). critic: one a replica."""
        for weight in self.generator.weights.values():
            weight.requires_grad_()
        x = self.generator(z, self.uniform("generator", step, z.shape[1]), mode="move")
        h = mlp(critic, "E", x, last=True)
        self.pending = {"x": x, "h": h, "loss": h.new_zeros(())}
        if self.shape.heads:
            self.pending["loss"] = -mlp(critic, "P", h, last=False)[..., 0].mean(1).sum()
        return h

    def generator_grads(
        self, feature_grads: Tensor | None, sanitise: Callable[[Tensor], Tensor]
    ) -> Weights:
        """sanitise: what a mode of privacy does to the gradient by each generated record, of which
        all else is made.
        """
        pending, outputs, along = self.pending, [], []
        if feature_grads is not None:
            outputs, along = [pending["h"]], [feature_grads]
        if pending["loss"].requires_grad:
            outputs, along = [*outputs, pending["loss"]], [*along, torch.ones_like(pending["loss"])]
        (by_record,) = torch.autograd.grad(outputs, pending["x"], along)
        weights = self.generator.weights
        grads = torch.autograd.grad(pending["x"], list(weights.values()), sanitise(by_record))
        for weight in weights.values():
            weight.requires_grad_(False)
        return dict(zip(weights, grads, strict=True))


def norm_coefficients(squares: Tensor, weight: float) -> Tensor:
    """d/d(squares) of weight * mean over records of (sqrt(squares) - 1)^2, (R, B)."""
    norm = (squares + SLACK).sqrt()
    return weight * (norm - 1) / norm / squares.shape[1]
