"""No unlearning: the pretrained model as it is, the upper bound of every forget accuracy."""

from unrelearn.module import DiffusionModule


class Original(DiffusionModule):
    identity = True
