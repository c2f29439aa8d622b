"""How the gradients of what is to be forgotten and of what is to be retained become one step
(`method.combine`).

Each combiner takes g_f and g_r as flat vectors (P,) and returns the combined gradient (P,); what is
descended is g_f + g_r for "sum". The step's length is then up to Adam, which undoes most of a rule
about lengths.

    sum          g_f + g_r
    projection   each gradient without its component along the other: Ko et al. 2024, restricted
                 gradient (arXiv 2412.07808); their released code does so only where the two are
                 opposed
    bargaining   the Nash bargaining solution of two players: MUNBa, Wu & Harandi 2024 (arXiv
                 2411.15537); for two players its equations have the closed form (g_f / |g_f| + g_r
                 / |g_r|) / sqrt(1 + cos), derived here
    harmonic     the mean direction, as long as the harmonic mean of both; no step where they are
                 opposed (as MUKSB's code)
    alternation  g_f in even steps, g_r in odd ones; it needs no combiner, as only one loss is
                 computed
"""

import torch
from torch import Tensor

TINY = 1e-12


def projection(forget: Tensor, retain: Tensor) -> Tensor:
    """(g_f - <g_f, g_r> g_r / |g_r|^2) + (g_r - <g_r, g_f> g_f / |g_f|^2)."""
    inner = forget @ retain
    return (
        forget
        - inner / (retain @ retain).clamp(min=TINY) * retain
        + retain
        - inner / (forget @ forget).clamp(min=TINY) * forget
    )


def bargaining(forget: Tensor, retain: Tensor) -> Tensor:
    """alpha_f g_f + alpha_r g_r with G^T G alpha = 1 / alpha; undefined for opposed gradients,
    where it is 0.
    """
    unit_f, unit_r = (g / g.norm().clamp(min=TINY) for g in (forget, retain))
    together = 1.0 + unit_f @ unit_r
    return torch.where(together > 1e-6, (unit_f + unit_r) / together.clamp(min=1e-6).sqrt(), 0.0)


def harmonic(forget: Tensor, retain: Tensor) -> Tensor:
    """The direction of g_f / |g_f| + g_r / |g_r|, with length 2 |g_f| |g_r| / (|g_f| + |g_r|); 0
    where they are opposed.
    """
    norm_f, norm_r = forget.norm(), retain.norm()
    direction = forget / norm_f.clamp(min=TINY) + retain / norm_r.clamp(min=TINY)
    length = 2 * norm_f * norm_r / (norm_f + norm_r).clamp(min=TINY)
    return torch.where(
        direction.norm() > 1e-6, direction / direction.norm().clamp(min=1e-6) * length, 0.0
    )


COMBINERS = {"projection": projection, "bargaining": bargaining, "harmonic": harmonic}
