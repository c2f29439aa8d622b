"""The diagonal empirical Fisher information of the denoising loss: how much each weight matters for
a set of images.

    F_i = E_{x_0, c, t, eps} [ (d l / d theta_i)^2 ],   l = |eps(x_t, t; c) - eps|^2 of ONE image, a
                                                        mean over its elements

Kirkpatrick et al. 2017, elastic weight consolidation (arXiv 1612.00796), in the forms of Selective
Amnesia (Heung & Soh 2023, arXiv 2305.10120) and SFR-on (Huang et al. 2024, arXiv 2409.19732). Their
code differs from the formula, and from ours: Selective Amnesia squares the gradient of the sum over
all T times of an image, SFR-on that of a whole batch, clipped to norm 1, with guided predictions.
Here each sample is one image with one time and one noise, its gradient is squared by itself, and
the network is in evaluation mode, without guidance and without dropped labels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from unrelearn import distributed, randomness
from unrelearn.data import ImageSet, to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths

GRADIENT_VALUES = 2**27  # at once, over all samples of a chunk: 512 MiB


def squared_gradients(
    network: nn.Module, loss: Callable[..., Tensor], *samples: Tensor
) -> dict[str, Tensor]:
    """The squared gradient of each sample's own loss, summed over the samples.

    Args: loss: (network, *samples of one) -> scalar; it calls the network it is given, which is a
        function of the weights. samples: tensors (n, ...), row k of each being sample k.

    Returns:
        parameter name -> tensor of the parameter's shape, float64.
    """

    def of_one(weights: dict[str, Tensor], *sample: Tensor) -> Tensor:
        def answer(*arguments, **keywords):
            return functional_call(network, weights, arguments, keywords)

        return loss(answer, *(part[None] for part in sample))

    weights = {name: p.detach() for name, p in network.named_parameters()}
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels can not be mapped over
        each = vmap(grad(of_one), in_dims=(None, *[0] * len(samples)))(weights, *samples)
    return {name: gradient.double().square().sum(0) for name, gradient in each.items()}


def diagonal(
    network: denoisers.Denoiser, data: ImageSet, num_samples: int, schedule: dict, seed: int | str
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of every weight, frozen or not, in units of the
    squared mean-squared error.

    Sample k, its image, time and noise, is a function of (seed, k) alone. The processes share the
    samples.

    Args:
        data: what x_0 and c are drawn from, with replacement.

    Returns:
        parameter name -> tensor of the parameter's shape, float32, on the network's device.
    """
    training, device = network.training, next(network.parameters()).device
    times = schedule["num_train_timesteps"]
    alphas = maths.alphas_cumprod(times, schedule["beta_start"], schedule["beta_end"]).to(device)
    total = {
        name: torch.zeros_like(p, dtype=torch.float64, requires_grad=False)
        for name, p in network.named_parameters()
    }
    chunk = max(1, min(64, GRADIENT_VALUES // sum(p.numel() for p in network.parameters())))

    def loss(network: Callable, x_t: Tensor, t: Tensor, label: Tensor, wanted: Tensor) -> Tensor:
        return (denoisers.predict(network, x_t, t, label) - wanted).square().mean()

    def draw(k: int) -> tuple[Tensor, Tensor, Tensor]:
        g = randomness.generator_for(seed, "fisher", k)
        index, t = torch.randint(len(data), (), generator=g), torch.randint(times, (), generator=g)
        return index, t, torch.randn(data.images.shape[1:], generator=g)

    network.eval()
    mine = distributed.my_slice(num_samples)
    for start in range(mine.start, mine.stop, chunk):
        drawn = [draw(k) for k in range(start, min(start + chunk, mine.stop))]
        index, t, noise = map(torch.stack, zip(*drawn, strict=True))
        images, labels = (
            data.images[index.to(data.images.device)],
            data.labels[index.to(data.labels.device)],
        )
        x_0, labels, t, noise = (
            part.to(device) for part in (to_model_range(images), labels, t, noise)
        )
        x_t = maths.add_noise(x_0, noise, t, alphas)
        wanted = maths.target(x_0, noise, t, alphas, schedule["prediction_type"])
        for name, value in squared_gradients(network, loss, x_t, t, labels, wanted).items():
            total[name] += value
    network.train(training)
    share = (
        distributed.world_size() / num_samples
    )  # what comes back from the processes is their mean
    return {name: (distributed.mean(value) * share).float() for name, value in total.items()}
