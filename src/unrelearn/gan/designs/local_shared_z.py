"""A control: each party alone, but all generators get the same z."""

from dataclasses import dataclass
from typing import ClassVar

from unrelearn.gan.designs.vflgan import Design


@dataclass(kw_only=True)
class LocalSharedZ(Design):
    server: ClassVar[bool] = False
