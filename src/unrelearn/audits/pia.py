"""Whether the model finds again, at a later time, the noise that it sees in the clean record: PIA
(Kong et al. 2023, arXiv 2305.18355, Eq. 13).
"""

from torch import Tensor

from unrelearn.audits.noise import Predict, at, noised, norm


def score(
    predict: Predict, x_0: Tensor, abar: Tensor, *, time: float = 0.2, p: float = 4.0
) -> Tensor:
    """Minus the distance (B,) in the l_p norm; higher: rather a member. Two calls, no noise drawn.

    Args:
        time: share of all times, in [0, 1); about 200 of 1000 in their experiments.
    """
    seen, t = predict(x_0, 0), at(time, abar)
    return -norm(seen - predict(noised(x_0, seen, t, abar), t), p)
