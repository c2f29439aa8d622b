"""Encoder transplant: put the public text encoder back, and touch nothing else.

Its states become (1 - a) current + a public. Threat model: the weights, and the encoder, which
anybody can download. No step, no image: it undoes at once what only edits the encoder
(`token_swap`), and does nothing to a method that leaves it. An audit rather than an attack.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unrelearn.method import Edit

if TYPE_CHECKING:
    from unrelearn.diffusion.prompting import Prompting


@dataclass(kw_only=True)
class EncoderTransplant(Edit):
    unit = "share of the public encoder's states"
    allowed = (0.0, 1.0)

    def edit(self, t: "Prompting", level: float) -> dict[str, float]:
        public, table = t.task.original().class_embedding, t.network.class_embedding
        table.ids.copy_(public.ids)
        table.encoder.load_state_dict(public.encoder.state_dict())
        table.weight.lerp_(public.weight, level)
        return {}
