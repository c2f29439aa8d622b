"""GS-WGAN's gradient sanitisation (Chen, Orekondy and Fritz 2020, 2006.08265): critics learn from
raw records, and only what the generators learn from a critic is clipped and noised.

What differs from the released code: every critic is trained in every step, not only the one that
was drawn, as else what the others answer later would tell which one it was, and the amplification
by drawing would not hold; and a step counts as one draw, not as one for each generated record,
which all share the critic that was drawn.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from unrelearn.gan.accounting import WITHOUT_REPLACEMENT, Gaussian, noise_multiplier
from unrelearn.gan.draws import Draws
from unrelearn.gan.privacy.none import AccountedTraining, Noise, Privacy, RowBatch
from unrelearn.ranges import Delta, Positive


@dataclass(kw_only=True)
class GS(Privacy):
    """g_j <- g_j min(1, C / ||g_j||) + sigma Delta n, C = clip / B, of each generated record's
    gradient g_j by a party's columns; Delta = 2 C sqrt(B parties) is of the whole step.

    Rows k, k + K, k + 2K, ... are critic k's, the last N mod K rows nobody's. One critic a step
    teaches, drawn by chance. Another record in one critic's rows changes what that critic says,
    and nothing else, by 2 C at most in each of B records and each party.

    Args:
        epsilon, delta: of a record, in all parties; or
        noise_multiplier: sigma, deviation of the noise over the sensitivity of a step.
        clip: over the batch size; the penalty draws the norm of a whole record's gradient to 1.
        critics: K.
    """

    guaranteed: ClassVar[bool] = True
    epsilon: Positive | None
    delta: Delta | None
    noise_multiplier: Positive | None
    clip: Positive
    critics: Annotated[int, Field(ge=2)]  # type: ignore[misc]  # of the others it is 1
    parties: int = 1  # that hold a part of a record, which the training tells

    def prepared(self, training: AccountedTraining) -> Privacy:
        super().prepared(training)
        self.parties = training.parties
        if self.noise_multiplier is None:
            assert self.epsilon is not None and self.delta is not None
            self.noise_multiplier = noise_multiplier(
                self.mechanism(training), self.epsilon, self.delta
            )
        return self

    def batch(self, draws: Draws, step: int, size: int) -> RowBatch:
        """Shuffled epochs of each critic's rows, (R * K, B)."""
        places = draws.batch(step, self.records // self.critics, size)
        critic = torch.arange(self.critics, device=places.device)[:, None]
        return RowBatch((places[:, None] * self.critics + critic).flatten(0, 1), None, size)

    def drawn(self, draws: Draws, step: int) -> Tensor:
        drawn = (draws.uniform("critic", step) * self.critics).long().clamp(max=self.critics - 1)
        return torch.arange(len(drawn), device=drawn.device) * self.critics + drawn

    def sanitised(self, grad: Tensor, noise: Noise) -> Tensor:
        size, sigma = grad.shape[1], self.noise_multiplier
        assert sigma is not None
        bound = self.clip / size
        sensitivity = 2 * bound * (size * self.parties) ** 0.5
        factors = (bound / grad.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        return grad * factors + sigma * sensitivity * noise("records", tuple(grad.shape[1:]))

    def mechanism(self, training: AccountedTraining) -> Gaussian:
        """One critic of K a step of the generators."""
        steps = training.steps // training.critic_steps
        return Gaussian(WITHOUT_REPLACEMENT, self.critics, 1, steps, training.released)

    def account(self, training: AccountedTraining) -> dict[str, Any]:
        """epsilon_claimed: the published accounting, in which each generated record of a batch
        draws a critic of its own, of one party.
        """
        repeated, sigma, size = self.mechanism(training), self.noise_multiplier, training.batch_size
        assert sigma is not None
        epsilon, claimed = None, None
        if self.delta is not None:
            epsilon = repeated.epsilon(sigma, self.delta)
            each = Gaussian(WITHOUT_REPLACEMENT, self.critics, 1, repeated.steps * size)
            claimed = each.epsilon(sigma * (size * training.parties) ** 0.5, self.delta)
        return {
            "mechanism": f"Gaussian, generators' gradient by each generated record{training.also}",
            "sampling": f"one of {self.critics} critics a step, each of its own rows",
            "adjacency": repeated.adjacency,
            "noise_multiplier": sigma,
            "epsilon_claimed": claimed,
            "epsilon_record": epsilon,
            "delta": self.delta,
            "no_guarantee": "" if epsilon is not None else "no delta was named",
        }
