"""A control: each party alone, with its own latents, so that no half of a record knows another."""

from dataclasses import dataclass
from typing import ClassVar

from unrelearn.gan.designs.vflgan import Design


@dataclass(kw_only=True)
class Local(Design):
    server: ClassVar[bool] = False
    shared_latent: ClassVar[bool] = False
