"""How far a record is from itself after one deterministic step up and down: SecMI, by its statistic
(Duan et al. 2023, arXiv 2302.01316, Eq. 9).
"""

from torch import Tensor

from unrelearn.audits.noise import Predict, at, moved, norm


def score(
    predict: Predict, x_0: Tensor, abar: Tensor, *, time: float = 0.1, stride: float = 0.01
) -> Tensor:
    """Minus the distance (B,); higher: rather a member. No noise is drawn: the record goes up to
    the time by the model's own steps, as published to 100 of 1000 by 10. Twelve calls there.

    Args:
        time, stride: shares of all times; both are at least one.
    """
    step = max(1, at(stride, abar))
    target = min(max(step, at(time, abar) // step * step), len(abar) - 1 - step)
    x = x_0
    for t in range(0, target, step):
        x = moved(x, predict(x, t), t, t + step, abar)
    up = moved(x, predict(x, target), target, target + step, abar)
    back = moved(up, predict(up, target + step), target + step, target, abar)
    return -norm(back - x, 2)
