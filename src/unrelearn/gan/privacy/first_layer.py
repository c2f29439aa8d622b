"""DP-VFLGAN as published: noise in the first weight of each extractor, and nowhere else.

The weights above are trained on raw activations of real records, so what is accounted for is not
what is published: d L / d W_2 = delta_2 (act(W_1 x))^T contains x itself.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from unrelearn.gan.accounting import WITHOUT_REPLACEMENT, Gaussian, noise_multiplier
from unrelearn.gan.privacy.none import AccountedTraining, Noise, Privacy
from unrelearn.ranges import Delta, Positive

NO_GUARANTEE = (
    "all layers above the first are trained on raw records, and one clip is of a whole batch"
)


@dataclass(kw_only=True)
class FirstLayer(Privacy):
    """g <- g min(1, C / ||g||) + 2 C sigma n, C = clip / B, of a batch's gradient.

    Args:
        epsilon, delta: what the published accounting is to say of one party; or
        noise_multiplier: sigma itself.
        clip: of the released code 1.5.
    """

    noised_once: ClassVar[bool] = False  # one number for a whole weight
    mechanism: ClassVar[str] = "Gaussian, first layer of each extractor"
    epsilon: Positive | None
    delta: Delta | None
    noise_multiplier: Positive | None
    clip: Positive = 1.5

    def prepared(self, training: AccountedTraining) -> Privacy:
        super().prepared(training)
        if self.noise_multiplier is None:
            assert self.epsilon is not None and self.delta is not None
            self.noise_multiplier = noise_multiplier(claimed(training), self.epsilon, self.delta)
        return self

    def first_layer(self, grad: Tensor, batch_size: int, noise: Noise) -> Tensor:
        bound = self.clip / batch_size
        norms = grad.flatten(1).norm(dim=1).view(-1, 1, 1)
        drawn = noise("first layer", (1, 1) if self.noised_once else tuple(grad.shape[1:]))
        assert self.noise_multiplier is not None
        clipped = grad * (bound / norms.clamp(min=1e-12)).clamp(max=1)
        return clipped + 2 * bound * self.noise_multiplier * drawn

    def account(self, training: AccountedTraining) -> dict[str, Any]:
        mechanism, sigma = claimed(training), self.noise_multiplier
        assert sigma is not None
        reasons = [NO_GUARANTEE]
        epsilon = None
        if self.delta is not None:
            epsilon = mechanism.epsilon(sigma, self.delta)
            # sensitivities of parties that hold parts of one record add in squares
            whole = mechanism.epsilon(sigma / training.parties**0.5, self.delta)
            reasons.append(f"claimed a party, and the same accounting gives {whole:.1f} a record")
        return {
            "mechanism": self.mechanism,
            "sampling": mechanism.sampling,
            "adjacency": mechanism.adjacency,
            "noise_multiplier": sigma,
            "epsilon_claimed": epsilon,
            "epsilon_record": None,
            "delta": self.delta,
            "no_guarantee": "; ".join(reasons),
        }


def claimed(training: AccountedTraining) -> Gaussian:
    """What the published accounting takes a party's training for."""
    return Gaussian(WITHOUT_REPLACEMENT, training.records, training.batch_size, training.steps)
