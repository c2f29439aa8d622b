"""What the forgotten condition answers at each noise level, before and after DiMRA: why a method
holds, or does not.

    python benchmarks/noise_levels.py [--forget 5] [--seeds 0 1 2]

Reads the models of `experiment=digits` (outputs/digits), which must be there: python run.py
experiment=digits seed=0,1,2 forget=5 method=retrain,dimum,random_label,dimum_cover
attack=none,dimra. It takes training images of the forgotten class and of the replacement (the class
that DiMUM memorises), noised to the same times by the same noise, and gives the mean squared error
of the predicted noise under c_f divided by the original model's under the images' own class: 1
means that c_f denoises them as well as it ever did. Results: benchmarks/results/noise_levels.json.
"""

import json
import statistics
import sys

import torch
from common import RESULTS, configuration
from runs import Cell

from unrelearn import launch
from unrelearn.data import to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.maths import add_noise, alphas_cumprod
from unrelearn.randomness import generator_for
from unrelearn.stages.images import images

METHODS = ("retrain", "dimum", "random_label", "dimum_cover")
TIMES = (50, 200, 400, 600, 800, 950)
IMAGES = 128


@torch.no_grad()
def errors(network, images: torch.Tensor, label: int) -> list[float]:
    """Mean squared error of the predicted noise under the label at each of TIMES."""
    g = generator_for("noise levels")
    noise, losses = torch.randn(images.shape, generator=g), []
    for time in TIMES:
        t = torch.full((len(images),), time)
        x_t = add_noise(images, noise, t, alphas_cumprod())
        predicted = denoisers.predict(network.eval(), x_t, t, torch.full((len(images),), label))
        losses.append((predicted - noise).square().mean().item())
    return losses


def of_seed(forget: int, seed: int) -> dict[str, dict[str, list[float]]]:
    """(method, unlearned or attacked) -> {"forgotten", "replacement"}: the ratio at each time."""
    ratios = {}
    for method in METHODS:
        cell = Cell(
            configuration(
                "experiment=digits",
                f"method={method}",
                "attack=dimra",
                f"forget={forget}",
                f"seed={seed}",
                "trainer.accelerator=cpu",
            ),
            "",
        )
        task = cell.task(cell.original)
        other = task.other_class(forget)
        sets = {
            name: to_model_range(images(cell).train.of_classes([c]).images[:IMAGES])
            for name, c in (("forgotten", forget), ("replacement", other))
        }
        reference = {
            name: errors(task.network, images, forget if name == "forgotten" else other)
            for name, images in sets.items()
        }
        for stage, model in (
            ("unlearned", cell.unlearned),
            ("attacked", cell.attacked[-1]),
        ):
            weights = model.weights
            if weights is None:
                sys.exit(
                    f"{model.spec.stage}/{model.spec.key} of {method}, seed {seed}, is not in"
                    " outputs/digits: run the command that the beginning of this file names"
                )
            network = denoisers.load(weights)
            ratios[f"{method}, {stage}"] = {
                name: [
                    a / b
                    for a, b in zip(errors(network, images, forget), reference[name], strict=True)
                ]
                for name, images in sets.items()
            }
    return ratios


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("--forget", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    seeds = [of_seed(options.forget, seed) for seed in options.seeds]
    mean = {
        model: {
            name: [
                round(statistics.mean(values), 3)
                for values in zip(*(s[model][name] for s in seeds), strict=True)
            ]
            for name in ("forgotten", "replacement")
        }
        for model in seeds[0]
    }
    print(f"{'error under c_f / original model':<34}" + "".join(f"{f't={t}':>8}" for t in TIMES))
    for model, sets in mean.items():
        for name, values in sets.items():
            print(f"{model + ': ' + name:<34}" + "".join(f"{value:8.2f}" for value in values))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "noise_levels.json").write_text(
        json.dumps(
            {
                "times": TIMES,
                "mean": mean,
                "seeds": seeds,
                "command": " ".join(["python", *sys.argv]),
            },
            indent=1,
        )
        + "\n"
    )
