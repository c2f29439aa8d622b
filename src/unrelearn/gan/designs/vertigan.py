"""VertiGAN (Jiang et al., PETS 2023), as far as it can be reconstructed: parties share the hidden
layers of their generators by averaging them, and never compare halves of a record.

Ours: local critics P_i(E_i(x_i)), so that capacity is VFLGAN's; BatchNorm's scales and statistics
are averaged with the layers, Adam's moments are not.
"""

from dataclasses import dataclass
from typing import ClassVar

from unrelearn.gan.designs.vflgan import Design
from unrelearn.ranges import Count


@dataclass(kw_only=True)
class VertiGAN(Design):
    """averaging_interval: in generator steps; an unused argument of the released script says 10."""

    server: ClassVar[bool] = False
    averaging_interval: Count = 10  # type: ignore[misc]  # of the others it is 0
