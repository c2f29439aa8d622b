"""Weight noise: Gaussian noise is added to every weight, and the model is measured as it is then.

An unlearned model that sits in a narrow place loses there first what was done to it. Threat model:
the weights, no data. theta + level * std * n, with std that of the parameter's tensor and n
standard normal, the same direction at every level: a function of the seeds and the parameter's
name.
"""

import torch

from unrelearn.module import Edit, Task
from unrelearn.randomness import generator_for


class WeightNoise(Edit):
    unit = "standard deviations"
    allowed = (0.0, 10.0)

    def __init__(self, task: Task, *, levels: list[float], seed: int = 0):
        super().__init__(task, {"seed": seed}, levels=levels)

    def edit(self, level: float) -> dict[str, float]:
        for name, parameter in self.denoiser.named_parameters():
            noise = torch.randn(
                parameter.shape, generator=generator_for(self.task.seed, "weight noise", name)
            )
            # of all its values, not an estimate: a tensor of one value has none, and stays
            parameter.add_(
                noise.to(parameter.device), alpha=level * parameter.std(correction=0).item()
            )
        return {}
