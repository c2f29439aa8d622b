"""DiMUM with times of the whole schedule in every batch: of T steps, one from each n-th part."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unrelearn.diffusion.denoising import Denoising
from unrelearn.diffusion.noisy import NoisyBatch
from unrelearn.methods.dimum import DiMUM


@dataclass(kw_only=True)
class DiMUMEveryTime(DiMUM):
    def losses(self, t: Denoising) -> dict[str, Tensor]:
        dropout = self.memory_label_dropout
        losses = t.losses(
            retain=spread(t, t.draw("retain", t.task.retain)),
            memory=spread(t, t.draw("memory", self.memory_data, label_dropout=dropout)),
        )
        return {"retain": losses["retain"], "memory": self.memory_weight * losses["memory"]}


def spread(t: Denoising, batch: NoisyBatch) -> NoisyBatch:
    """Time k of n, uniform in [0, T), moved to floor((k T + time) / n); each stays as likely."""
    n, steps = t.method.batch_size, t.task.schedule["num_train_timesteps"]
    place = t.part(torch.arange(n)).to(batch.t.device)  # in the whole batch
    return replace(batch, t=(place * steps + batch.t) // n)
