"""No attack: the unlearned model is measured and that is all."""

from unrelearn.module import Relearning


class NoAttack(Relearning):
    identity = True
