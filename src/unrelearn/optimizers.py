"""The optimisers and learning rates that a method may name, and one of our own: Adam whose step is
a share of the weights it moves, so that it does not depend on the units in which they are written.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, OneCycleLR

# the smallest size of weights, so that those which are zero can move: Adafactor's eps_2 (Shazeer &
# Stern 2018, arXiv 1804.04235)
FLOOR = 1e-3


def size(parameter: Tensor) -> Tensor:
    """The root mean square of each output channel (out, 1, ...), or of all of a vector (); at least
    FLOOR.
    """
    dims = tuple(range(1, parameter.ndim)) or (0,)
    return parameter.square().mean(dims, keepdim=parameter.ndim > 1).sqrt().clamp(min=FLOOR)


class RelativeAdam(Optimizer):
    """p -= lr * size(p) * m / (sqrt(v) + eps), with m and v the bias-corrected moments of Adam.

    Adam: Kingma & Ba 2015 (arXiv 1412.6980). Steps in proportion to each channel's size: Nero (Liu
    et al. 2021, arXiv 2102.07227), there with weights kept on spheres.

    Args:
        lr: as a share: 1e-2 moves a channel by one per cent of its size in a step.
        eps: far below Adam's 1e-8, as a gradient is the smaller the larger its weights are written.
    """

    def __init__(
        self, parameters, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-12
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], *group["betas"], group["eps"])
        return loss

    def _move(self, parameter: Tensor, lr: float, beta_1: float, beta_2: float, eps: float) -> None:
        state = self.state[parameter]
        if not state:
            state.update(
                step=torch.tensor(0.0),
                exp_avg=torch.zeros_like(parameter),
                exp_avg_sq=torch.zeros_like(parameter),
            )
        state["step"] += 1
        k, first, second = state["step"].item(), state["exp_avg"], state["exp_avg_sq"]
        first.lerp_(parameter.grad, 1 - beta_1)
        second.mul_(beta_2).addcmul_(parameter.grad, parameter.grad, value=1 - beta_2)
        direction = first / (second / (1 - beta_2**k)).sqrt_().add_(eps)
        parameter.addcmul_(direction, size(parameter), value=-lr / (1 - beta_1**k))


def build(name: str | None, parameters: Iterable[Tensor], lr: float, fused: bool) -> Optimizer:
    """Adam or, by the name in `Method.optimizer`, RelativeAdam."""
    if name == "relative":
        return RelativeAdam(parameters, lr=lr)
    return Adam(parameters, lr=lr, fused=fused)


def schedule(name: str, optimizer: Optimizer, max_steps: int) -> list[LRScheduler]:
    """What changes the learning rate after every step, by the name in `Method.lr_schedule`; of a
    constant one nothing.
    """
    if name == "constant":
        return []
    if name == "cosine":
        return [CosineAnnealingLR(optimizer, max_steps)]
    if name == "multistep":
        drops = [max_steps * 91 // 182, max_steps * 136 // 182]  # epochs of Unlearn-Saliency
        return [MultiStepLR(optimizer, drops)]
    highest = optimizer.param_groups[0]["lr"]
    return [OneCycleLR(optimizer, highest, total_steps=max_steps)]
