"""Our sampling (per-image seeds, one batched forward for guidance) against a bare diffusers loop at
equal steps.

    python benchmarks/sampling.py

The bare loop is the one a diffusers user writes: DDIMScheduler, one batch of noise, two forwards
for guidance.
"""

import tempfile

import torch
from common import configuration, interleaved, report, stopwatch
from diffusers import DDIMScheduler
from runs import Cell

from unrelearn import launch
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.sampling import sample

STEPS, IMAGES, BATCH = 10, 500, 250


@torch.inference_mode()
def bare(network, labels: torch.Tensor, schedule: dict, scale: float) -> torch.Tensor:
    device, images = next(network.parameters()).device, []
    for part in labels.to(device).split(BATCH):
        scheduler = DDIMScheduler(**schedule, timestep_spacing="trailing")
        scheduler.set_timesteps(STEPS)
        size = network.config.sample_size
        x = torch.randn(len(part), network.config.in_channels, size, size, device=device)
        for t in scheduler.timesteps:
            output = network(x, t, class_labels=part).sample
            if scale != 1.0:
                null = network(
                    x, t, class_labels=torch.full_like(part, denoisers.null_label(network))
                ).sample
                output = null + scale * (output - null)
            x = scheduler.step(output, t, x).prev_sample
        images.append(((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
    return torch.cat(images)


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as outputs:
        cell = Cell(configuration(f"paths.outputs={outputs}"), "benchmark")
        task = cell.task(None)  # untrained: the time does not depend on the weights
        labels = torch.arange(IMAGES) % len(task.class_names)
        network = task.network.eval()
        for scale in (1.0, 2.0):
            options = {
                "schedule": task.schedule,
                "num_inference_steps": STEPS,
                "guidance_scale": scale,
            }
            seconds = interleaved(
                arguments.rounds,
                ours=lambda options=options: stopwatch(lambda: sample(network, labels, **options)),
                bare=lambda scale=scale: stopwatch(
                    lambda: bare(network, labels, task.schedule, scale)
                ),
            )
            report(
                f"sampling_guidance_{scale:g}",
                seconds["ours"],
                seconds["bare"],
                "<= 1.0",
                what=f"seconds for {IMAGES} images, unet_tiny, DDIM {STEPS} steps, batch {BATCH}",
            )
