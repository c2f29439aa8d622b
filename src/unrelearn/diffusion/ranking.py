"""What weights are ranked by, for a denoiser: the losses of guided predictions, and the Fisher
information of the denoising loss.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from unrelearn import fisher
from unrelearn.data import ImageSet, to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.randomness import generator_for


def guided_losses(
    network: denoisers.Denoiser,
    data: ImageSet,
    schedule: dict,
    guidance_scale: float,
    *,
    seed: int | str,
    batch_size: int,
) -> Iterator[Tensor]:
    """The mean squared error of the guided prediction, of one batch after the other in the order of
    the set: SalUn's saliency as released (w = 2 there, which is guidance_scale = 3).
    """
    device, null = next(network.parameters()).device, denoisers.null_label(network)
    predict = partial(denoisers.predict, network)
    alphas = maths.alphas_of(schedule).to(device)
    for number, start in enumerate(range(0, len(data), batch_size)):
        part = slice(start, start + batch_size)
        x_0 = to_model_range(data.images[part].to(device))
        labels = data.labels[part].to(device)
        g = generator_for(seed, "saliency", number, device=device)
        t = torch.randint(schedule["num_train_timesteps"], labels.shape, generator=g, device=device)
        noise = torch.randn(x_0.shape, generator=g, device=device)
        x_t = maths.add_noise(x_0, noise, t, alphas)
        guided = denoisers.guided(predict, x_t, t, labels, null, guidance_scale)
        wanted = maths.target(x_0, noise, t, alphas, schedule["prediction_type"])
        yield (guided - wanted).square().mean()


def fisher_information(
    network: denoisers.Denoiser, data: ImageSet, num_samples: int, schedule: dict, seed: int | str
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of every weight for the denoising loss of some images.

    Sample k, its image, time and noise, is a function of (seed, k) alone. See `fisher.diagonal`.
    """
    device, times = next(network.parameters()).device, schedule["num_train_timesteps"]
    alphas = maths.alphas_of(schedule).to(device)

    def loss(network: Callable, x_t: Tensor, t: Tensor, label: Tensor, wanted: Tensor) -> Tensor:
        return (denoisers.predict(network, x_t, t, label) - wanted).square().mean()

    def draw(k: int) -> tuple[Tensor, Tensor, Tensor]:
        g = generator_for(seed, "fisher", k)
        index, t = torch.randint(len(data), (), generator=g), torch.randint(times, (), generator=g)
        return index, t, torch.randn(data.images.shape[1:], generator=g)

    def samples(numbers: range) -> tuple[Tensor, ...]:
        index, t, noise = map(torch.stack, zip(*map(draw, numbers), strict=True))
        images = data.images[index.to(data.images.device)]
        labels = data.labels[index.to(data.labels.device)].to(device)
        x_0, t, noise = to_model_range(images).to(device), t.to(device), noise.to(device)
        x_t = maths.add_noise(x_0, noise, t, alphas)
        return x_t, t, labels, maths.target(x_0, noise, t, alphas, schedule["prediction_type"])

    return fisher.diagonal(network, samples, loss, num_samples)
