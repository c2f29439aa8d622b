"""The diagonal empirical Fisher information of a loss: how much each weight matters for a set of
images.

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

from unrelearn import distributed

GRADIENT_VALUES = 2**27  # at once, over all samples of a chunk: 512 MiB


def squared_gradients(
    network: nn.Module, loss: Callable[..., Tensor], *samples: Tensor
) -> dict[str, Tensor]:
    """The squared gradient of each sample's own loss, summed over the samples.

    Args:
        loss: (network, *samples of one) -> scalar; it calls the network it is given, which is a
            function of the weights.
        samples: tensors (n, ...), row k of each being sample k.

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
    network: nn.Module,
    samples: Callable[[range], tuple[Tensor, ...]],
    loss: Callable[..., Tensor],
    num_samples: int,
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of every weight, frozen or not, in units of the
    squared loss. The processes share the samples.

    Args:
        samples: of a range of numbers (n) -> tensors (n, ...) on the network's device, row k of
            each a function of its number alone.
        loss: as in `squared_gradients`.

    Returns:
        parameter name -> tensor of the parameter's shape, float32, on the network's device.
    """
    training = network.training
    total = {
        name: torch.zeros_like(p, dtype=torch.float64, requires_grad=False)
        for name, p in network.named_parameters()
    }
    chunk = max(1, min(64, GRADIENT_VALUES // sum(p.numel() for p in network.parameters())))
    network.eval()
    mine = distributed.my_slice(num_samples)
    for start in range(mine.start, mine.stop, chunk):
        drawn = samples(range(start, min(start + chunk, mine.stop)))
        for name, value in squared_gradients(network, loss, *drawn).items():
            total[name] += value
    network.train(training)
    # what comes back from the processes is their mean
    share = distributed.world_size() / num_samples
    return {name: (distributed.mean(value) * share).float() for name, value in total.items()}
