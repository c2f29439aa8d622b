"""Few-shot relearning: the positive control. An attacker who holds a few real images of the class
must succeed.

Threat model: the weights, the label format, the retain set, and `num_images` real images of each
forgotten class. With the class row trainable it brings the class back from every method; if it does
not, the attack code is wrong.
"""

from torch import Tensor

from unrelearn.module import Relearning, Task


class FewShot(Relearning):
    """Args: num_images: real images of each forgotten class that the attacker holds."""

    passes = (2, 0)

    def __init__(self, task: Task, *, num_images: int, **arguments):
        super().__init__(task, **arguments)
        self.shots = self.task.shots(num_images)

    @staticmethod
    def sees_forgotten(**arguments) -> bool:
        return True

    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(
            shots=self.draw("shots", self.shots), retain=self.draw("retain", self.task.retain)
        )
