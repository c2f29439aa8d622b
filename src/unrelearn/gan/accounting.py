"""Epsilons, all by dp-accounting (pip install 'unrelearn[gan]'): nothing here is by hand.

Every number is one of a mechanism, of how batches are drawn and of what neighbours are, and means
nothing without them.
"""

import contextlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from unrelearn.errors import UsageError

POISSON = "Poisson sampling"
WITHOUT_REPLACEMENT = "batches without replacement"
ADD_REMOVE = "add or remove one record"
REPLACE = "replace one record"
LEAST = 0.3  # noise multiplier: below it the exact accountant of Poisson sampling takes any memory


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian mechanism, repeated on drawn batches; and before it, if any, one of all rows.

    Args:
        sampling: POISSON, whose neighbours are ADD_REMOVE and which privacy loss distributions
            account for; or WITHOUT_REPLACEMENT, whose neighbours are REPLACE, by RDP.
        records, batch_size: N and B; of Poisson sampling q = B / N.
        released: noise multiplier of statistics of all rows that were released before.
    """

    sampling: str
    records: int
    batch_size: int
    steps: int
    released: float | None = None

    @property
    def adjacency(self) -> str:
        return ADD_REMOVE if self.sampling == POISSON else REPLACE

    def accountant(self, kind: str = "pld") -> Any:
        """kind: pld or rdp, of Poisson sampling."""
        import dp_accounting as dp

        if self.sampling == WITHOUT_REPLACEMENT:
            return dp.rdp.RdpAccountant(None, dp.NeighboringRelation.REPLACE_ONE)
        return dp.rdp.RdpAccountant() if kind == "rdp" else dp.pld.PLDAccountant()

    def event(self, noise_multiplier: float) -> Any:
        import dp_accounting as dp

        once = dp.GaussianDpEvent(noise_multiplier)
        if self.sampling == POISSON:
            drawn = dp.PoissonSampledDpEvent(self.batch_size / self.records, once)
        else:
            drawn = dp.SampledWithoutReplacementDpEvent(self.records, self.batch_size, once)
        repeated = dp.SelfComposedDpEvent(drawn, self.steps)
        if self.released is None:
            return repeated
        return dp.ComposedDpEvent([dp.GaussianDpEvent(self.released), repeated])

    def epsilon(self, noise_multiplier: float, delta: float, kind: str = "pld") -> float:
        """noise_multiplier: deviation of the noise over the sensitivity."""
        accountant = self.accountant(kind).compose(self.event(noise_multiplier))
        return float(accountant.get_epsilon(delta))


@cache
def noise_multiplier(mechanism: Gaussian, epsilon: float, delta: float) -> float:
    """The least noise that gives an epsilon, to a thousandth.

    Raises:
        UsageError: no noise does, or less than is accounted for.
    """
    import dp_accounting as dp
    from dp_accounting.mechanism_calibration import NoBracketIntervalFoundError

    def least(kind: str, interval: Any, tolerance: float) -> float:
        def accountant() -> Any:
            return mechanism.accountant(kind)

        multiplier = dp.calibrate_dp_mechanism(
            accountant, mechanism.event, epsilon, delta, interval, tol=tolerance
        )
        return float(multiplier)

    try:
        # RDP is quick, and never below: the exact accountant is asked near the answer alone
        bound = least("rdp", dp.LowerEndpointAndGuess(LEAST, 1.0), 1e-3)
    except NoBracketIntervalFoundError as error:
        also = "" if mechanism.released is None else ", or gan.statistics_noise_multiplier"
        why, advice = "no noise gives it", f"a larger epsilon{also}"
        most = mechanism.epsilon(LEAST, delta, "rdp")
        if most < epsilon:
            why = f"the least noise multiplier that is accounted for, {LEAST}, gives {most:.0f}"
            advice = "a smaller epsilon"
        where = f"at delta={delta:g} over {mechanism.steps} steps"
        raise UsageError(f"epsilon={epsilon:g}: {why} {where}. Type {advice}") from error
    if mechanism.sampling == WITHOUT_REPLACEMENT:
        return bound
    for high in (bound, 1.5 * bound):  # of a tiny epsilon the quick one may be the nearer
        interval = dp.ExplicitBracketInterval(max(LEAST, 0.7 * bound), high)
        with contextlib.suppress(ValueError):  # the answer lies outside
            return least("pld", interval, 1e-3)
    return bound
