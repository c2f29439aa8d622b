"""The weights of the epoch that did best on validation images, as Unlearn-Saliency keeps them
(`model_SA_best`; arXiv 2310.12508).
"""

from typing import Any

import torch
from torch import Tensor, nn

from unrelearn.data import ImageSet

BATCH = 500


def ends_epoch(step: int, batch_size: int, count: int, last: int) -> bool:
    """Whether an epoch of `count` images ends with this step, the first being 1, or training."""
    return step == last or step * batch_size % count < batch_size


class Best:
    """Of one network in training.

    Args:
        held: images that it is not trained on.
    """

    def __init__(self, held: ImageSet):
        self.held = held
        self.accuracy, self.step = -1.0, 0
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def look(self, network: nn.Module, step: int) -> None:
        """Keep the weights if they are better than all before; of equal ones the first stay."""
        from unrelearn.classification.classifying import unit

        network.eval()
        device = next(network.parameters()).device
        parts = [network(unit(part.to(device))) for part in self.held.images.split(BATCH)]
        network.train()
        right = torch.cat(parts).argmax(1) == self.held.labels.to(device)
        if (accuracy := right.double().mean().item()) > self.accuracy:
            self.accuracy, self.step = accuracy, step
            self.weights = {name: w.detach().clone() for name, w in network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"accuracy": self.accuracy, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.accuracy, self.step = state["accuracy"], state["step"]
        self.weights = state["weights"]
