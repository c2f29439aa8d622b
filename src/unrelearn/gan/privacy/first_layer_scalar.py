"""DP-VFLGAN as released for red wine: one random number is added to a whole weight."""

from dataclasses import dataclass
from typing import Any, ClassVar

from unrelearn.gan.privacy.first_layer import FirstLayer
from unrelearn.gan.privacy.none import AccountedTraining


@dataclass(kw_only=True)
class FirstLayerScalar(FirstLayer):
    """The arguments are FirstLayer's."""

    noised_once: ClassVar[bool] = True
    mechanism: ClassVar[str] = "one number for the first layer of each extractor"

    def account(self, training: AccountedTraining) -> dict[str, Any]:
        account = super().account(training)
        reason = f"one number is no Gaussian mechanism; {account['no_guarantee']}"
        return account | {"no_guarantee": reason}
