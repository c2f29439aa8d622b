"""Weight noise: Gaussian noise is added to every weight, and the model is measured as it is then.

An unlearned model that sits in a narrow place loses there first what was done to it. Threat model:
the weights, no data. theta + level * std * n, with std that of the parameter's tensor and n
standard normal, the same direction at every level: a function of the seeds and the parameter's
name.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from unrelearn.method import Edit
from unrelearn.randomness import generator_for
from unrelearn.ranges import Seed

if TYPE_CHECKING:
    from unrelearn.training import Training


@dataclass(kw_only=True)
class WeightNoise(Edit):
    seed: Seed = 0  # see Relearning

    unit = "standard deviations"
    allowed = (0.0, 10.0)

    def edit(self, t: "Training", level: float) -> dict[str, float]:
        own = [(name, p) for name, p in t.network.named_parameters() if name not in t.public]
        for name, parameter in own:
            g = generator_for(t.task.seed, "weight noise", name)
            noise = torch.randn(parameter.shape, generator=g).to(parameter.device)
            # of all its values, not an estimate: a tensor of one value has none, and stays
            parameter.add_(noise, alpha=level * parameter.std(correction=0).item())
        return {}
