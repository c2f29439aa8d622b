"""VFLGAN (Yuan et al., PETS 2024, 2404.09722): a server critic of what local critics extract."""

from dataclasses import dataclass
from typing import ClassVar

from unrelearn.ranges import Rate, Weight


@dataclass(kw_only=True)
class Design:
    """Which parts a training has; VFLGAN has them all.

    Attributes:
        server: a critic S of all parties' features.
        heads: a local critic P_i a party.
        shared_latent: all generators are fed the same z.
        joined: one party holds all columns, which is no federation.
        averaging_interval: generator steps after which hidden layers are averaged; 0: never.
        learning_rate, penalty_weight: its own; None: those of the model.
    """

    server: ClassVar[bool] = True
    heads: ClassVar[bool] = True
    shared_latent: ClassVar[bool] = True
    joined: ClassVar[bool] = False
    averaging_interval: ClassVar[int] = 0
    learning_rate: Rate | None = None
    penalty_weight: Weight | None = None

    def networks(self, parties: int) -> int:
        """How many parties' hidden layers, side by side, each holder of columns has."""
        return 1


@dataclass(kw_only=True)
class VFLGAN(Design):
    """L_D = sum over k in {S, P_1, P_2} of mean k(generated) - mean k(real), and the penalty."""
