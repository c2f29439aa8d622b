"""The ceiling without federation: one generator and one critic of whole records (WGAN-GP, Gulrajani
et al. 2017, 1704.00028), of the same networks: S over E, and P, of all columns.
"""

from dataclasses import dataclass
from typing import ClassVar

from unrelearn.gan.designs.vflgan import Design


@dataclass(kw_only=True)
class WGANGP(Design):
    joined: ClassVar[bool] = True
