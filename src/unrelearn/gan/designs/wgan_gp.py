"""The ceiling without federation: one generator and one critic of whole records (WGAN-GP, Gulrajani
et al. 2017, 1704.00028), of the same networks: S over E, and P, of all columns.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unrelearn.gan.designs.vflgan import Design


@dataclass(kw_only=True)
class WGANGP(Design):
    """widths: of the hidden layers of G and E: the sum of all parties', so that VFLGAN's networks
    side by side are a special case of these; or those of one party.
    """

    joined: ClassVar[bool] = True
    widths: Literal["sum", "one"] = "sum"

    def networks(self, parties: int) -> int:
        return parties if self.widths == "sum" else 1
