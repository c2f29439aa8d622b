"""Scores of real images by a denoiser, for audits of membership: each under its own label."""

from collections.abc import Iterator, Sequence
from importlib import import_module

import torch
from torch import Tensor

from unrelearn.data import ImageSet, to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths

BATCH = 250


@torch.no_grad()
def record_scores(
    denoiser: denoisers.Denoiser, data: ImageSet, names: Sequence[str], schedule: dict
) -> dict[str, Tensor]:
    """Of each score of audits/ (N,) float32 on the CPU, higher: rather a member.

    Args:
        denoiser: in evaluation mode, on its device.
        schedule: of the noise, as the configuration has it.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    device = next(denoiser.parameters()).device
    abar = maths.alphas_of(schedule).to(device)
    for images, labels in _batches(data):
        x_0, labels = to_model_range(images.to(device)), labels.to(device)

        def predict(x_t: Tensor, t: int, labels: Tensor = labels) -> Tensor:
            times = torch.full((len(x_t),), t, device=device)
            answer = denoisers.predict(denoiser, x_t, times, labels).float()
            return maths.x_0_and_noise(answer, x_t, times, abar, schedule["prediction_type"])[1]

        for name in names:
            score = import_module(f"unrelearn.audits.{name}").score
            parts[name].append(score(predict, x_0, abar).float().cpu())
    return {name: torch.cat(of) for name, of in parts.items()}


def _batches(data: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True)
