"""VFLGAN without local critics: only the server tells real from generated records."""

from dataclasses import dataclass
from typing import ClassVar

from unrelearn.gan.designs.vflgan import Design


@dataclass(kw_only=True)
class VFLGANBase(Design):
    """The label of an ablation in the released plots; its content is our reading."""

    heads: ClassVar[bool] = False
