"""No attack: the unlearned model is measured and that is all."""

from dataclasses import dataclass

from unrelearn.method import Still


@dataclass(kw_only=True)
class NoAttack(Still):
    identity = True
