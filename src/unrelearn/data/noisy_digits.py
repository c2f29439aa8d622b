"""The digits with wrong labels among them: a network that learns all of them has memorised, so that
there is something to forget.
"""

from unrelearn.data.digits import Digits


class NoisyDigits(Digits):
    """As Digits, of whose training labels a share is wrong."""

    def __init__(self, label_noise: float = 0.2, label_noise_seed: int = 0):
        super().__init__(label_noise, label_noise_seed)
