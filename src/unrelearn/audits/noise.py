"""What scores of denoisers have in common. Times are indices into abar (T,), the products of
1 - beta (Ho et al. 2020, arXiv 2006.11239); images x are (B, C, H, W), clean ones in [-1, 1].
"""

from collections.abc import Callable

from torch import Tensor

# (x_t, t) -> the noise that the model says is in x_t, (B, C, H, W), under each record's own label
Predict = Callable[[Tensor, int], Tensor]


def at(share: float, abar: Tensor) -> int:
    """The time at a share of all, in [0, 1)."""
    return int(share * len(abar))


def noised(x_0: Tensor, noise: Tensor, t: int, abar: Tensor) -> Tensor:
    """x_t (Ho et al. 2020, Eq. 4)."""
    return abar[t].sqrt() * x_0 + (1 - abar[t]).sqrt() * noise


def moved(x_t: Tensor, noise: Tensor, t: int, to: int, abar: Tensor) -> Tensor:
    """x at another time by the deterministic step of DDIM, up or down (Song et al. 2021, arXiv
    2010.02502, Eq. 12 with sigma 0).
    """
    x_0 = (x_t - (1 - abar[t]).sqrt() * noise) / abar[t].sqrt()
    return noised(x_0, noise, to, abar)


def norm(x: Tensor, p: float) -> Tensor:
    """(B,), of each image as one vector."""
    return x.flatten(1).norm(p, dim=1)
