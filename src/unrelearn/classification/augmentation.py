"""Augmentations of training images, each a function of (seed, step, image).

The same image at the same step is changed alike, whatever else is in its batch and whoever holds
it. Every policy comes after the shift and the mirroring of crop_flip, as in SalUn's classification
and in "Data Augmentation Improves Machine Unlearning" (2025, arXiv:2508.18502).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from unrelearn.errors import UsageError

# with torchvision's constants: those of 2508.18502 are not known
POLICIES: dict[str, Callable[[Tensor], Tensor] | None] = {
    "none": None,
    "crop_flip": None,
    "randaugment": v2.RandAugment(num_ops=2, magnitude=9),  # Cubuk et al. 2019, arXiv:1909.13719
    "autoaugment": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),  # 2018, arXiv:1805.09501
    "erasing": v2.RandomErasing(p=0.25),  # Zhong et al. 2017, arXiv:1708.04896
    "trivial": v2.TrivialAugmentWide(),  # Mueller and Hutter 2021, arXiv:2103.10158
    "augmix": v2.AugMix(severity=3, mixture_width=3),  # Hendrycks et al. 2019, arXiv:1912.02781
}


def augment(
    name: str, images: Tensor, index: Tensor, *, seed: int, step: int, flip: bool
) -> Tensor:
    """Images changed at random, uint8 (B, C, S, S) on their device.

    Args:
        name: one of POLICIES; "none" gives the images back.
        images: uint8 (B, C, S, S), C = 1 or 3.
        index: int64 (B,), which images of the data set these are.
        seed, step: with the index they decide all that is drawn.
        flip: whether a mirrored image is of the same class; a half of them is mirrored then.
    """
    if name not in POLICIES:
        raise UsageError(
            f"augment={name}: no such augmentation; allowed: {', '.join(POLICIES)}. Type"
            " augment.base=crop_flip"
        )
    if name == "none":
        return images
    states = _mixed(_mixed(_mixed(torch.tensor(seed)) + step) + index.cpu())
    images = crop_flip(images, states, flip)
    policy = POLICIES[name]
    if policy is None:
        return images
    changed = []
    with torch.random.fork_rng(devices=[]):  # the policies draw from the global generator
        for image, state in zip(images, states.tolist(), strict=True):
            torch.default_generator.manual_seed(state & 0x7FFFFFFFFFFFFFFF)
            changed.append(policy(image))
    return torch.stack(changed)


def padding(size: int) -> int:
    """Pixels by which an image of so many a side is shifted at most: 4 of 32 and of more, as in
    Unlearn-Saliency; an eighth of smaller ones.
    """
    return min(4, max(1, size // 8))


def crop_flip(images: Tensor, states: Tensor, flip: bool) -> Tensor:
    """Each image shifted by up to `padding` pixels, with zeros where it was not, mirrored or not.

    Args:
        images: (B, C, S, S). states: int64 (B,), a random number for each of them.
    """
    draws, most = [_mixed(states + number) for number in (1, 2, 3)], padding(images.shape[-1])
    dy, dx = (draw.remainder(2 * most + 1).to(images.device) for draw in draws[:2])
    mirrored = (draws[2].remainder(2) == 1).to(images.device) & flip
    place = torch.arange(images.shape[-1], device=images.device)
    columns = torch.where(mirrored[:, None], place.flip(0), place) + dx[:, None]
    rows = place + dy[:, None]
    padded = F.pad(images, (most,) * 4)
    picked = padded.gather(2, rows[:, None, :, None].expand(*images.shape[:3], padded.shape[3]))
    return picked.gather(3, columns[:, None, None, :].expand(images.shape))


def _mixed(state: Tensor) -> Tensor:
    """int64 numbers that look independent, for numbers that differ: one step of splitmix64
    (Steele, Lea and Flood 2014); products wrap around.
    """
    z = state + -0x61C8864680B583EB
    z = (z ^ _shifted(z, 30)) * -0x40A7B892E31B1A47
    z = (z ^ _shifted(z, 27)) * -0x6B2FB644ECCEEE15
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
