"""What precision=bf16-mixed, trainer.channels_last and trainer.compile bring to a training step.

    python benchmarks/options.py [--compile]

For unet_tiny on 8x8 and unet_small on 32x32 random images (time does not depend on what they show).
Compilation itself is not timed, but takes minutes on a CPU: it is measured only when asked for.
"""

import tempfile
import time
from pathlib import Path

import torch
from common import configuration, interleaved, report

from unrelearn import launch, progress
from unrelearn.data import ImageSet
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.denoising import DenoiserPretraining, Denoising, DenoisingTask
from unrelearn.diffusion.kind import recipe
from unrelearn.fit import FitOptions, fit

CASES = {
    "unet_tiny": (8, 1, 64, 60),
    "unet_small": (32, 3, 16, 8),
}  # image size, channels, batch size, steps timed
WARM_UP = 4


def step_seconds(model: str, options: dict) -> float:
    size, channels, batch_size, steps = CASES[model]
    with tempfile.TemporaryDirectory() as outputs:
        cfg = configuration(f"model={model}", f"paths.outputs={outputs}")["model"]
    g = torch.Generator().manual_seed(0)
    data = ImageSet(
        torch.randint(256, (256, channels, size, size), generator=g, dtype=torch.uint8),
        torch.arange(256) % 10,
    )
    network = denoisers.build(image_size=size, channels=channels, num_classes=10, **cfg["unet"])
    if torch.cuda.is_available():
        data = data.to("cuda")
    task = DenoisingTask(
        network=network,
        schedule=cfg["schedule"],
        forget=data.of_classes([]),
        retain=data,
        forget_classes=[],
        class_names=tuple(map(str, range(10))),
        seed=0,
    )
    stamps = {}
    arguments = {**recipe(cfg["pretrain"]), "max_steps": WARM_UP + steps, "batch_size": batch_size}
    with tempfile.TemporaryDirectory() as folder:
        fit(
            Denoising(DenoiserPretraining(**arguments), task),
            Path(folder),
            model,
            FitOptions(
                log_every_n_steps=1,
                log_row=lambda step, row: stamps.update({step: time.perf_counter()}),
                **options,
            ),
        )
    return (stamps[WARM_UP + steps] - stamps[WARM_UP]) / steps


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    arguments = parser.parse_args()
    progress.console.quiet = True
    variants = {
        "default": {},
        "bf16": {"precision": "bf16-mixed"},
        "channels_last": {"channels_last": True},
        "bf16_channels_last": {"precision": "bf16-mixed", "channels_last": True},
    }
    if arguments.compile:
        variants["compile"] = {"compile": True}
    for model, case in CASES.items():
        seconds = interleaved(
            arguments.rounds,
            **{
                name: lambda model=model, options=options: step_seconds(model, options)
                for name, options in variants.items()
            },
        )
        for name in variants:
            if name != "default":
                report(
                    f"{model}_{name}",
                    seconds[name],
                    seconds["default"],
                    "none: measured",
                    what=f"seconds per step, batch {case[2]}, {case[0]}x{case[0]}x{case[1]}",
                )
