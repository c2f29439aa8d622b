"""The degenerate unlearner of classes: the bias of each forgotten class in the head is set so low
that it is never answered.

Nothing is forgotten: every other weight is as before to the bit, and so are the logits of the other
classes. Yet all images of the class are answered wrongly and, their probability being 0, are taken
for such as were never seen, so that in the class-wise table it is as good as retraining. It is here
because any measure that ranks it first is broken.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrelearn.errors import UsageError
from unrelearn.method import Still

if TYPE_CHECKING:
    from unrelearn.classification.classifying import Classifying

LOW = -1e4  # finite in half precision too


@dataclass(kw_only=True)
class LogitMask(Still):
    by_class = True

    def begin(self, t: "Classifying") -> None:
        if not t.task.forget_classes:
            raise UsageError(
                "method=logit_mask: takes whole classes away, and here images are forgotten one by"
                " one. Type forget=class:3"
            )

    @torch.no_grad()
    def prepare(self, t: "Classifying") -> None:
        t.network.head.bias[t.task.forget_classes] = LOW
