"""How much noise the model sees in the clean record: SimA (arXiv 2509.25003), one call.

We know the paper at second hand; the norm and the time are our choice.
"""

from torch import Tensor

from unrelearn.audits.noise import Predict, at, norm


def score(
    predict: Predict, x_0: Tensor, abar: Tensor, *, time: float = 0.1, p: float = 4.0
) -> Tensor:
    """Minus the l_p norm (B,) of what is predicted at the record itself; higher: rather a member.

    Args:
        time: share of all times, in [0, 1).
    """
    return -norm(predict(x_0, at(time, abar)), p)
