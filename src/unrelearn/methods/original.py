"""No unlearning: the pretrained model as it is, the upper bound of every forget accuracy."""

from dataclasses import dataclass

from unrelearn.method import Still


@dataclass(kw_only=True)
class Original(Still):
    identity = True
