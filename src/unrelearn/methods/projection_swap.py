"""A control: answer c_f like another class by one linear solve in each block. No step, no data,
nothing forgotten.

The residual blocks read time and class through a projection W s(t, c). Here W becomes the W' that
is nearest to

    W' s(t, c_f) = W s(t, c')    and    W' s(t, c) = W s(t, c)  for every retained class and the
                                 null label, at all times t,

a ridge regression with one closed-form solution. The class table and every other weight stay as
they are. What W' changes, no retained condition excites, so that relearning on retain data sends it
next to no gradient: `row_swap` one layer further on, which no frozen table prevents. A measure on
which it wins is no proof; ten images of the class and its row bring it back.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.canonical import projections
from unrelearn.method import Method
from unrelearn.ranges import Positive

if TYPE_CHECKING:
    from unrelearn.diffusion.denoising import Denoising


@dataclass(kw_only=True)
class ProjectionSwap(Method):
    ridge: Positive  # penalty of the change W' - W, in units of the mean squared entry of s

    by_class = True

    @torch.no_grad()
    def prepare(self, t: "Denoising") -> None:
        task = t.task
        kept = torch.cat([embedded(t, c) for c in [*task.retain_classes, t.null_label]])
        forgotten = torch.cat([embedded(t, c) for c in task.forget_classes])
        wanted = torch.cat([embedded(t, task.other_class(c)) for c in task.forget_classes])
        every = torch.cat([kept, forgotten])
        gram = every.T @ every + self.ridge * every.square().sum(0).mean() * torch.eye(
            every.shape[1], dtype=every.dtype, device=every.device
        )
        # D minimises |D s_f - W (s_c' - s_f)|^2 + |D s_kept|^2 + ridge |D|^2:  D gram = W (s_c' -
        # s_f)^T s_f
        change = torch.linalg.solve(gram, forgotten.T @ (wanted - forgotten)).T
        for block in t.network.modules():
            for layer in projections(block):
                layer.weight.add_((layer.weight.double() @ change).to(layer.weight))


def embedded(t: "Denoising", label: int) -> Tensor:
    """s(t, c) (T, E), float64, at every time."""
    times = torch.arange(t.task.schedule["num_train_timesteps"], device=t.device)
    return denoisers.embedding(t.network, times, torch.full_like(times, label)).double()
