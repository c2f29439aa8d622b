"""No privacy, and what every mode of privacy answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from unrelearn.gan.draws import Draws

Noise = Callable[[str, tuple[int, ...]], Tensor]


@dataclass(frozen=True)
class RowBatch:
    """Rows (R, B) of one step, which of them count (R, B) in {0, 1}, and for how many records
    latents are drawn.
    """

    rows: Tensor
    present: Tensor | None
    drawn: int


@dataclass(frozen=True)
class AccountedTraining:
    """What an accountant reads: N records, batches, critic steps, how many of these there are to a
    step of the generators, the parties that hold a part of each record, whether a server critic
    joins them, and the noise multiplier of the statistics that columns are scaled with, if these
    are released.
    """

    records: int
    batch_size: int
    steps: int
    critic_steps: int
    parties: int
    joined: bool = True
    released: float | None = None

    @property
    def also(self) -> str:
        """What else is in an account of these rows."""
        return "" if self.released is None else "; Gaussian, statistics of columns"


@dataclass(kw_only=True)
class Privacy:
    """Nothing is noised. A mode overrides what it changes."""

    per_record: ClassVar[bool] = False  # whether gradients are clipped one by one
    guaranteed: ClassVar[bool] = False  # whether epsilon_record is a number
    noise_std: ClassVar[float] = 0.0  # of the sum of a step's clipped gradients
    critics: ClassVar[int] = 1  # of a replica
    least_noise: ClassVar[float] = 0.0  # multiplier that can be accounted for
    records: int = 0  # N, which the training tells

    def prepared(self, training: AccountedTraining) -> "Privacy":
        """The mode with its noise, for a training."""
        self.records = training.records
        return self

    def batch(self, draws: Draws, step: int, size: int) -> RowBatch:
        """Shuffled epochs."""
        return RowBatch(draws.batch(step, self.records, size), None, size)

    def first_layer(self, grad: Tensor, batch_size: int, noise: Noise) -> Tensor:
        """Of E_i's first weight (R, in, out), as the optimiser gets it."""
        return grad

    def drawn(self, draws: Draws, step: int) -> Tensor | None:
        """Which of all critics, (R * critics, ...), teach the generators in a step, (R,); None:
        there is one a replica.
        """
        return None

    def sanitised(self, grad: Tensor, noise: Noise) -> Tensor:
        """Of the gradient by each generated record's part of a party (R, B, d)."""
        return grad

    def factors(self, squares: Tensor) -> Tensor:
        """Of the squared norms of gradients a record (R, B)."""
        raise NotImplementedError

    def account(self, training: AccountedTraining) -> dict[str, Any]:
        """For the record: mechanism, sampling, adjacency, epsilons; why there is no guarantee."""
        return {
            "mechanism": "none",
            "sampling": "shuffled epochs",
            "adjacency": "add or remove one record",
            "epsilon_claimed": None,
            "epsilon_record": None,
            "delta": None,
            "no_guarantee": "nothing is noised",
        }
